"""What tensors and hyperparameters a step can use, and the errors for others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt.optimizers._param_groups import CHECKS

REFUSED = ("capturable", "differentiable")  # flags of PyTorch for what fastopt cannot do

Groups: TypeAlias = list[dict[str, Any]]


def hyperparameters(label: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those values that are hyperparameters of fastopt, checked; ``label`` formats a name for errors."""
    for name in REFUSED:
        if values.get(name):
            raise ValueError(f"{label.format(name)} must be False, got {values[name]!r}")
    return {
        name: CHECKS[name](label.format(name), without_tensors(value))
        for name, value in values.items()
        if name in CHECKS
    }


def without_tensors(value: Any) -> Any:
    """Return a hyperparameter with numbers in place of tensors of one element."""
    if isinstance(value, tuple):
        return tuple(map(without_tensors, value))
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def has_tensors(value: Any) -> bool:
    """Return whether a hyperparameter is a tensor or contains one, so that it can change in place."""
    return any(map(has_tensors, value)) if isinstance(value, tuple) else isinstance(value, Tensor)


def array_of(name: str, tensor: Tensor) -> Array:
    """Return an array that shares the memory of a tensor, or raise."""
    if tensor.device.type != "cpu":
        raise TypeError(f"{name} must be a tensor on the CPU, got device {str(tensor.device)!r}")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must have dtype float32 or float64, got {tensor.dtype}")
    if tensor.is_inference():
        raise TypeError(f"{name} must be a tensor that autograd tracks, got one made in inference mode")
    array: Array = tensor.detach().numpy()
    return array


def arrays_of(groups: Groups) -> list[list[Array]]:
    """Return arrays that share the memory of the parameters of each group, or raise."""
    paths = [[f"params{path}" for path in own] for own in paths_of(groups)]
    arrays = [[*map(array_of, own, group["params"])] for own, group in zip(paths, groups, strict=True)]
    _core.check_no_overlap([*chain.from_iterable(arrays)], [*chain.from_iterable(paths)])
    return arrays


def paths_of(groups: Groups) -> list[list[str]]:
    """Return the places of the parameters in their groups, for errors: ``[0][3]``."""
    return [[f"[{g}][{i}]" for i in range(len(group["params"]))] for g, group in enumerate(groups)]


def steps_of(where: str, saved: Mapping[str, Any]) -> int:
    """Return the number of steps of a parameter from its entry in ``optimizer.state``.

    PyTorch's SGD does not count them. Only its first step differs from the others, after which there is a buffer.
    """
    steps = float(saved.get("step", saved.get("momentum_buffer") is not None))
    if not (steps >= 0 and steps.is_integer()):
        raise ValueError(f"{where}['step'] must be a number of steps, got {steps}")
    return int(steps)
