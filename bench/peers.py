"""Adam as implemented by fastopt and by each peer, with one interface; SGD and Adagrad by some.

A peer is created from lists of NumPy arrays, the parameters and their gradients, as in a training loop written in
NumPy. ``step()`` does a step, ``read()`` returns the parameters as NumPy arrays. Peers that can work on this memory do
so. All use their own defaults, which are the same values everywhere. A peer that is not installed raises `ImportError`.
"""

from __future__ import annotations

import numpy as np

SGD_LR = 1e3  # the gradients are so small that Adam's epsilon affects the result
ADAGRAD = {"rule": "adagrad", "options": [{}] * 3}


class Peer:
    max_ulp = 4  # allowed deviation from the formula after three steps, each of which rounds a few times

    def __init__(self, params, grads):
        self.params, self.grads, self.steps = params, grads, 0

    def read(self):
        return self.params

    def formula(self):
        """Return the rule and its options in each of the first three steps."""
        return {"rule": "adam", "options": [{}] * 3}

    def info(self):
        return {}


class Fastopt(Peer):
    max_ulp = 0

    def __init__(self, params, grads):
        super().__init__(params, grads)
        self.optimizer = self.make(params)

    def make(self, params):
        import fastopt

        return fastopt.Adam(params)

    def step(self):
        self.optimizer.step(self.grads)

    def info(self):
        return {"threads": self.optimizer.execution_info()["threads"]}


class FastoptOpenMP(Fastopt):
    """The OpenMP threading layer instead of fastopt's own thread pool."""

    def make(self, params):
        import fastopt

        try:
            fastopt.set_threading_layer("openmp")
        except Exception as error:
            raise ImportError(f"the OpenMP layer is not available: {error}") from None
        return super().make(params)


class FastoptFlat(Fastopt):
    """All parameters in one buffer."""

    def __init__(self, params, grads):
        import fastopt

        flat = fastopt.Flat({str(i): param for i, param in enumerate(params)})
        flat_grads = fastopt.Flat({str(i): grad for i, grad in enumerate(grads)})
        Peer.__init__(self, list(flat.values()), flat_grads)
        self.optimizer = self.make(flat)


class FastoptSGD(FastoptFlat):
    """The optimizer with the least arithmetic, which leaves the cost of a call."""

    def make(self, params):
        import fastopt

        return fastopt.SGD(params, lr=SGD_LR)

    def formula(self):
        return {"rule": "sgd", "options": [{"lr": SGD_LR}] * 3}


class FastoptAdagrad(Fastopt):
    def make(self, params):
        import fastopt

        return fastopt.Adagrad(params)

    def formula(self):
        return ADAGRAD


class TensorWise(Peer):
    """A function that is called for each tensor with parameter, gradient and states."""

    states = 2

    def __init__(self, params, grads):
        super().__init__(params, grads)
        states = [[np.zeros_like(param) for _ in range(self.states)] for param in params]
        self.tensors = [(p, g, *s) for p, g, s in zip(params, grads, states, strict=True)]
        self.adam = self.function()

    def coefficients(self):
        return {"step": self.steps}

    def step(self):
        self.steps += 1
        coefficients = self.coefficients()
        for tensor in self.tensors:
            self.adam(*tensor, **coefficients)


class FastoptKernels(TensorWise):
    """``fastopt.kernels``, which checks and prepares each call."""

    max_ulp = 0

    def function(self):
        from fastopt.kernels import adam

        return adam


class NumPyReference(TensorWise):
    """``fastopt.reference``, which is written to be read."""

    def function(self):
        from fastopt.reference import adam

        return adam


class Torch(Peer):
    """PyTorch's default, which is the loop over tensors on the CPU."""

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


class TorchFused(Torch):
    options = {"fused": True}  # noqa: RUF012


class TorchForeach(Torch):
    options = {"foreach": True}  # noqa: RUF012


class TorchSGD(Torch):
    """PyTorch's fused SGD."""

    def make(self, optim, tensors):
        return optim.SGD(tensors, lr=SGD_LR, fused=True)

    def formula(self):
        return {"rule": "sgd", "options": [{"lr": SGD_LR}] * 3}


class TorchAdagrad(Torch):
    """PyTorch's fused Adagrad."""

    def make(self, optim, tensors):
        return optim.Adagrad(tensors, fused=True)

    def formula(self):
        return ADAGRAD


