"""Workloads from the tests' table of optimizers and options. They are built and run in a worker."""

from __future__ import annotations

import numpy as np
from cases import CASES, Reference, same_bits

from fastopt._bench.workloads import Workload, normal_values

TORCH_ADAM = "torch Adam"


class Case(Workload):
    """Steps of a row of the tests' table, by fastopt or by its reference."""

    def __init__(self, name, index, size):
        self.case, self.original = CASES[index], normal_values((size,), 1, 1.0)
        self.grad, self.param = self.original.copy(), normal_values((size,), 0, 1.0)
        self.optimizer = self.case.make(self.param)
        self.reference = Reference(self.case, [self.param])
        calls = {
            "fastopt": lambda: self.optimizer.step(self.grad),
            "reference": lambda: self.reference.step([self.grad]),
        }
        self.call = calls[name]

    def prepare(self):
        """Fill the gradient again where a step zeroes it."""
        if self.case.common.get("zero_grads"):
            self.grad[...] = self.original

    def check(self):
        """Return whether the results of both are equal in every bit."""
        for _ in range(2):
            self.optimizer.step(self.grad.copy())
            self.reference.step([self.grad.copy()])
        return bool(same_bits(self.param, self.reference.tensors[0]["param"]))


class ZeroGradients(Workload):
    """Steps with zero gradients after normal steps: the first 500, or steps 4,500 to 5,000."""

    PHASES = {"at the start": (0, 500), "at the end": (4500, 5000)}  # noqa: RUF012

    def __init__(self, name, index, size):
        self.phase, self.index = self.PHASES[name], index
        # Gradients of all magnitudes, so that some states are about to become denormal at any time
        self.start, self.grad = normal_values((size,), 0, 1.0), normal_values((size,), 1, 1.0)
        self.grad *= np.logspace(-18, 0, size, dtype=np.float32)
        self.zeros = np.zeros(size, np.float32)
        self.restart()

    def restart(self):
        """Do the normal steps, and the steps with zero gradients before those that are timed."""
        self.steps = 0
        self.param = param = self.start.copy()
        if self.index == TORCH_ADAM:
            import torch

            tensor = torch.from_numpy(param).requires_grad_()
            optimizer = torch.optim.Adam([tensor])

            def step(grad):
                tensor.grad = torch.from_numpy(grad)
                optimizer.step()

            self.step = step
        else:
            self.step = CASES[self.index].make(param).step
        for _ in range(100):
            self.step(self.grad.copy())
        while self.steps < self.phase[0]:
            self.iterate()

    def prepare(self):
        """Restart when the phase is over."""
        if self.steps == self.phase[1]:
            self.restart()

    def iterate(self):
        self.steps += 1
        self.step(self.zeros)

    def check(self):
        """Return whether the normal steps have moved the parameters to finite values."""
        return bool(np.isfinite(self.param).all() and (self.param != self.start).mean() > 0.1)
