"""What is timed of the tests' table of optimizers and options. A job runs inside a room."""

from __future__ import annotations

import numpy as np
from cases import CASES, Reference, same_bits
from jobs import numbers

TORCH_ADAM = "torch Adam"


class Case:
    """Steps of a row of the tests' table, by fastopt or by its reference."""

    def __init__(self, name, row, size):
        self.case, self.name, self.fresh = CASES[row], name, numbers((size,), 1, 1.0)
        self.grad = self.fresh.copy()
        self.start = numbers((size,), 0, 1.0)
        self.param = self.start.copy()
        self.optimizer = self.case.make(self.param)
        self.reference = Reference(self.case, [self.param])

    def prepare(self):
        """Fill the gradient again where a step zeroes it."""
        if self.case.common.get("zero_grads"):
            self.grad[...] = self.fresh

    def iterate(self):
        if self.name == "fastopt":
            self.optimizer.step(self.grad)
        else:
            self.reference.step([self.grad])

    def check(self):
        for _ in range(2):
            self.optimizer.step(self.grad.copy())
            self.reference.step([self.grad.copy()])
        return same_bits(self.param, self.reference.tensors[0]["param"])

    def info(self):
        return {}


# Steps with zero gradients: from which to which.
PHASES = {"at the start": (0, 500), "at the end": (4500, 5000)}


class Zeros:
    """Steps with zero gradients behind a normal phase: the first 500, or those from the 4,500th to the 5,000th."""

    def __init__(self, name, row, size):
        self.phase, self.row = PHASES[name], row
        # of all sizes, so that at any time some states are about to become denormal
        self.start, self.grad = numbers((size,), 0, 1.0), numbers((size,), 1, 1.0)
        self.grad *= np.logspace(-18, 0, size, dtype=np.float32)
        self.zeros = np.zeros(size, np.float32)
        self.begin()

    def begin(self):
        """The normal phase, and the zeros before those that are timed."""
        self.steps = 0
        self.param = param = self.start.copy()
        if self.row == TORCH_ADAM:
            import torch

            tensor = torch.from_numpy(param).requires_grad_()
            optimizer = torch.optim.Adam([tensor])

            def step(grad):
                tensor.grad = torch.from_numpy(grad)
                optimizer.step()

            self.step = step
        else:
            self.step = CASES[self.row].make(param).step
        for _ in range(100):
            self.step(self.grad.copy())
        while self.steps < self.phase[0]:
            self.iterate()

    def prepare(self):
        """Begin again when the phase is over."""
        if self.steps == self.phase[1]:
            self.begin()

    def iterate(self):
        self.steps += 1
        self.step(self.zeros)

    def check(self):
        """Whether the normal phase has moved the parameters, and to finite numbers."""
        return bool(np.isfinite(self.param).all() and (self.param != self.start).mean() > 0.1)

    def info(self):
        return {}
