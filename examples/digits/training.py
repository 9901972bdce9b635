"""The winner's training: a parameter server that holds the weights, and workers that send it gradients."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ray
from digits.data import Floats, Part
from digits.network import Adam, Setting, gradient, initial_weights, weight_count

BATCH = 1024  # images a gradient: enough work that computing it outweighs sending it
AVERAGE_LAST = 0.25  # the share of the steps, at the end, whose weights are averaged


class Weights:
    """The state of the training: weights, Adam's moments, and the mean of the last weights.

    A mean of late weights is less noisy than any one of them (Polyak & Juditsky 1992), which
    matters here because gradients of several workers arrive in no fixed order.  They are also of
    weights that are some steps old, so with more workers each step is shorter.
    """

    def __init__(self, setting: Setting, steps: int, workers: int) -> None:
        self.weights = initial_weights(setting.hidden, np.random.default_rng(setting.seed))
        self.rule = Adam(weight_count(setting.hidden), setting.learning_rate / workers, steps)
        self.mean = np.zeros_like(self.weights)
        self.averaged = 0
        self.average_from = int(steps * (1 - AVERAGE_LAST))

    def apply(self, slope: Floats) -> None:
        self.rule.apply(self.weights, slope)
        if self.rule.step > self.average_from:
            self.averaged += 1
            self.mean += (self.weights - self.mean) / self.averaged

    def finished(self) -> Floats:
        return self.mean if self.averaged else self.weights


@ray.remote
class ParameterServer:
    """One actor; workers call it at their own pace and it answers in the order of arrival."""

    def __init__(self, setting: Setting, steps: int, workers: int) -> None:
        self.state = Weights(setting, steps, workers)
        self.pushes: dict[int, int] = {}

    def pull(self) -> Floats:
        return self.state.weights

    def push(self, worker: int, slope: Floats) -> Floats:
        """Takes one step along the gradient and returns the weights after it."""
        self.state.apply(slope)
        self.pushes[worker] = self.pushes.get(worker, 0) + 1
        return self.state.weights

    def steps(self) -> int:
        return self.state.rule.step

    def result(self) -> tuple[Floats, dict[int, int]]:
        """The finished weights, and how many gradients each worker sent."""
        return self.state.finished(), self.pushes


def batches(setting: Setting, worker: int, images: int, count: int) -> Iterator[NDArray[np.int64]]:
    """The row numbers of this worker's batches; each worker draws its own."""
    rng = np.random.default_rng([setting.seed, worker])
    for _ in range(count):
        yield rng.integers(images, size=BATCH)


@ray.remote
def train_worker(server: Any, worker: int, setting: Setting, part: Part, count: int) -> int:
    """Sends the server `count` gradients, each of the weights that its last one led to."""
    weights = ray.get(server.pull.remote())
    for rows in batches(setting, worker, len(part.images), count):
        slope = gradient(weights, part.images[rows], part.labels[rows], setting)
        weights = ray.get(server.push.remote(worker, slope))
    return count


def train_serially(setting: Setting, part: Part, workers: int, count: int) -> Floats:
    """The same number of gradients and steps in this process alone, the workers' batches in turn."""
    state = Weights(setting, workers * count, workers)
    draws = [batches(setting, worker, len(part.images), count) for worker in range(workers)]
    for turn in zip(*draws, strict=True):
        for rows in turn:
            state.apply(gradient(state.weights, part.images[rows], part.labels[rows], setting))
    return state.finished()
