# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.3.5"]
# ///
"""Fit a straight line by gradient descent: the smallest training there is, on the host, without Docker."""

from __future__ import annotations

import argparse

import numpy as np


def main() -> None:
    """Print the loss now and then, and the line at the end."""
    parser = argparse.ArgumentParser(description="Fit a straight line to noisy points.")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--lr", type=float, default=0.5)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 1000)
    y = 3 * x + 2 + rng.normal(0, 0.1, 1000)
    slope = intercept = 0.0
    for epoch in range(1, options.epochs + 1):
        error = slope * x + intercept - y
        slope -= options.lr * 2 * float((error * x).mean())
        intercept -= options.lr * 2 * float(error.mean())
        if epoch % 10 == 0:
            print(f"epoch {epoch}/{options.epochs}  loss {float((error**2).mean()):.5f}", flush=True)
    print(f"y = {slope:.2f} x + {intercept:.2f}", flush=True)


if __name__ == "__main__":
    main()
