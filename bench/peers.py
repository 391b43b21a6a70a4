"""Adam as each peer has it, with one face: made from parameters and gradients, ``step()``, ``read()``.

Gradients and parameters are lists of NumPy arrays, as a training loop in NumPy has them. Who can works on this memory;
``read`` gives the parameters back as NumPy arrays. All have their own defaults, which are the same numbers everywhere.
A peer that is not installed raises ``ImportError``; its extra in pyproject.toml brings it.
"""

from __future__ import annotations

import numpy as np

SGD_RATE = 1e3  # for gradients so small that Adam's epsilon is seen


class Peer:
    """What all have."""

    def __init__(self, params, grads):
        self.params, self.grads = params, grads

    def read(self):
        return self.params

    def formula(self):
        """What the formula needs: for Adam, what stands beside the root corrected for bias, in three steps."""
        return {"epsilons": [1e-8] * 3}

    def info(self):
        return {}


class Fastopt(Peer):
    def __init__(self, params, grads):
        super().__init__(params, grads)
        self.optimizer = self.make(params)

    def make(self, params):
        import fastopt

        return fastopt.Adam(params)

    def step(self):
        self.optimizer.step(self.grads)

    def info(self):
        return {"plan": self.optimizer.execution_info()}


class FastoptFlat(Fastopt):
    """The same in one buffer."""

    def __init__(self, params, grads):
        import fastopt

        flat = fastopt.Flat({str(i): param for i, param in enumerate(params)})
        flat_grads = fastopt.Flat({str(i): grad for i, grad in enumerate(grads)})
        Peer.__init__(self, list(flat.values()), flat_grads)
        self.optimizer = self.make(flat)


class FastoptSGD(FastoptFlat):
    """The optimizer with the least to compute: what is left is the cost of a call."""

    def make(self, params):
        import fastopt

        return fastopt.SGD(params, lr=SGD_RATE)

    def formula(self):
        return {"lr": SGD_RATE}


class FastoptBare(Peer):
    """The bare call, tensor by tensor."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        from fastopt import kernels

        self.adam, self.steps = kernels.adam, 0
        self.tensors = [(p, g, np.zeros_like(p), np.zeros_like(p)) for p, g in zip(params, grads, strict=True)]

    def step(self):
        self.steps += 1
        for tensor in self.tensors:
            self.adam(*tensor, step=self.steps)


class Torch(Peer):
    """PyTorch's default: it chooses among its implementations, on the CPU the plain loop over tensors."""

    options: dict = {}  # noqa: RUF012

    def __init__(self, params, grads):
        super().__init__(params, grads)
        import torch

        tensors = [torch.from_numpy(param).requires_grad_() for param in params]
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.from_numpy(grad)
        self.optimizer = self.make(torch.optim, tensors)

    def make(self, optim, tensors):
        return optim.Adam(tensors, **self.options)

    def step(self):
        self.optimizer.step()


class TorchSGD(Torch):
    """The fused one."""

    def make(self, optim, tensors):
        return optim.SGD(tensors, lr=SGD_RATE, fused=True)

    def formula(self):
        return {"lr": SGD_RATE}


class TorchFused(Torch):
    options = {"fused": True}  # noqa: RUF012


class TorchForeach(Torch):
    options = {"foreach": True}  # noqa: RUF012


class DeepSpeed(Peer):
    """CPUAdam, built for this machine when it is first used; one call for each tensor."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        import torch
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        tensors = [torch.nn.Parameter(torch.from_numpy(param)) for param in params]
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.from_numpy(grad)
        try:
            self.optimizer = DeepSpeedCPUAdam(tensors, adamw_mode=False)
        except Exception as error:  # whatever its build says
            raise ImportError(f"CPUAdam doesn't build: {error}") from None

    def step(self):
        self.optimizer.step()


class Optax(Peer):
    """Under jit, with donated buffers. Its arrays are immutable, so parameters live on its side: gradients are handed
    over in each step, and ``read`` gives views, which must be gone before the next step or it has to copy."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        import jax
        import optax

        optimizer = optax.adam(1e-3)

        def update(params, state, grads):
            changes, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, changes), state

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.wait = jax.block_until_ready
        self.held = [jax.numpy.array(param) for param in params]
        self.state = optimizer.init(self.held)

    def step(self):
        self.held, self.state = self.wait(self.update(self.held, self.state, self.grads))

    def read(self):
        return [np.asarray(param) for param in self.held]


