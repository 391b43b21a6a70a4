"""What is timed: steps alone, and steps in a training loop. A job runs inside a room.

Nothing here imports fastopt: a room loads only what its candidate needs.
"""

from __future__ import annotations

import math
import resource

import numpy as np
from passes import PASSES
from peers import ALL
from wall import WALLS

BLOCK = 2**20
SAMPLES = 50  # elements of a tensor whose steps are compared with the formula

# Gradients so small that epsilon is seen in the result.
GRADIENT = 1e-6


def numbers(shape, seed, scale):
    """Normal numbers, the same block again and again: quick to make, and in place, at any size."""
    block = np.random.default_rng(seed).normal(0, scale, min(BLOCK, math.prod(shape))).astype(np.float32)
    values = np.empty(shape, np.float32)
    flat = values.reshape(-1)
    for begin in range(0, flat.size, BLOCK):
        part = flat[begin : begin + BLOCK]
        part[:] = block[: part.size]
    return values


def sample(arrays):
    """Some elements of each array, from its first to near its last."""
    return [a.reshape(-1)[:: max(1, a.size // SAMPLES)].copy() for a in arrays]


class Call:
    """A function of a candidate, ``call``, again and again on what stays as it is; a job says whether it is right."""

    def prepare(self):
        """Nothing: what goes in stays."""

    def iterate(self):
        self.call()

    def info(self):
        return {}


class Steps:
    """Steps of Adam over tensors of some shapes, always with the same gradients."""

    def __init__(self, name, shapes):
        params = [numbers(shape, i, 1.0) for i, shape in enumerate(shapes)]
        grads = [numbers(shape, 1000 + i, GRADIENT) for i, shape in enumerate(shapes)]
        self.before = {"params": sample(params), "grads": sample(grads)}
        self.peer = {**ALL, **WALLS}[name](params, grads)

    def prepare(self):
        """Nothing: the gradients stay."""

    def iterate(self):
        self.peer.step()

    def check(self):
        """Do three steps, and give what the formula needs to say whether they are right."""
        for _ in range(3):
            self.peer.step()
        return {**self.before, **self.peer.formula(), "after": sample(self.peer.read())}

    def info(self):
        return self.peer.info()


class Billion(Steps):
    """A step over a billion parameters, or a hundred over ten million."""

    def __init__(self, name):
        self.repeats = 100 if name == "100 x 10^7" else 1
        super().__init__("fastopt", [(10**9 // self.repeats,)])

    def iterate(self):
        for _ in range(self.repeats):
            self.peer.step()

    def info(self):
        """The most memory that the process has had."""
        return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


class Loop(Steps):
    """A training iteration: the three matrix products of a layer with n weights, batch 64, then a step over these."""

    def __init__(self, name, exponent):
        rows, columns = 2 ** (exponent // 2), 2 ** (exponent - exponent // 2)
        super().__init__(name, [(rows, columns)])
        self.x, self.dy = numbers((64, rows), 1, 1.0), numbers((64, columns), 2, GRADIENT)
        self.y, self.dx = np.empty((64, columns), np.float32), np.empty((64, rows), np.float32)
        (self.dw,) = self.peer.grads

    def iterate(self):
        (w,) = self.peer.read()
        np.matmul(self.x, w, out=self.y)
        np.matmul(self.x.T, self.dy, out=self.dw)
        np.matmul(self.dy, w.T, out=self.dx)
        del w
        self.peer.step()


class Pass:
    """Clip by the global norm, AdamW, weight average, zero the gradients."""

    EMA_DECAY, WEIGHT_DECAY = 0.999, 1e-2

    def __init__(self, name, shapes):
        self.fresh = [numbers(shape, 1000 + i, GRADIENT) for i, shape in enumerate(shapes)]
        self.grads = [grad.copy() for grad in self.fresh]
        params = [numbers(shape, i, 1.0) for i, shape in enumerate(shapes)]
        self.before = {"params": sample(params), "grads": sample(self.fresh)}
        norm = math.sqrt(sum(float(np.dot(g.reshape(-1), g.reshape(-1))) for g in map(np.float64, self.fresh)))
        self.peer = PASSES[name](params, self.grads, norm / 2, self.EMA_DECAY, self.WEIGHT_DECAY)
        self.options = {"scale": norm / 2 / (norm + self.peer.clip_epsilon), "weight_decay": self.WEIGHT_DECAY}

    def prepare(self):
        """Fill the gradients again, as a backward pass would."""
        for grad, fresh in zip(self.grads, self.fresh, strict=True):
            grad[...] = fresh

    def iterate(self):
        self.peer.step()

    def check(self):
        for _ in range(3):
            self.prepare()
            self.peer.step()
        left = max(float(np.abs(grad).max()) for grad in self.grads)
        after, averages = map(sample, self.peer.read())
        return {
            **self.before,
            **self.options,
            "decay": self.EMA_DECAY,
            "after": after,
            "averages": averages,
            "left": left,
        }

    def info(self):
        return {}