def deepspeed_adam(*arguments, **options):
    """Return a DeepSpeedCPUAdam. It compiles its kernel for this machine at first use."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    try:
        return DeepSpeedCPUAdam(*arguments, **options)
    except Exception as error:  # any error of the build
        raise ImportError(f"CPUAdam does not build: {error}") from None


class DeepSpeed(Torch):
    """CPUAdam, one call per tensor."""

    def make(self, optim, tensors):
        return deepspeed_adam(tensors, adamw_mode=False)


class Optax(Peer):
    """optax under jit, with donated buffers.

    JAX's arrays are immutable and live in its own memory. Gradients are passed in each step, and ``read`` returns
    views, which must be released before the next step; otherwise JAX copies.
    """

    def __init__(self, params, grads):
        super().__init__(params, grads)
        import jax
        import optax

        optimizer = self.make(optax)

        def update(params, state, grads):
            changes, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, changes), state

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.wait = jax.block_until_ready
        self.params = [jax.numpy.array(param) for param in params]
        self.state = optimizer.init(self.params)

    def make(self, optax):
        return optax.adam(1e-3)

    def step(self):
        self.params, self.state = self.wait(self.update(self.params, self.state, self.grads))

    def read(self):
        return [np.asarray(param) for param in self.params]


class OptaxAdagrad(Optax):
    """Without epsilon, which optax adds inside the root."""

    def make(self, optax):
        return optax.adagrad(1e-2, initial_accumulator_value=0.0, eps=0.0)

    def formula(self):
        return {**ADAGRAD, "options": [{"eps": 0.0}] * 3}


class ScikitLearn(Peer):
    """The optimizer of MLPClassifier: NumPy, with epsilon added before the bias correction."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

        self.optimizer = AdamOptimizer(params)

    def step(self):
        self.optimizer.update_params(self.params, self.grads)

    def formula(self):
        return {"rule": "adam", "options": [{"eps_hat": True}] * 3}


class NumPyOut(TensorWise):
    """NumPy as an expert would write it: every result goes into memory that is already allocated."""

    states = 4  # two of them are scratch

    def coefficients(self):
        step_size, inv_sqrt_bias2 = 1e-3 / (1 - 0.9**self.steps), (1 - 0.999**self.steps) ** -0.5
        return {"step_size": np.float32(step_size), "inv_sqrt_bias2": np.float32(inv_sqrt_bias2)}

    def function(self):
        def adam(p, g, m, v, scratch, update, step_size, inv_sqrt_bias2):
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


class NumPyAdagrad(TensorWise):
    """The same for Adagrad."""

    states = 3  # two of them are scratch

    def coefficients(self):
        return {}

    def function(self):
        def adagrad(p, g, s, scratch, update):
            np.multiply(g, g, out=scratch)
            np.add(s, scratch, out=s)
            np.sqrt(s, out=scratch)
            np.add(scratch, np.float32(1e-10), out=scratch)
            np.multiply(g, np.float32(1e-2), out=update)
            np.divide(update, scratch, out=update)
            np.subtract(p, update, out=p)

        return adagrad

    def formula(self):
        return ADAGRAD


class Numba(NumPyOut):
    """The formula as a user would write it with ``prange``, tensor by tensor."""

    states = 2

    def function(self):
        import numba

        @numba.njit(parallel=True)
        def adam(param, grad, exp_avg, exp_avg_sq, step_size, inv_sqrt_bias2):
            beta1, beta2 = np.float32(0.9), np.float32(0.999)
            for i in numba.prange(param.size):
                g = grad[i]
                m = beta1 * exp_avg[i] + (np.float32(1) - beta1) * g
                v = beta2 * exp_avg_sq[i] + (np.float32(1) - beta2) * g * g
                exp_avg[i] = m
                exp_avg_sq[i] = v
                param[i] -= step_size * m / (inv_sqrt_bias2 * np.sqrt(v) + np.float32(1e-8))

        self.tensors = [tuple(array.reshape(-1) for array in tensor) for tensor in self.tensors]
        return adam


FASTOPT = ["fastopt", "fastopt 1 thread"]  # the defaults, and one fixed thread
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
ADAGRADS = {
    "fastopt Adagrad": FastoptAdagrad,
    "torch fused Adagrad": TorchAdagrad,
    "optax Adagrad": OptaxAdagrad,
    "NumPy out= Adagrad": NumPyAdagrad,
}
ALL = {
    "fastopt": Fastopt,
    "fastopt Flat": FastoptFlat,
    "fastopt kernels": FastoptKernels,
    "fastopt OpenMP": FastoptOpenMP,
    "fastopt SGD": FastoptSGD,
    "torch SGD": TorchSGD,
    **PEERS,
    **ADAGRADS,
}
