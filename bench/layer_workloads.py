"""Workloads of layers: forward and backward. They are built and run in a worker."""

from __future__ import annotations

import numpy as np

from fastopt._bench.workloads import Workload, normal_values


class Dropout(Workload):
    """Dropout with p = 0.5, forward and backward."""

    def __init__(self, name, size):
        self.x, self.gradient = normal_values((size,), 0, 1.0), normal_values((size,), 1, 1.0)
        self.call = getattr(self, name)()

    def fastopt(self):
        from fastopt import layers

        self.step = 0

        def both():
            self.step += 1
            return (
                layers.dropout(self.x, 0.5, seed=1, step=self.step),
                layers.dropout(self.gradient, 0.5, seed=1, step=self.step),
            )

        return both

    def torch(self):
        import torch

        leaf, gradient = torch.from_numpy(self.x).requires_grad_(), torch.from_numpy(self.gradient)

        def both():
            leaf.grad = None
            y = torch.nn.functional.dropout(leaf, 0.5, training=True)
            y.backward(gradient)
            return y.detach().numpy(), leaf.grad.numpy()

        return both

    def numpy(self):
        rng = np.random.default_rng(0)

        def both():
            keep = (rng.random(self.x.size, np.float32) >= 0.5) * np.float32(2)
            return self.x * keep, self.gradient * keep

        return both

    def check(self):
        """Return whether forward and backward drop the same half and double the rest."""
        y, back = self.call()
        kept = y != 0
        forward = np.array_equal(y[kept], 2 * self.x[kept])
        backward = np.array_equal(back, np.where(kept, 2 * self.gradient, 0))
        return bool(forward and backward and abs(kept.mean() - 0.5) < 5 * 0.5 / self.x.size**0.5)


class BatchNorm(Workload):
    """Batch norm in training, forward and backward; images are channels-last."""

    TOLERANCE = 1e-3  # values near 1; NumPy adds 200,704 float32 values one after the other

    def __init__(self, name, shape):
        self.shape, columns = shape, shape[-1]
        self.x, self.gradient = normal_values(shape, 0, 2.0) + np.float32(1), normal_values(shape, 1, 1.0)
        self.weight, self.bias = normal_values((columns,), 2, 1.0), normal_values((columns,), 3, 1.0)
        self.mean, self.var = np.zeros(columns, np.float32), np.ones(columns, np.float32)
        self.call = getattr(self, name.replace(" ", "_"))()

    def fastopt(self):
        from fastopt import layers

        def both():
            y, cache = layers.batch_norm(self.x, self.weight, self.bias, self.mean, self.var)
            return y, *layers.batch_norm_backward(self.gradient, cache)

        return both

    def torch_with_layout(self, as_images):
        import torch

        # The same memory, in PyTorch's channels-last format
        x, gradient = (as_images(torch.from_numpy(a)) for a in (self.x, self.gradient))
        leaf = x.requires_grad_()
        weight, bias = (torch.from_numpy(a).requires_grad_() for a in (self.weight, self.bias))
        mean, var = torch.from_numpy(self.mean), torch.from_numpy(self.var)

        def both():
            leaf.grad = weight.grad = bias.grad = None
            y = torch.nn.functional.batch_norm(leaf, mean, var, weight, bias, training=True)
            y.backward(gradient)
            return y, leaf.grad, weight.grad, bias.grad

        return both

    def torch(self):
        return self.torch_with_layout(lambda x: x.movedim(-1, 1) if x.ndim > 2 else x)

    def torch_channels_first(self):
        return self.torch_with_layout(lambda x: x.movedim(-1, 1).contiguous())

    def numpy(self):
        def both():
            axes = tuple(range(self.x.ndim - 1))
            mean, var = self.x.mean(axes), self.x.var(axes)
            inverse = 1 / np.sqrt(var + np.float32(1e-5))
            normalized = (self.x - mean) * inverse
            y = normalized * self.weight + self.bias
            rows = self.x.size // self.x.shape[-1]
            dbias, dweight = self.gradient.sum(axes), (self.gradient * normalized).sum(axes)
            dx = (self.gradient - dbias / rows - normalized * (dweight / rows)) * (self.weight * inverse)
            return y, dx, dweight, dbias

        return both

    def check(self):
        """Return whether the result and the gradient of x agree with the formula in float64."""
        y, dx, _, _ = self.call()
        if not isinstance(y, np.ndarray):
            y, dx = (a.detach().movedim(1, -1).numpy() if a.ndim > 2 else a.detach().numpy() for a in (y, dx))
        x, g = self.x.reshape(-1, self.shape[-1])[:, :2].astype(float), self.gradient.reshape(-1, self.shape[-1])[:, :2]
        normalized = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        expected = normalized * self.weight[:2] + self.bias[:2]
        scale = self.weight[:2] / np.sqrt(x.var(0) + 1e-5)
        back = scale * (g - g.mean(0) - normalized * (g * normalized).mean(0))
        errors = [np.abs(a.reshape(-1, self.shape[-1])[:, :2] - b).max() for a, b in ((y, expected), (dx, back))]
        return bool(max(errors) < self.TOLERANCE)
