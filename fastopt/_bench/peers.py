"""Adam as implemented by fastopt and by each peer, with one interface.

A peer is created from lists of NumPy arrays, the parameters and their gradients, as in a training loop written in
NumPy. ``step()`` does a step, ``read()`` returns the parameters as NumPy arrays. Peers that can work on this memory do
so. All use their own defaults, which are the same values everywhere. A peer that is not installed raises `ImportError`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, TypeAlias

import numpy as np

import fastopt
from fastopt._util.arrays import Array

Arrays: TypeAlias = list[Array]


class Peer:
    """Base class of all peers."""

    max_ulp = 4  # allowed deviation from the formula after three steps, each of which rounds a few times

    def __init__(self, params: Arrays, grads: Arrays) -> None:
        self.params, self.grads, self.steps = params, grads, 0

    def step(self) -> None:
        """Do a step."""
        raise NotImplementedError

    def read(self) -> Arrays:
        """Return the parameters."""
        return self.params

    def formula(self) -> dict[str, Any] | None:
        """Return the rule and its options in each of the first three steps, or None if there is nothing to validate."""
        return {"rule": "adam", "options": [{}] * 3}

    def info(self) -> dict[str, Any]:
        """Return facts such as the number of threads."""
        return {}


class Fastopt(Peer):
    """fastopt's Adam."""

    max_ulp = 0

    def __init__(self, params: Any, grads: Any) -> None:
        super().__init__(params, grads)
        self.optimizer = self.make(params)

    def make(self, params: Any) -> fastopt.Optimizer:
        """Return the optimizer."""
        return fastopt.Adam(params)

    def step(self) -> None:
        self.optimizer.step(self.grads)

    def info(self) -> dict[str, Any]:
        return {"threads": self.optimizer.execution_info()["threads"]}


class SameTraffic(Fastopt):
    """Adam's reads and writes without its square root and division, on fastopt's threads.

    SGD with momentum and a weight average reads four arrays and writes three, 28 bytes per parameter, as Adam does, and
    only multiplies and adds. It is the bound that memory sets to large steps; no compiler is needed to measure it.
    """

    def make(self, params: Any) -> fastopt.Optimizer:
        return fastopt.SGD(params, momentum=0.9, ema_decay=0.999)

    def formula(self) -> None:
        return None


class Torch(Peer):
    """PyTorch's default, which is the loop over tensors on the CPU."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, params: Arrays, grads: Arrays) -> None:
        super().__init__(params, grads)
        torch = import_module("torch")
        tensors = [torch.from_numpy(param).requires_grad_() for param in params]
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.from_numpy(grad)
        self.optimizer = self.make(torch.optim, tensors)

    def make(self, optim: Any, tensors: list[Any]) -> Any:
        """Return the optimizer, where ``optim`` is ``torch.optim``."""
        return optim.Adam(tensors, **self.options)

    def step(self) -> None:
        self.optimizer.step()


class TorchFused(Torch):
    """PyTorch's fused kernel."""

    options: ClassVar[dict[str, Any]] = {"fused": True}


def deepspeed_adam(*arguments: Any, **options: Any) -> Any:
    """Return a DeepSpeedCPUAdam. It compiles its kernel for this machine at first use."""
    adam = import_module("deepspeed.ops.adam")
    try:
        return adam.DeepSpeedCPUAdam(*arguments, **options)
    except Exception as error:  # any error of the build
        raise ImportError(f"CPUAdam does not build: {error}") from None


class DeepSpeed(Torch):
    """CPUAdam, one call per tensor."""

    def make(self, optim: Any, tensors: list[Any]) -> Any:
        return deepspeed_adam(tensors, adamw_mode=False)


