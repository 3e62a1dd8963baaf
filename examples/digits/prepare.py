# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.3.5", "scikit-learn==1.7.2"]
# ///
"""Write scikit-learn's bundled handwritten digits as the files that train.py reads.

The data is 1,797 images of 8 by 8 pixels (E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
UCI Machine Learning Repository, CC BY 4.0). One in five is kept back for the test, evenly over the digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main() -> None:
    """Make the folder and write ``digits.npz`` into it."""
    parser = argparse.ArgumentParser(description="Write the handwritten digits as files.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data"))
    folder = parser.parse_args().folder

    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images.astype(np.uint8), labels.astype(np.uint8), test_size=0.2, random_state=0, stratify=labels
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits.npz"
    np.savez_compressed(
        path,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    print(f"{path}: {len(train_images)} images to learn from, {len(test_images)} to be tested on")


if __name__ == "__main__":
    main()
