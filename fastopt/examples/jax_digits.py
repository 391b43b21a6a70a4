"""Train a JAX network on 1,797 handwritten digits: by Optax, and by fastopt with parameters in NumPy.

``python -m fastopt.examples.jax_digits`` trains the same network twice, on the same batches. JAX computes the loss and
its gradients from a list of tuples of NumPy arrays, and fastopt updates these arrays in place. With Optax, gradients
and update are one compiled function, whose parameters are arrays of JAX. Both optimizers have the same formula, so the
losses differ by rounding only: by about 1e-12 with ``JAX_ENABLE_X64=1`` in the environment, for float64, and by more in
float32, because Adam divides tiny gradients by their own size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import jax
import numpy as np
import optax

import fastopt
from fastopt.examples import common, digits
from fastopt.examples.common import Array

Params: TypeAlias = list[tuple[Array, Array]]  # weights and biases of each layer
Batches: TypeAlias = Iterator[tuple[Array, ...]]  # images and labels

SIZES = [64, 200, 100, 10]
LR = 0.001
BATCH_SIZE = 256
DTYPE = jax.dtypes.canonicalize_dtype(float)  # float32 unless JAX is set to float64


def initial_params(seed: int) -> Params:
    """Return random weights, and biases of zero."""
    rng = np.random.default_rng(seed)
    return [(rng.normal(0, m**-0.5, (m, n)).astype(DTYPE), np.zeros(n, DTYPE)) for m, n in pairwise(SIZES)]


def logits(params: Params, images: Any) -> Any:
    """Return the outputs of the network."""
    *hidden_layers, (last_weights, last_biases) = params
    for weights, biases in hidden_layers:
        images = jax.nn.relu(images @ weights + biases)
    return images @ last_weights + last_biases


def loss(params: Params, images: Array, labels: Array) -> Any:
    """Return the mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def train_with_optax(params: Params, batches: Batches) -> Iterator[tuple[Any, Any]]:
    """Train with Optax's Adam, and yield the loss and the parameters of each step."""
    optimizer = optax.adam(LR)
    state = optimizer.init(params)

    def compute(params: Any, state: Any, images: Array, labels: Array) -> Any:
        value, grads = jax.value_and_grad(loss)(params, images, labels)
        changes, state = optimizer.update(grads, state, params)
        return value, optax.apply_updates(params, changes), state

    update = jax.jit(compute)
    new: Any = params
    for images, labels in batches:
        value, new, state = jax.block_until_ready(update(new, state, images, labels))
        yield value, new


def train_with_fastopt(params: Params, batches: Batches) -> Iterator[tuple[Any, Any]]:
    """Train with fastopt's Adam, which updates the parameters in place."""
    optimizer = fastopt.Adam(params, lr=LR)
    loss_and_gradients = jax.jit(jax.value_and_grad(loss))
    for images, labels in batches:
        value, grads = jax.block_until_ready(loss_and_gradients(params, images, labels))
        optimizer.step(grads)
        yield value, params


METHODS: dict[str, Callable[[Params, Batches], Iterator[tuple[Any, Any]]]] = {
    "Optax": train_with_optax,
    "fastopt": train_with_fastopt,
}


def compare(epochs: int, seed: int) -> dict[str, list[float]]:
    """Train by each method, print a line for it, and return the losses."""
    training, test = digits.split(seed)
    losses: dict[str, list[float]] = {}
    print("optimizer   last loss  accuracy  ms per step (median)")
    for name, train in METHODS.items():
        # JAX compiles a function again for a batch of another size
        batches = (
            batch
            for epoch in range(epochs)
            for batch in fastopt.batches(*training, batch_size=BATCH_SIZE, seed=seed, epoch=epoch, drop_last=True)
        )
        losses[name], times, start = [], [], time.perf_counter()
        trained = initial_params(seed)
        for value, trained in train(trained, batches):  # noqa: B007, B020  arrays of JAX are new in each step
            times.append(time.perf_counter() - start)
            losses[name].append(float(value))
            start = time.perf_counter()
        accuracy = float((np.asarray(logits(trained, test[0])).argmax(axis=1) == test[1]).mean())
        print(f"{name:10}{losses[name][-1]:11.6f}{accuracy:10.2%}{1e3 * np.median(times):22.3f}")
    return losses


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train twice and compare the losses."""
    parser = common.parser("jax_digits", "Train a JAX network with Optax's Adam, and with fastopt's.")
    parser.add_argument("--epochs", type=common.number(int, 1), default=100, help="default: %(default)s")
    parser.add_argument("--seed", type=common.number(int, 0, 2**32), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    before, after = map(np.array, compare(options.epochs, options.seed).values())
    print(f"largest difference of a loss: {np.max(np.abs(after - before)):.1e}")


if __name__ == "__main__":
    main()
