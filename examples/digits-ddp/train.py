"""Learns scikit-learn's digits with DistributedDataParallel: on one process, or on all that torchrun starts.

Every process takes its share of all images in each step, so that the mean of their gradients is the gradient of all:
however many machines there are, the loss is the same.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel

IMAGES = 1788  # of 1,797: it can be shared out among 1, 2, 3, 4, 6 and 12 processes


def main() -> None:
    """Train, save now and then, and go on from what was saved."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    steps = parser.parse_args()
    torch.manual_seed(0)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else "cpu"

    digits = load_digits()
    images = torch.tensor(digits.data[:IMAGES] / 16, dtype=torch.float64, device=device)[rank::size]
    labels = torch.tensor(digits.target[:IMAGES], device=device)[rank::size]
    network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    model = DistributedDataParallel(network.double().to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    begin, found = 0, os.environ.get("RUNCTL_RESUME_FROM")
    if found:
        saved = torch.load(found, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        begin = saved["step"]
    print(f"process {rank} of {size} begins at step {begin}", flush=True)

    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    for step in range(begin + 1, steps.steps + 1):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # The signal reaches each process in another step. All end in the same one: else those left wait in vain.
        shared = torch.stack([loss.detach(), torch.full_like(loss, len(asked))])
        dist.all_reduce(shared)
        total, told = shared.tolist()
        if rank == 0:
            print(f"step {step} loss {total / size:.9f}", flush=True)
        if rank == 0 and (told or step % steps.every == 0):
            save(model, optimizer, step)
        if told:
            raise SystemExit(143)
    dist.destroy_process_group()


def save(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Complete, or not there."""
    path = Path(os.environ.get("RUNCTL_CHECKPOINT_DIR", "checkpoints"), f"step-{step}.pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, partial)
    partial.replace(path)


if __name__ == "__main__":
    main()