class Optax(Peer):
    """optax under jit, with donated buffers.

    JAX's arrays are immutable and live in its own memory. Gradients are passed in each step, and ``read`` returns
    views, which must be released before the next step; otherwise JAX copies.
    """

    def __init__(self, params: Arrays, grads: Arrays) -> None:
        super().__init__(params, grads)
        jax, optax = import_module("jax"), import_module("optax")
        optimizer = self.make(optax)

        def update(params: Any, state: Any, grads: Any) -> Any:
            changes, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, changes), state

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.wait = jax.block_until_ready
        self.params = [jax.numpy.array(param) for param in params]
        self.state = optimizer.init(self.params)

    def make(self, optax: Any) -> Any:
        """Return the transformation of gradients."""
        return optax.adam(1e-3)

    def step(self) -> None:
        self.params, self.state = self.wait(self.update(self.params, self.state, self.grads))

    def read(self) -> Arrays:
        return [np.asarray(param) for param in self.params]


class TensorWise(Peer):
    """A function that is called for each tensor with parameter, gradient and states."""

    states = 2

    def __init__(self, params: Arrays, grads: Arrays) -> None:
        super().__init__(params, grads)
        states = [[np.zeros_like(param) for _ in range(self.states)] for param in params]
        self.tensors = [(p, g, *s) for p, g, s in zip(params, grads, states, strict=True)]
        self.update = self.function()

    def function(self) -> Callable[..., object]:
        """Return the function."""
        raise NotImplementedError

    def coefficients(self) -> dict[str, Any]:
        """Return the arguments that are the same for all tensors."""
        return {"step": self.steps}

    def step(self) -> None:
        self.steps += 1
        coefficients = self.coefficients()
        for tensor in self.tensors:
            self.update(*tensor, **coefficients)


class NumPyOut(TensorWise):
    """NumPy as an expert would write it: every result goes into memory that is already allocated."""

    states = 4  # two of them are scratch

    def coefficients(self) -> dict[str, Any]:
        step_size, inv_sqrt_bias2 = 1e-3 / (1 - 0.9**self.steps), (1 - 0.999**self.steps) ** -0.5
        return {"step_size": np.float32(step_size), "inv_sqrt_bias2": np.float32(inv_sqrt_bias2)}

    def function(self) -> Callable[..., object]:
        def adam(
            p: Array, g: Array, m: Array, v: Array, scratch: Array, update: Array, step_size: Any, inv_sqrt_bias2: Any
        ) -> None:
            np.multiply(m, np.float32(0.9), out=m)
            np.multiply(g, np.float32(0.1), out=scratch)
            np.add(m, scratch, out=m)
            np.multiply(v, np.float32(0.999), out=v)
            np.multiply(g, g, out=scratch)
            np.multiply(scratch, np.float32(1 - 0.999), out=scratch)
            np.add(v, scratch, out=v)
            np.sqrt(v, out=scratch)
            np.multiply(scratch, inv_sqrt_bias2, out=scratch)
            np.add(scratch, np.float32(1e-8), out=scratch)
            np.multiply(m, step_size, out=update)
            np.divide(update, scratch, out=update)
            np.subtract(p, update, out=p)

        return adam


class Numba(NumPyOut):
    """The formula as a user would write it with ``prange``, tensor by tensor."""

    states = 2

    def function(self) -> Callable[..., object]:
        numba: Any = import_module("numba")

        def adam(
            param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, step_size: Any, inv_sqrt_bias2: Any
        ) -> None:
            beta1, beta2 = np.float32(0.9), np.float32(0.999)
            for i in numba.prange(param.size):
                g = grad[i]
                m = beta1 * exp_avg[i] + (np.float32(1) - beta1) * g
                v = beta2 * exp_avg_sq[i] + (np.float32(1) - beta2) * g * g
                exp_avg[i] = m
                exp_avg_sq[i] = v
                param[i] -= step_size * m / (inv_sqrt_bias2 * np.sqrt(v) + np.float32(1e-8))

        self.tensors = [tuple(array.reshape(-1) for array in tensor) for tensor in self.tensors]
        compiled: Callable[..., object] = numba.njit(parallel=True)(adam)
        return compiled


PEERS: dict[str, type[Peer]] = {
    "fastopt": Fastopt,
    "memory bound": SameTraffic,
    "torch fused": TorchFused,
    "torch default": Torch,
    "DeepSpeed": DeepSpeed,
    "optax": Optax,
    "numba": Numba,
    "NumPy out=": NumPyOut,
}
