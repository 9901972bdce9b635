"""Random search: settings drawn by a seed, and the trial that each of them gets."""

from dataclasses import dataclass

import numpy as np

from digits.data import Part, with_shifts
from digits.network import Adam, Setting, accuracy, gradient, initial_weights, weight_count

EPOCHS = 60  # passes over the plain training images; shifted copies do not add steps


@dataclass(frozen=True)
class Score:
    setting: Setting
    validation_accuracy: float


def draw_settings(count: int, seed: int) -> list[Setting]:
    rng = np.random.default_rng(seed)
    return [
        Setting(
            hidden=int(rng.choice([48, 64, 96, 128, 192])),
            learning_rate=float(10 ** rng.uniform(-2.7, -1.4)),
            weight_decay=float(10 ** rng.uniform(-6, -2.5)),
            batch=int(rng.choice([32, 64, 128])),
            activation=str(rng.choice(["relu", "tanh"])),
            shifts=bool(rng.random() < 0.5),
            seed=int(rng.integers(2**31)),
        )
        for _ in range(count)
    ]


def trial(setting: Setting, parts: tuple[Part, Part]) -> Score:
    """Trains one network from scratch on the first part and scores it on the second.

    The same setting gives the same score, to the last bit, wherever it runs.
    """
    train, validation = parts
    rng = np.random.default_rng(setting.seed)
    steps = EPOCHS * (len(train.images) // setting.batch)
    if setting.shifts:
        train = with_shifts(train)
    weights = initial_weights(setting.hidden, rng)
    rule = Adam(weight_count(setting.hidden), setting.learning_rate, steps)
    for _ in range(steps):
        rows = rng.integers(len(train.images), size=setting.batch)
        rule.apply(weights, gradient(weights, train.images[rows], train.labels[rows], setting))
    return Score(setting, accuracy(weights, validation, setting))
