"""Learn to read handwritten digits: a small neural network in numpy that can be interrupted at any moment.

It reads ``digits.npz`` (see prepare.py), prints loss and accuracy after every epoch, saves a checkpoint every
epoch, and goes on from the newest one. On SIGTERM it saves where it is and ends with 143. An interrupted
training and an uninterrupted one end with the same weights.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import numpy as np

CLASSES = 10
TERMINATED = 128 + signal.SIGTERM


class Network:
    """Two fully connected layers with a ReLU between them, trained by Adam."""

    def __init__(self, inputs: int, hidden: int, rng: np.random.Generator) -> None:
        self.step = 0
        self.weights = {
            "w1": rng.normal(0, np.sqrt(2 / inputs), (inputs, hidden)),
            "b1": np.zeros(hidden),
            "w2": rng.normal(0, np.sqrt(2 / hidden), (hidden, CLASSES)),
            "b2": np.zeros(CLASSES),
        }
        self.mean = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.variance = {name: np.zeros_like(value) for name, value in self.weights.items()}

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Log probabilities, one row per image."""
        return self._forward(images)[1]

    def learn(self, images: np.ndarray, labels: np.ndarray, rate: float) -> float:
        """One step of gradient descent on one batch; returns the batch's mean loss before it."""
        hidden, log_probabilities = self._forward(images)
        rows = np.arange(len(labels))
        error = np.exp(log_probabilities)
        error[rows, labels] -= 1
        error /= len(labels)
        into_hidden = (error @ self.weights["w2"].T) * (hidden > 0)
        self._adam(
            {
                "w1": images.T @ into_hidden,
                "b1": into_hidden.sum(axis=0),
                "w2": hidden.T @ error,
                "b2": error.sum(axis=0),
            },
            rate,
        )
        return float(-log_probabilities[rows, labels].mean())

    def _forward(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = np.maximum(images @ self.weights["w1"] + self.weights["b1"], 0)
        scores = hidden @ self.weights["w2"] + self.weights["b2"]
        scores = scores - scores.max(axis=1, keepdims=True)
        return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def _adam(self, gradients: dict[str, np.ndarray], rate: float) -> None:
        self.step += 1
        for name, gradient in gradients.items():
            self.mean[name] += 0.1 * (gradient - self.mean[name])
            self.variance[name] += 0.001 * (gradient**2 - self.variance[name])
            mean = self.mean[name] / (1 - 0.9**self.step)
            variance = self.variance[name] / (1 - 0.999**self.step)
            self.weights[name] -= rate * mean / (np.sqrt(variance) + 1e-8)


class Checkpoints:
    """A folder of ``step-00000450.npz``: each is there in full or not at all."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, network: Network, settings: dict[str, float]) -> Path:
        """Write to a file beside it, flush it to the disk, then rename."""
        path = self.folder / f"step-{network.step:08d}.npz"
        partial = path.with_suffix(".partial")
        arrays = {"step": np.array(network.step), "settings": np.array(json.dumps(settings, sort_keys=True))}
        for kind in ("weights", "mean", "variance"):
            arrays |= {f"{kind}.{name}": value for name, value in getattr(network, kind).items()}
        with partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for old in self._newest_first()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def restore(self, network: Network, settings: dict[str, float], wanted: Path | None) -> Path | None:
        """Take up the wanted checkpoint, else the newest that can be read."""
        for path in [wanted] if wanted else self._newest_first():
            try:
                with np.load(path, allow_pickle=False) as saved:
                    arrays = {name: saved[name] for name in saved.files}
                saved_settings = json.loads(str(arrays["settings"]))
                step = int(arrays["step"])
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                if wanted:
                    raise SystemExit(f"{path} is not a checkpoint: {error}") from error
                print(f"{path.name} cannot be read and is passed over: {error}", flush=True)
                continue
            if saved_settings != settings:
                raise SystemExit(
                    f"{path} belongs to another training ({saved_settings}, this one is {settings})"
                )
            for kind in ("weights", "mean", "variance"):
                target = getattr(network, kind)
                target.update({name: arrays[f"{kind}.{name}"] for name in target})
            network.step = step
            return path
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.npz"), reverse=True)


def accuracy(network: Network, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images that are read right."""
    return float((network.predict(images).argmax(axis=1) == labels).mean())


def load(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels; pixels from 0 to 1."""
    path = folder / "digits.npz"
    if not path.exists():
        raise SystemExit(f"there is no {path}: make it with prepare.py")
    with np.load(path, allow_pickle=False) as data:
        return (
            data["train_images"] / 16.0,
            data["train_labels"],
            data["test_images"] / 16.0,
            data["test_labels"],
        )


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line; folders come from runctl's variables where there are no flags."""
    environment = os.environ
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.003, help="step size of Adam")
    parser.add_argument("--hidden", type=int, default=128, help="size of the hidden layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=int, default=3, help="checkpoints to keep")
    parser.add_argument("--data", type=Path, default=Path(environment.get("RUNCTL_DATA_DIR") or "data"))
    parser.add_argument(
        "--checkpoints", type=Path, default=Path(environment.get("RUNCTL_CHECKPOINT_DIR") or "checkpoints")
    )
    parser.add_argument("--output", type=Path, default=Path(environment.get("RUNCTL_OUTPUT_DIR") or "output"))
    parser.add_argument(
        "--resume",
        type=Path,
        default=Path(environment["RUNCTL_RESUME_FROM"]) if environment.get("RUNCTL_RESUME_FROM") else None,
        help="a checkpoint; without it, the newest in --checkpoints",
    )
    options = parser.parse_args(argv)
    for name in ("epochs", "batch_size", "hidden", "keep"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


def main(argv: list[str]) -> int:
    """Train, and say how well it went."""
    terminated = []
    signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))

    options = arguments(argv)
    images, labels, test_images, test_labels = load(options.data)
    steps_per_epoch = -(-len(images) // options.batch_size)
    settings = {
        "batch_size": options.batch_size,
        "hidden": options.hidden,
        "lr": options.lr,
        "seed": options.seed,
    }
    network = Network(images.shape[1], options.hidden, np.random.default_rng(options.seed))
    checkpoints = Checkpoints(options.checkpoints, options.keep)
    found = checkpoints.restore(network, settings, options.resume)
    print(f"{len(images)} images to learn from, {len(test_images)} to be tested on", flush=True)
    if found:
        print(f"going on from {found}: epoch {network.step // steps_per_epoch} is done", flush=True)

    while network.step < options.epochs * steps_per_epoch:
        epoch, batch = divmod(network.step, steps_per_epoch)
        order = np.random.default_rng((options.seed, epoch)).permutation(len(images))
        started, losses = time.perf_counter(), []
        for first in range(batch * options.batch_size, len(images), options.batch_size):
            chosen = order[first : first + options.batch_size]
            losses.append(network.learn(images[chosen], labels[chosen], options.lr))
            if terminated:
                print(f"SIGTERM: saved {checkpoints.save(network, settings)}", flush=True)
                return TERMINATED
        path = checkpoints.save(network, settings)
        print(
            f"epoch {epoch + 1}/{options.epochs}  loss {np.mean(losses):.4f}"
            f"  train accuracy {accuracy(network, images, labels):.2%}"
            f"  {time.perf_counter() - started:.2f} s  {path.name}",
            flush=True,
        )

    result = accuracy(network, test_images, test_labels)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "metrics.json").write_text(
        json.dumps({"epochs": options.epochs, "test_accuracy": result, **settings}) + "\n"
    )
    print(f"test accuracy {result:.2%}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
