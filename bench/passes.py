"""Clip by the global norm, AdamW, weight average, zero the gradients: the fastest sequence of each peer.

``step()`` does all of it, ``read()`` returns parameters and averages.
"""

from __future__ import annotations

import math

import numpy as np

from fastopt._bench.peers import deepspeed_adam


class Pass:
    clip_epsilon = 1e-6  # added to the norm

    def __init__(self, params, grads, max_norm, ema_decay, weight_decay):
        self.params, self.grads = params, grads
        self.max_norm, self.ema_decay, self.weight_decay = max_norm, ema_decay, weight_decay
        self.make()

    def read(self):
        return self.params, self.averages


class Fastopt(Pass):
    def make(self):
        import fastopt

        options = {"max_grad_norm": self.max_norm, "ema_decay": self.ema_decay, "zero_grads": True}
        self.optimizer = fastopt.AdamW(self.params, weight_decay=self.weight_decay, **options)
        self.averages = list(self.optimizer.ema)

    def step(self):
        self.optimizer.step(self.grads)


class Torch(Pass):
    """One foreach call for each part, and the fused step."""

    def make(self):
        import torch

        self.torch = torch
        self.tensors = [torch.from_numpy(param).requires_grad_() for param in self.params]
        for tensor, grad in zip(self.tensors, self.grads, strict=True):
            tensor.grad = torch.from_numpy(grad)
        self.averages = [param.copy() for param in self.params]
        self.emas = [torch.from_numpy(average) for average in self.averages]
        self.optimizer = self.make_optimizer()

    def make_optimizer(self):
        return self.torch.optim.AdamW(self.tensors, lr=1e-3, weight_decay=self.weight_decay, fused=True)

    def step(self):
        self.torch.nn.utils.clip_grad_norm_(self.tensors, self.max_norm, foreach=True)
        self.optimizer.step()
        with self.torch.no_grad():
            self.torch._foreach_lerp_(self.emas, self.tensors, 1 - self.ema_decay)
        self.torch._foreach_zero_([tensor.grad for tensor in self.tensors])


class DeepSpeed(Torch):
    """PyTorch's sequence with CPUAdam as the step."""

    def make_optimizer(self):
        return deepspeed_adam(self.tensors, lr=1e-3, weight_decay=self.weight_decay, adamw_mode=True)


class Optax(Pass):
    """All in one jit. The gradients stay in NumPy, which zeroes them."""

    clip_epsilon = 0.0

    def make(self):
        import jax
        import optax

        adamw = optax.adamw(1e-3, weight_decay=self.weight_decay)
        optimizer = optax.chain(optax.clip_by_global_norm(self.max_norm), adamw)

        def update(params, state, averages, grads):
            changes, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, changes)
            return params, state, optax.incremental_update(params, averages, 1 - self.ema_decay)

        self.update, self.wait = jax.jit(update, donate_argnums=(0, 1, 2)), jax.block_until_ready
        params = [jax.numpy.array(param) for param in self.params]
        self.state = params, optimizer.init(params), [jax.numpy.array(param) for param in self.params]

    def step(self):
        self.state = self.wait(self.update(*self.state, self.grads))
        for grad in self.grads:
            grad.fill(0)

    def read(self):
        return tuple([np.asarray(array) for array in arrays] for arrays in (self.state[0], self.state[2]))


class Numba(Pass):
    """Two loops per tensor, written by hand: the sum of squares, then all the rest."""

    def make(self):
        import numba

        @numba.njit(parallel=True, fastmath={"reassoc", "nsz"})  # otherwise the sum is not vectorized
        def sum_squares(grad):
            total = 0.0
            for i in numba.prange(grad.size):
                total += np.float64(grad[i]) * np.float64(grad[i])
            return total

        @numba.njit(parallel=True)
        def adamw(param, grad, exp_avg, exp_avg_sq, ema, scale, param_decay, step_size, inv_sqrt_bias2, ema_weight):
            beta1, beta2 = np.float32(0.9), np.float32(0.999)
            for i in numba.prange(param.size):
                g = scale * grad[i]
                m = beta1 * exp_avg[i] + (np.float32(1) - beta1) * g
                v = beta2 * exp_avg_sq[i] + (np.float32(1) - beta2) * g * g
                exp_avg[i] = m
                exp_avg_sq[i] = v
                p = param_decay * param[i] - step_size * m / (inv_sqrt_bias2 * np.sqrt(v) + np.float32(1e-8))
                param[i] = p
                ema[i] += ema_weight * (p - ema[i])
                grad[i] = np.float32(0)

        self.sum_squares, self.adamw, self.steps = sum_squares, adamw, 0
        self.averages = [param.copy() for param in self.params]
        arrays = zip(self.params, self.grads, self.averages, strict=True)
        self.tensors = [
            (p.reshape(-1), g.reshape(-1), np.zeros(p.size, "f"), np.zeros(p.size, "f"), e.reshape(-1))
            for p, g, e in arrays
        ]

    def step(self):
        self.steps += 1
        norm = math.sqrt(sum(self.sum_squares(tensor[1]) for tensor in self.tensors))
        scale, param_decay = min(1.0, self.max_norm / (norm + 1e-6)), 1 - 1e-3 * self.weight_decay
        step_size, inv_sqrt_bias2 = 1e-3 / (1 - 0.9**self.steps), (1 - 0.999**self.steps) ** -0.5
        coefficients = [np.float32(x) for x in (scale, param_decay, step_size, inv_sqrt_bias2, 1 - self.ema_decay)]
        for tensor in self.tensors:
            self.adamw(*tensor, *coefficients)


class NumPyReference(Pass):
    """``fastopt.reference``, which is written to be read."""

    def make(self):
        from fastopt import reference

        self.whole_step, self.adam, self.steps = reference.whole_step, reference.adam, 0
        self.averages = [param.copy() for param in self.params]
        self.tensors = [
            {"param": p, "grad": g, "exp_avg": np.zeros_like(p), "exp_avg_sq": np.zeros_like(p), "ema": e}
            for p, g, e in zip(self.params, self.grads, self.averages, strict=True)
        ]
        self.options = {"max_grad_norm": self.max_norm, "ema_decay": self.ema_decay, "zero_grads": True}
        self.options |= {"weight_decay": self.weight_decay, "decoupled_weight_decay": True}

    def step(self):
        self.steps += 1
        self.whole_step(self.adam, self.tensors, step=self.steps, **self.options)


PASSES = {
    "fastopt": Fastopt,
    "torch": Torch,
    "DeepSpeed": DeepSpeed,
    "optax": Optax,
    "numba": Numba,
    "reference": NumPyReference,
}
