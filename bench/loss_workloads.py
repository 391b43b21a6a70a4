"""Workloads of losses: value and gradient. They are built and run in a worker."""

from __future__ import annotations

import numpy as np

from fastopt._bench.workloads import Workload, normal_values


class Loss(Workload):
    """A loss of channels-last logits and integer labels, by the candidate's method."""

    def __init__(self, name, shape):
        self.logits = normal_values(shape, 0, 3.0)
        self.labels = np.random.default_rng(1).integers(0, shape[-1], shape[:-1])
        self.call = getattr(self, name.replace(" ", "_"))()

    def check(self):
        """Return whether value and gradient agree with the formula in float64."""
        value, grad = self.call()
        original, self.logits = self.logits, self.logits.astype(np.float64)
        expected_value, expected = self.numpy()()
        self.logits = original
        error = np.abs(np.asarray(grad) - expected).max() / np.abs(expected).max()
        return bool(error < self.TOLERANCE and abs(float(value) / expected_value - 1) < self.TOLERANCE)


class CrossEntropy(Loss):
    """Cross entropy, averaged over the rows."""

    TOLERANCE = 2e-5  # relative to the largest gradient, and for the value: sums of 50,257 terms in float32

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


class Dice(Loss):
    """Soft Dice loss, averaged over images and classes."""

    TOLERANCE = 1e-4  # relative to the largest gradient, and for the value: sums of 16,384 terms in float32

    def fastopt(self):
        from fastopt import losses

        return lambda: losses.dice(self.logits, self.labels)

    def torch(self, axis=-1):
        import torch

        leaf = torch.from_numpy(self.logits).movedim(-1, axis).contiguous().requires_grad_()
        labels, classes = torch.from_numpy(self.labels), leaf.shape[axis]
        axes = tuple(i for i in range(1, leaf.ndim) if i != axis % leaf.ndim)

        def loss():
            leaf.grad = None
            p = torch.softmax(leaf, axis)
            q = torch.nn.functional.one_hot(labels, classes).movedim(-1, axis)
            numerator, denominator = 2 * (p * q).sum(axes) + 1, p.sum(axes) + q.sum(axes) + 1
            value = (1 - numerator / denominator).mean()
            value.backward()
            return value.item(), leaf.grad.movedim(axis, -1).numpy()

        return loss

    def torch_channels_first(self):
        return self.torch(axis=1)

    def numpy(self):
        classes = np.arange(self.logits.shape[-1])
        axes = tuple(range(1, self.logits.ndim - 1))

        def loss():
            p = np.exp(self.logits - self.logits.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            q = (self.labels[..., None] == classes).astype(np.float32)
            numerator, denominator = 2 * (p * q).sum(axes, keepdims=True) + 1, (p + q).sum(axes, keepdims=True) + 1
            dp = (numerator / denominator**2 - 2 * q / denominator) / (numerator.size)
            return float((1 - numerator / denominator).mean()), p * (dp - (p * dp).sum(-1, keepdims=True))

        return loss