class Numba(Peer):
    """The formula as a user would write it with ``prange``, tensor by tensor."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        import numba

        @numba.njit(parallel=True)
        def adam(param, grad, exp_avg, exp_avg_sq, rate, root):
            beta1, beta2 = np.float32(0.9), np.float32(0.999)
            for i in numba.prange(param.size):
                g = grad[i]
                m = beta1 * exp_avg[i] + (np.float32(1) - beta1) * g
                v = beta2 * exp_avg_sq[i] + (np.float32(1) - beta2) * g * g
                exp_avg[i] = m
                exp_avg_sq[i] = v
                param[i] -= rate * m / (root * np.sqrt(v) + np.float32(1e-8))

        self.adam, self.steps = adam, 0
        flat = [(p.reshape(-1), g.reshape(-1)) for p, g in zip(params, grads, strict=True)]
        self.tensors = [(p, g, np.zeros_like(p), np.zeros_like(p)) for p, g in flat]

    def step(self):
        self.steps += 1
        rate = np.float32(1e-3 / (1 - 0.9**self.steps))
        root = np.float32((1 - 0.999**self.steps) ** -0.5)
        for tensor in self.tensors:
            self.adam(*tensor, rate, root)


class ScikitLearn(Peer):
    """What its MLPClassifier uses; NumPy, with epsilon inside the bias correction."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

        self.optimizer = AdamOptimizer(params)

    def step(self):
        self.optimizer.update_params(self.params, self.grads)

    def formula(self):
        return {"epsilons": [1e-8 / (1 - 0.999**step) ** 0.5 for step in (1, 2, 3)]}


class NumPyReference(Peer):
    """``fastopt.reference``, which is written to be read."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        from fastopt import reference

        self.adam, self.steps = reference.adam, 0
        self.tensors = [(p, g, np.zeros_like(p), np.zeros_like(p)) for p, g in zip(params, grads, strict=True)]

    def step(self):
        self.steps += 1
        for tensor in self.tensors:
            self.adam(*tensor, step=self.steps)


class NumPyOut(Peer):
    """As an expert would write it in NumPy: every result goes into memory that is there already."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        self.steps = 0
        self.tensors = [(p, g, *(np.zeros_like(p) for _ in range(4))) for p, g in zip(params, grads, strict=True)]

    def step(self):
        self.steps += 1
        rate = np.float32(1e-3 / (1 - 0.9**self.steps))
        root = np.float32((1 - 0.999**self.steps) ** -0.5)
        for p, g, m, v, scratch, update in self.tensors:
            np.multiply(m, np.float32(0.9), out=m)
            np.multiply(g, np.float32(0.1), out=scratch)
            np.add(m, scratch, out=m)
            np.multiply(v, np.float32(0.999), out=v)
            np.multiply(g, g, out=scratch)
            np.multiply(scratch, np.float32(1 - 0.999), out=scratch)
            np.add(v, scratch, out=v)
            np.sqrt(v, out=scratch)
            np.multiply(scratch, root, out=scratch)
            np.add(scratch, np.float32(1e-8), out=scratch)
            np.multiply(m, rate, out=update)
            np.divide(update, scratch, out=update)
            np.subtract(p, update, out=p)


PEERS = {
    "torch fused": TorchFused,
    "torch default": Torch,
    "torch foreach": TorchForeach,
    "DeepSpeed": DeepSpeed,
    "optax": Optax,
    "numba": Numba,
    "scikit-learn": ScikitLearn,
    "reference": NumPyReference,
    "NumPy out=": NumPyOut,
}
OURS = {
    "fastopt": Fastopt,
    "fastopt Flat": FastoptFlat,
    "fastopt bare": FastoptBare,
    "fastopt 1": Fastopt,
    "fastopt 2": Fastopt,
    "fastopt SGD": FastoptSGD,
}
SGD_PEERS = {"torch SGD": TorchSGD}
ALL = {**OURS, **PEERS, **SGD_PEERS}

# The number of threads that a name says, and workers that sleep, as fastopt's do, for the wall.
ENVIRONMENTS = {
    "fastopt 1": {"FASTOPT_NUM_THREADS": "1"},
    "fastopt 2": {"FASTOPT_NUM_THREADS": "2"},
    "wall 2": {"OMP_WAIT_POLICY": "passive"},
    "DeepSpeed": {"DS_ACCELERATOR": "cpu"},
}
