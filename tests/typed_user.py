"""Code of a user, which ``mypy --strict`` accepts as it is (``test_types.py``): each ignored error must be reported.

It runs, too: ``main`` trains a small network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastopt
from fastopt import AdamW, Flat, Optimizer, kernels, losses, reference, schedules
from fastopt.checkpoint import Checkpoint
from fastopt.layers import BatchNormCache

Array = npt.NDArray[np.float32]


class InverseSquareRoot(schedules.Schedule):
    """A schedule of the user's own."""

    def __init__(self, peak: float) -> None:
        self.peak = peak

    def at(self, step: int) -> float:
        """Return the rate."""
        return self.peak / math.sqrt(1 + step)


class Model:
    """Linear regression."""

    def __init__(self, inputs: int) -> None:
        self.params = Flat({"w": (inputs, 1), "b": 1})
        self.grads: Flat = self.params.zeros_like()

    def loss_and_gradients(self, x: Array, y: Array) -> float:
        """Write the gradients and return the loss."""
        value, dpred = fastopt.huber(x @ self.params["w"] + self.params["b"], y, delta=1.0)
        np.matmul(x.T, dpred, out=self.grads["w"])
        np.sum(dpred, axis=0, out=self.grads["b"])
        return float(value)


def optimizers(params: Flat) -> Iterator[Optimizer]:
    """Yield one optimizer after the other."""
    schedule = schedules.Warmup(schedules.Cosine(0.1, decay_steps=100), warmup_steps=10)
    yield AdamW(params, lr=schedule, betas=(0.9, schedules.Linear(0.9, 0.99, 50)), max_grad_norm=1.0)
    yield fastopt.SGD(params, lr=lambda step: 0.1 / (1 + step), momentum=0.9, nesterov=True, zero_grads=True)
    yield fastopt.Adam(params, lr=InverseSquareRoot(0.1), ema_decay=0.99, nonfinite="skip", state_dir=None)
    yield fastopt.RMSprop([{"params": [params], "lr": 0.01}], centered=True, maximize=False)
    yield fastopt.Adagrad({"layer": [(params["w"], params["b"])]}, convert_grads=True)
    yield fastopt.Momentum(params["w"], lr=0.01, form="ema", decoupled_weight_decay=True)


def train(model: Model, x: Array, y: Array, file: Path) -> float:
    """Train with early stopping, save and load, and return the last loss."""
    optimizer = next(optimizers(model.params))
    early_stopping, loss = fastopt.EarlyStopping(patience=3), 0.0
    for epoch in range(5):
        for inputs, targets in fastopt.batches(x, y, batch_size=16, seed=0, epoch=epoch):
            loss = model.loss_and_gradients(inputs, targets)
            optimizer.step(model.grads)
        if early_stopping.update(loss, model.params):
            break
    early_stopping.restore(model.params)
    norm: float | None = optimizer.grad_norm
    limit: float | None = optimizer.max_grad_norm
    steps: int = optimizer.steps
    threads: int = optimizer.execution_info()["threads"]
    fastopt.save(file, params=model.params, optimizer=optimizer, metadata={"threads": threads, "norm": norm})
    loaded: Checkpoint = fastopt.load(file, params=model.params, optimizer=optimizer)
    state: dict[str, Any] = optimizer.state_dict()
    optimizer.load_state_dict(state, keep_hyperparameters=True)
    optimizer.lr = 0.01
    optimizer.grad_scale = 1.0
    optimizer.max_grad_norm = 1.0
    assert loaded.metadata["threads"] == threads
    assert steps == optimizer.steps
    assert limit == 1.0
    return loss


def functions(x: Array) -> None:
    """Call functions that need no optimizer."""
    weight, bias, mean, var = np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(3), np.ones(3)
    result, cache = fastopt.batch_norm(x, weight, bias, mean.astype(np.float32), var.astype(np.float32))
    assert isinstance(cache, BatchNormCache)
    dropped = fastopt.dropout(result, 0.5, seed=0, step=1)
    value, gradient = losses.cross_entropy(dropped, np.zeros(len(x), np.int64), reduction="mean")
    param, exp_avg, exp_avg_sq = np.zeros_like(gradient), np.zeros_like(gradient), np.zeros_like(gradient)
    kernels.adam(param, gradient, exp_avg, exp_avg_sq, step=1, lr=1e-3)
    reference.adam(param, gradient, exp_avg, exp_avg_sq, step=2, lr=1e-3)
    moved = fastopt.augment(np.zeros((4, 8, 8), np.float32), seed=0, step=0, rotate=10.0)
    scale = fastopt.DynamicLossScale(fastopt.SGD(param, nonfinite="skip"), init_scale=2.0)
    fastopt.set_num_threads("auto")
    fastopt.set_isa(fastopt.isa())
    assert fastopt.num_threads() >= 1
    assert moved.shape == (4, 8, 8)
    assert float(value) * scale.scale > 0


def mistakes(params: Flat) -> None:
    """Make mistakes that mypy must find: an ignored error that is not reported is an error."""
    optimizer = fastopt.Adam(params, lr="fast")  # type: ignore[arg-type]
    fastopt.Adam(params, beta1=0.9)  # type: ignore[call-arg]
    fastopt.Adam(params, nonfinite="stop")  # type: ignore[arg-type]
    fastopt.SGD(params, max_grad_norm="1")  # type: ignore[arg-type]
    fastopt.Adan(params)  # type: ignore[attr-defined]
    optimizer.steps = 0  # type: ignore[misc]
    optimizer.zero_grads = True  # type: ignore[misc]
    schedules.Cosine(0.1, decay_steps=0.5)  # type: ignore[arg-type]
    schedules.Plateau(0.1, mode="up")  # type: ignore[arg-type]
    fastopt.mse(params["w"], params["w"], reduction="max")  # type: ignore[arg-type]
    fastopt.EarlyStopping("5")  # type: ignore[arg-type]
    fastopt.set_isa(2)  # type: ignore[arg-type]
    fastopt.save(params=params)  # type: ignore[call-arg]


def main(file: Path) -> None:
    """Run everything but the mistakes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True)
    model = Model(3)
    names = [type(optimizer).__name__ for optimizer in optimizers(model.params)]
    assert names == ["AdamW", "SGD", "Adam", "RMSprop", "Adagrad", "Momentum"]
    assert train(model, x, y, file) < 1.0
    functions(x)
