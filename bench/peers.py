"""More peers than `fastopt._bench.peers` has: other interfaces and settings of Adam, and SGD and Adagrad by some."""

from __future__ import annotations

import numpy as np
from memory_bound import MemoryBound

import fastopt
from fastopt._bench.peers import DeepSpeed, Fastopt, Numba, NumPyOut, Optax, Peer, TensorWise, Torch, TorchFused

SGD_LR = 1e3  # the gradients are so small that Adam's epsilon affects the result
ADAGRAD = {"rule": "adagrad", "options": [{}] * 3}


class FastoptOpenMP(Fastopt):
    """The OpenMP threading layer instead of fastopt's own thread pool."""

    def make(self, params):
        try:
            fastopt.set_threading_layer("openmp")
        except Exception as error:
            raise ImportError(f"the OpenMP layer is not available: {error}") from None
        return super().make(params)


class FastoptFlat(Fastopt):
    """All parameters in one buffer."""

    def __init__(self, params, grads):
        flat = fastopt.Flat({str(i): param for i, param in enumerate(params)})
        flat_grads = fastopt.Flat({str(i): grad for i, grad in enumerate(grads)})
        Peer.__init__(self, list(flat.values()), flat_grads)
        self.optimizer = self.make(flat)


class FastoptSGD(FastoptFlat):
    """The optimizer with the least arithmetic, which leaves the cost of a call."""

    def make(self, params):
        return fastopt.SGD(params, lr=SGD_LR)

    def formula(self):
        return {"rule": "sgd", "options": [{"lr": SGD_LR}] * 3}


class FastoptAdagrad(Fastopt):
    def make(self, params):
        return fastopt.Adagrad(params)

    def formula(self):
        return ADAGRAD


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


class NumPyAdagrad(TensorWise):
    """Adagrad in NumPy, with results in memory that is already allocated."""

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
    "memory bound": MemoryBound,
    "fastopt": Fastopt,
    "fastopt Flat": FastoptFlat,
    "fastopt kernels": FastoptKernels,
    "fastopt OpenMP": FastoptOpenMP,
    "fastopt SGD": FastoptSGD,
    "torch SGD": TorchSGD,
    **PEERS,
    **ADAGRADS,
}
