"""Train HIPS autograd's example network on 1,797 handwritten digits: by autograd's Adam, and by fastopt's.

``python -m fastopt.examples.autograd_digits`` trains the same network twice, on the same batches. The parameters are a
list of tuples (weights, biases), as in autograd's own example; fastopt takes them as they are. Both optimizers have the
same formula in float64, so that the losses agree to rounding. autograd's copies all parameters into a new vector in
every step, and returns new ones; fastopt updates the arrays in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import autograd.numpy as np  # NumPy, whose functions autograd can differentiate
from autograd import value_and_grad
from autograd.misc.optimizers import adam
from autograd.scipy.special import logsumexp

import fastopt
from fastopt.examples import common, digits
from fastopt.examples.common import Array

Params: TypeAlias = list[tuple[Array, Array]]  # weights and biases of each layer

SIZES = [64, 200, 100, 10]
LR = 0.001
BATCH_SIZE = 256


def initial_params(seed: int) -> Params:
    """Return small random weights and biases."""
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.normal(size=(m, n)), 0.1 * rng.normal(size=n)) for m, n in pairwise(SIZES)]


def log_probabilities(params: Params, images: Array) -> Array:
    """Return the logarithms of the probabilities of the classes."""
    hidden, outputs = images, images
    for weights, biases in params:
        outputs = hidden @ weights + biases
        hidden = np.tanh(outputs)
    return outputs - logsumexp(outputs, axis=1, keepdims=True)


def loss(params: Params, images: Array, labels: Array) -> Array:
    """Return the mean cross-entropy."""
    return -np.mean(log_probabilities(params, images)[np.arange(len(labels)), labels])


class Run:
    """A training run: the batches, the losses, and the time that gradients take."""

    def __init__(self, seed: int) -> None:
        (images, labels), self.test = digits.split(seed)
        self.images, self.labels = images.astype(np.float64), labels
        self.losses: list[float] = []
        self.seconds = 0.0

    def gradients(self, params: Params, step: int) -> Params:
        """Return the gradients of the batch of a step, as ``autograd.misc.optimizers`` asks for them."""
        start = time.perf_counter()
        first = step * BATCH_SIZE % len(self.images)
        rows = slice(first, first + BATCH_SIZE)
        value, grads = value_and_grad(loss)(params, self.images[rows], self.labels[rows])
        self.losses.append(float(value))
        self.seconds += time.perf_counter() - start
        return grads

    def accuracy(self, params: Params) -> float:
        """Return the fraction of the held-out images that are classified correctly."""
        images, labels = self.test
        return float((log_probabilities(params, images).argmax(axis=1) == labels).mean())


def train_with_autograd(run: Run, params: Params, steps: int) -> Params:
    """Train with autograd's Adam, and return the new parameters."""
    return adam(run.gradients, params, num_iters=steps, step_size=LR)


def train_with_fastopt(run: Run, params: Params, steps: int) -> Params:
    """Train with fastopt's Adam, which updates the parameters in place."""
    optimizer = fastopt.Adam(params, lr=LR)
    for step in range(steps):
        optimizer.step(run.gradients(params, step))
    return params


METHODS: dict[str, Callable[[Run, Params, int], Params]] = {
    "autograd": train_with_autograd,
    "fastopt": train_with_fastopt,
}


def compare(steps: int, seed: int) -> dict[str, Run]:
    """Train by each method, print a line for it, and return the runs."""
    runs = {}
    print("optimizer   last loss  accuracy  ms per step  in the optimizer")
    for name, train in METHODS.items():
        run = runs[name] = Run(seed)
        params = initial_params(seed)
        start = time.perf_counter()
        params = train(run, params, steps)
        seconds = time.perf_counter() - start
        each, own = 1e3 * seconds / steps, 1e3 * (seconds - run.seconds) / steps
        print(f"{name:10}{run.losses[-1]:11.6f}{run.accuracy(params):10.2%}{each:13.3f}{own:18.3f}")
    return runs


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train twice and compare the losses."""
    parser = common.parser("autograd_digits", "Train with autograd's Adam, and with fastopt's.")
    parser.add_argument("--steps", type=common.number(int, 1), default=500, help="default: %(default)s")
    parser.add_argument("--seed", type=common.number(int, 0, 2**32), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    before, after = (np.array(run.losses) for run in compare(options.steps, options.seed).values())
    print(f"largest difference of a loss: {np.max(np.abs(after - before)):.1e}")


if __name__ == "__main__":
    main()
