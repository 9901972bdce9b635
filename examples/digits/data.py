"""Scikit-learn's handwritten digits (1,797 scans of 8 x 8 pixels), split once and for all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PIXELS = 8
CLASSES = 10
SPLIT_SEED = 20170901
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Part:
    """Images as rows of 64 pixels in 0..1, and their labels."""

    images: Floats
    labels: Labels


@dataclass(frozen=True)
class Digits:
    """Three parts that share no image.

    The search sees `train` and `validation`; `test` is looked at once, by the finished model.
    """

    train: Part
    validation: Part
    test: Part


def load() -> Digits:
    """Reads the data set that ships with scikit-learn and splits it, the same way on every call."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    images = (images[order] / 16.0).astype(np.float32)
    labels = labels[order].astype(np.int64)
    test = int(len(images) * TEST_SHARE)
    held_out = test + int(len(images) * VALIDATION_SHARE)
    return Digits(
        train=Part(images[held_out:], labels[held_out:]),
        validation=Part(images[test:held_out], labels[test:held_out]),
        test=Part(images[:test], labels[:test]),
    )


def joined(first: Part, second: Part) -> Part:
    return Part(np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels]))


def shifted(images: Floats, down: int, right: int) -> Floats:
    """The images moved by whole pixels, zeros coming in at the edges; at most PIXELS - 1 either way."""
    grid = images.reshape(-1, PIXELS, PIXELS)
    moved = np.zeros_like(grid)
    rows, columns = PIXELS - abs(down), PIXELS - abs(right)
    to_row, to_column = max(down, 0), max(right, 0)
    from_row, from_column = max(-down, 0), max(-right, 0)
    moved[:, to_row : to_row + rows, to_column : to_column + columns] = grid[
        :, from_row : from_row + rows, from_column : from_column + columns
    ]
    return moved.reshape(images.shape)


def with_shifts(part: Part) -> Part:
    """Nine copies of each image: as it is, and moved a whole and half a pixel up, down, left and right."""
    whole = [shifted(part.images, down, right) for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    half = [(part.images + moved) * np.float32(0.5) for moved in whole]
    copies: list[Floats] = [part.images, *whole, *half]
    return Part(np.concatenate(copies), np.tile(part.labels, len(copies)))
