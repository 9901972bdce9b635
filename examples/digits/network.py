"""A network of one hidden layer in plain numpy, its weights one flat vector so that they travel easily."""

from dataclasses import dataclass

import numpy as np

from digits.data import CLASSES, PIXELS, Floats, Labels, Part

INPUTS = PIXELS * PIXELS
ADAM_FIRST = 0.9
ADAM_SECOND = 0.999
ADAM_EPSILON = 1e-7


@dataclass(frozen=True)
class Setting:
    """One point of the search: the shape of the network and how it is trained."""

    hidden: int
    learning_rate: float
    weight_decay: float
    batch: int
    activation: str  # "relu" or "tanh"
    shifts: bool  # train on shifted copies as well
    seed: int


def weight_count(hidden: int) -> int:
    return INPUTS * hidden + hidden + hidden * CLASSES + CLASSES


def initial_weights(hidden: int, rng: np.random.Generator) -> Floats:
    """Scaled so that activations start with unit variance (He et al. 2015); biases zero."""
    first = rng.normal(0.0, np.sqrt(2.0 / INPUTS), INPUTS * hidden)
    second = rng.normal(0.0, np.sqrt(1.0 / hidden), hidden * CLASSES)
    return np.concatenate([first, np.zeros(hidden), second, np.zeros(CLASSES)]).astype(np.float32)


def layers(weights: Floats, hidden: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Views into the flat vector: first matrix and bias, second matrix and bias."""
    a = INPUTS * hidden
    b = a + hidden
    c = b + hidden * CLASSES
    first, second = weights[:a].reshape(INPUTS, hidden), weights[b:c].reshape(hidden, CLASSES)
    return first, weights[a:b], second, weights[c:]


def hidden_units(pre: Floats, activation: str) -> Floats:
    return np.maximum(pre, 0.0) if activation == "relu" else np.tanh(pre)


def gradient(weights: Floats, images: Floats, labels: Labels, setting: Setting) -> Floats:
    """Of the mean cross-entropy over the batch, plus the weight decay, as a flat vector."""
    first, first_bias, second, second_bias = layers(weights, setting.hidden)
    active = hidden_units(images @ first + first_bias, setting.activation)
    scores = active @ second + second_bias
    scores -= scores.max(axis=1, keepdims=True)
    slope = np.exp(scores)
    slope /= slope.sum(axis=1, keepdims=True)
    slope[np.arange(len(labels)), labels] -= 1.0
    slope /= len(labels)
    back = slope @ second.T
    back *= (active > 0.0) if setting.activation == "relu" else (1.0 - active * active)
    result = np.float32(setting.weight_decay) * weights
    to_first, to_first_bias, to_second, to_second_bias = layers(result, setting.hidden)
    to_first += images.T @ back
    to_first_bias += back.sum(axis=0)
    to_second += active.T @ slope
    to_second_bias += slope.sum(axis=0)
    return result


def accuracy(weights: Floats, part: Part, setting: Setting) -> float:
    """The share of the images whose highest score is at the right label."""
    first, first_bias, second, second_bias = layers(weights, setting.hidden)
    active = hidden_units(part.images @ first + first_bias, setting.activation)
    return float(((active @ second + second_bias).argmax(axis=1) == part.labels).mean())


class Adam:
    """Kingma & Ba 2014, over one flat vector, with a step length that falls linearly to a tenth."""

    def __init__(self, size: int, learning_rate: float, steps: int) -> None:
        self.first = np.zeros(size, np.float32)
        self.second = np.zeros(size, np.float32)
        self.learning_rate = learning_rate
        self.steps = steps
        self.step = 0

    def apply(self, weights: Floats, slope: Floats) -> None:
        """Changes the weights in place."""
        done = min(self.step / self.steps, 1.0)
        self.step += 1
        self.first += (1 - ADAM_FIRST) * (slope - self.first)
        self.second += (1 - ADAM_SECOND) * (slope * slope - self.second)
        rate = self.learning_rate * (1.0 - 0.9 * done) / (1 - ADAM_FIRST**self.step)
        scale = np.sqrt(self.second / (1 - ADAM_SECOND**self.step)) + ADAM_EPSILON
        weights -= np.float32(rate) * self.first / scale
