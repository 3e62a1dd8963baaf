"""Learns scikit-learn's digits with Ray Train: a worker on each machine of the cluster, on processors or GPUs.

Every worker takes its share of all images in each step, so that the mean of their gradients is the gradient of all.
What the first worker has learned goes to the script's own machine, which saves it: there the next attempt finds it.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
from pathlib import Path

import ray
import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model
from sklearn.datasets import load_digits

IMAGES = 1788  # of 1,797: it can be shared out among 1, 2, 3, 4, 6 and 12 workers
TERMINATED = 128 + signal.SIGTERM


@ray.remote(num_cpus=0)
class Keeper:
    """Lives on the script's machine, where checkpoints are looked for, and passes on that the run is to end."""

    def __init__(self) -> None:
        self.ends = False

    def end(self) -> None:
        """Workers save after this step, and end."""
        self.ends = True

    def step(self, step: int, weights: bytes | None) -> bool:
        """A step is done, with weights where it is to be saved; whether the run is to end."""
        if weights is not None:
            folder = Path(os.environ.get("RUNCTL_CHECKPOINT_DIR", "checkpoints"))
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f"step-{step}.partial"
            partial.write_bytes(weights)
            partial.rename(folder / f"step-{step}.pt")
        return self.ends


def train(config: dict[str, object]) -> None:
    """What each worker does."""
    keeper, steps, every = config["keeper"], int(str(config["steps"])), int(str(config["every"]))
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    torch.manual_seed(0)
    device = get_device()
    digits = load_digits()
    images = torch.tensor(digits.data[:IMAGES] / 16, dtype=torch.float64, device=device)[rank::size]
    labels = torch.tensor(digits.target[:IMAGES], device=device)[rank::size]
    network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    begin = 0
    saved = config["saved"]
    if isinstance(saved, bytes):
        found = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
        network.double().load_state_dict(found["model"])
        begin = found["step"]
    model = prepare_model(network.double())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(begin + 1, steps + 1):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        weights = None
        if size > 1:
            torch.distributed.all_reduce(mean)
        if rank == 0:
            print(f"step {step} loss {mean.item() / size:.9f}", flush=True)
        if rank == 0 and step % every == 0:
            buffer = io.BytesIO()
            torch.save({"model": network.state_dict(), "step": step}, buffer)
            weights = buffer.getvalue()
        if ray.get(keeper.step.remote(step if rank == 0 else 0, weights)) and step % every == 0:
            return


def main() -> None:
    """Start the workers, and end when they have."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    options = parser.parse_args()
    ray.init()
    here = ray.get_runtime_context().get_node_id()
    near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    keeper = Keeper.options(scheduling_strategy=near).remote()
    asked: list[int] = []

    def end(number: int, _: object) -> None:
        asked.append(number)
        keeper.end.remote()

    signal.signal(signal.SIGTERM, end)
    resumed = os.environ.get("RUNCTL_RESUME_FROM")
    print("goes on from", resumed or "the beginning", flush=True)
    config = {
        "keeper": keeper,
        "steps": options.steps,
        "every": options.every,
        "saved": Path(resumed).read_bytes() if resumed else None,
    }
    scaling = ScalingConfig(
        num_workers=options.workers,
        use_gpu=torch.cuda.is_available(),
        placement_strategy="SPREAD",
    )
    TorchTrainer(train, train_loop_config=config, scaling_config=scaling).fit()
    if asked:
        raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
