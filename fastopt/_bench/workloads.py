"""The work that candidates do. It is built and run in a worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from fastopt._bench.peers import PEERS, Peer
from fastopt._util.arrays import Array, Shape

BLOCK = 2**20
SAMPLES = 50  # elements per tensor that are compared with the formula
GRAD_SCALE = 1e-6  # so small that epsilon affects the result


def normal_values(shape: Shape, seed: int, scale: float) -> Array:
    """Return normal float32 values that repeat every `BLOCK` elements, which is fast at any size."""
    block = np.random.default_rng(seed).standard_normal(min(BLOCK, math.prod(shape)), np.float32)
    return np.resize(np.float32(scale) * block, shape)


def sample(arrays: list[Array]) -> list[Array]:
    """Return copies of some elements of each array, spread evenly."""
    return [a.reshape(-1)[:: max(1, a.size // SAMPLES)].copy() for a in arrays]


class Workload:
    """Repeated calls of the function ``self.call``."""

    call: Callable[[], object]

    def prepare(self) -> None:
        """Restore the inputs that an iteration changes; not timed."""

    def iterate(self) -> None:
        """Do the work that is timed."""
        self.call()

    def check(self) -> Any:
        """Run a few steps and return the argument of `formulas.deviation` that validates them."""
        raise NotImplementedError

    def info(self) -> dict[str, Any]:
        """Return facts about the work, such as the number of threads."""
        return {}


class Steps(Workload):
    """Steps of an optimizer over tensors of the given shapes, always with the same gradients."""

    peers: ClassVar[Mapping[str, type[Peer]]] = PEERS

    def __init__(self, name: str, shapes: list[Shape]) -> None:
        params = [normal_values(shape, i, 1.0) for i, shape in enumerate(shapes)]
        grads = [normal_values(shape, 1000 + i, GRAD_SCALE) for i, shape in enumerate(shapes)]
        self.before = {"params": sample(params), "grads": sample(grads)}
        self.peer = self.peers[name](params, grads)
        self.call = self.peer.step

    def check(self) -> Any:
        """Do three steps and return the argument of `formulas.deviation`."""
        for _ in range(3):
            self.peer.step()
        formula = self.peer.formula()
        if formula is None:
            return True
        return self.peer.max_ulp, {**self.before, **formula, "after": sample(self.peer.read())}

    def info(self) -> dict[str, Any]:
        return self.peer.info()
