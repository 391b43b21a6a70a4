"""Workloads: optimizer steps alone, and steps in a training loop. They are built and run in a worker."""

from __future__ import annotations

import math
import resource

import numpy as np
from passes import PASSES
from peers import ALL

from fastopt._bench import workloads
from fastopt._bench.workloads import GRAD_SCALE, Workload, normal_values, sample


class Steps(workloads.Steps):
    peers = ALL


class Billion(Steps):
    """One step over a billion parameters, or a hundred over ten million."""

    def __init__(self, name):
        self.repeats = 100 if name == "100 x 10^7" else 1
        super().__init__("fastopt", [(10**9 // self.repeats,)])

    def iterate(self):
        for _ in range(self.repeats):
            self.peer.step()

    def info(self):
        return {**super().info(), "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


class Loop(Steps):
    """A training iteration: the three matrix products of a layer with n weights and batch 64, then a step."""

    def __init__(self, name, exponent):
        rows, columns = 2 ** (exponent // 2), 2 ** (exponent - exponent // 2)
        super().__init__(name, [(rows, columns)])
        self.x, self.dy = normal_values((64, rows), 1, 1.0), normal_values((64, columns), 2, GRAD_SCALE)
        self.y, self.dx = np.empty((64, columns), np.float32), np.empty((64, rows), np.float32)
        (self.dw,) = self.peer.grads

    def iterate(self):
        (w,) = self.peer.read()
        np.matmul(self.x, w, out=self.y)
        np.matmul(self.x.T, self.dy, out=self.dw)
        np.matmul(self.dy, w.T, out=self.dx)
        del w
        self.peer.step()


class Pass(Workload):
    """Clip by the global norm, AdamW, weight average, zero the gradients."""

    EMA_DECAY, WEIGHT_DECAY = 0.999, 1e-2
    MAX_ULP = 16  # PyTorch sums the squares in float32: the relative error of its norm is 9e-4 for GPT-2

    def __init__(self, name, shapes):
        self.original = [normal_values(shape, 1000 + i, GRAD_SCALE) for i, shape in enumerate(shapes)]
        self.grads = [grad.copy() for grad in self.original]
        params = [normal_values(shape, i, 1.0) for i, shape in enumerate(shapes)]
        self.before = {"params": sample(params), "grads": sample(self.original)}
        norm = math.sqrt(sum(float(np.dot(g.reshape(-1), g.reshape(-1))) for g in map(np.float64, self.original)))
        self.peer = PASSES[name](params, self.grads, norm / 2, self.EMA_DECAY, self.WEIGHT_DECAY)
        self.call = self.peer.step
        self.options = {"scale": norm / 2 / (norm + self.peer.clip_epsilon), "weight_decay": self.WEIGHT_DECAY}

    def prepare(self):
        """Fill the gradients again, as a backward pass would."""
        for grad, original in zip(self.grads, self.original, strict=True):
            grad[...] = original

    def check(self):
        """Do three steps and return the arguments of `formulas.deviation`."""
        for _ in range(3):
            self.prepare()
            self.peer.step()
        after, averages = map(sample, self.peer.read())
        results = {"after": after, "averages": averages, "zeroed": not any(grad.any() for grad in self.grads)}
        return self.MAX_ULP, {**self.before, **self.options, "decay": self.EMA_DECAY, **results}
