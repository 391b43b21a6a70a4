"""What is timed of losses: value and gradient, forward and backward. A job runs inside a room."""

from __future__ import annotations

import numpy as np
from jobs import numbers


class CrossEntropy:
    """Cross entropy of logits with integer labels, the mean over the rows."""

    TOLERANCE = 2e-5  # of a gradient near 1, and of the value: sums of 50,257 numbers in float32

    def __init__(self, name, rows, classes):
        self.logits = numbers((rows, classes), 0, 3.0)
        self.labels = np.random.default_rng(1).integers(0, classes, rows)
        self.loss = getattr(self, name)()

    def fastopt(self):
        from fastopt import losses

        return lambda: losses.cross_entropy(self.logits, self.labels)

    def torch(self):
        import torch

        leaf, labels = torch.from_numpy(self.logits).requires_grad_(), torch.from_numpy(self.labels)

        def loss():
            leaf.grad = None
            value = torch.nn.functional.cross_entropy(leaf, labels)
            value.backward()
            return value.item(), leaf.grad.numpy()

        return loss

    def optax(self):
        import jax
        import optax

        def mean(logits, labels):
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        both = jax.jit(jax.value_and_grad(mean))
        logits, labels = jax.numpy.asarray(self.logits), jax.numpy.asarray(self.labels)
        return lambda: jax.block_until_ready(both(logits, labels))

    def numpy(self):
        rows = np.arange(len(self.labels))

        def loss():
            gradient = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
            gradient /= gradient.sum(axis=1, keepdims=True)
            value = -np.log(gradient[rows, self.labels]).mean()
            gradient[rows, self.labels] -= 1
            gradient /= len(rows)
            return value, gradient

        return loss

    def prepare(self):
        """Nothing: the logits stay."""

    def iterate(self):
        self.loss()

    def check(self):
        """Whether value and gradient are those of the formula in float64."""
        value, gradient = self.loss()
        x = self.logits.astype(np.float64)
        x -= x.max(axis=1, keepdims=True)
        rows, sums = np.arange(len(x)), np.exp(x).sum(axis=1)
        wanted = np.exp(x) / sums[:, None]
        wanted[rows, self.labels] -= 1
        right = float((np.log(sums) - x[rows, self.labels]).mean())
        off = np.abs(np.asarray(gradient) * len(x) - wanted).max()
        return bool(off < self.TOLERANCE and abs(float(value) / right - 1) < self.TOLERANCE)

    def info(self):
        return {}
