"""Parameter groups of an optimizer: parse what the user passed, allocate states, and make the plan."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array, aligned_zeros, check_representable, mapped_zeros, zeros_laid_out
from fastopt._util.validation import check_known
from fastopt.optimizers._param_groups import Group
from fastopt.optimizers._param_tree import ParamGroups, ParamTree
from fastopt.schedules._base import step_function

if TYPE_CHECKING:
    from fastopt.optimizers._base import Optimizer

SAFE_IN_FILE_NAMES = "[]' "  # besides letters, digits and -._~
ARGUMENTS = {"param": "params", "grad": "grads"}  # the users' names of these operands


def parse(cls: type[Optimizer], params: Any, defaults: Mapping[str, Any]) -> tuple[ParamTree, tuple[Group, ...]]:
    """Return parameters, which may be group dicts, as one tree and as groups."""
    if isinstance(params, (list, tuple)) and any(isinstance(group, Mapping) and "params" in group for group in params):
        groups = tuple(parse_group(cls, i, group, f"params[{i}]", defaults) for i, group in enumerate(params))
        return ParamGroups(groups), groups
    group = Group(cls, "", defaults, {"params": params})
    return group.tree, (group,)


def parse_group(cls: type[Optimizer], i: int, group: Any, where: str, defaults: Mapping[str, Any]) -> Group:
    """Return the i-th group from a group dict, called ``where`` in errors."""
    if not isinstance(group, Mapping) or "params" not in group:
        raise TypeError(f"{where} must be a group dict with 'params', got {group!r}")
    own = {name: value for name, value in group.items() if name != "params"}
    check_known(f"{cls.__name__}, in {where},", own, defaults)
    return Group(cls, f"params[{i}]", {**defaults, **own}, group)


def build(tree: ParamTree, groups: tuple[Group, ...], options: Mapping[str, Any]) -> _core.Plan:
    """Allocate the states of groups that have none yet, and return the plan, which checks and holds all arrays."""
    ema = [] if options["ema_decay"] is None else ["ema"]  # the name of a stage and of its state
    zero_grad = ["zero_grad"] if options["zero_grads"] else []
    paths, specs, new_files = iter(tree.paths), [], list[Path]()
    try:
        for group in groups:
            own_paths = [next(paths) for _ in group.tree.arrays]
            for param, path in zip(group.tree.arrays, own_paths, strict=True):
                _core.inspect_array(param, "params", path, any_order=True)
            if group.state is None:
                names = [*_core.KERNELS[group.kernel].operands[2:], *ema]
                group.state = _new_states(names, group.tree, own_paths, options["state_dir"], new_files)
                _set_start_values(group)
            columns = [group.tree.flatten(state, name) for name, state in group.state.items()]
            tensors = [
                (path, sizes, {"param": param, **dict(zip(group.state, arrays, strict=True))})
                for path, sizes, param, *arrays in zip(
                    own_paths, group.tree.sizes, group.tree.arrays, *columns, strict=True
                )
            ]
            specs.append(((group.kernel, *ema, *zero_grad), tensors))
        return _core.Plan(
            specs,
            ARGUMENTS,
            _zeros_like,
            options["convert_grads"],
            tree.locate,
            options["nonfinite"],
            step_function(options["ema_decay"]),
        )
    except BaseException:
        for file in new_files:
            with suppress(PermissionError):  # Windows does not delete a file that is mapped
                file.unlink(missing_ok=True)
        raise


def _zeros_like(array: Array) -> Array:
    return zeros_laid_out(np.asarray(array), aligned_zeros)


def _new_states(
    names: list[str], tree: ParamTree, paths: list[str], directory: Path | None, new_files: list[Path]
) -> Mapping[str, Any]:
    """Return new states by name, each with the structure of the parameters, in memory or in files."""
    states = {}
    for name in names:
        arrays = [
            _new_state(name + path, param, directory, new_files) for path, param in zip(paths, tree.arrays, strict=True)
        ]
        if name == "ema":
            for average, param in zip(arrays, tree.arrays, strict=True):
                np.copyto(average, param)
        states[name] = tree.unflatten(arrays)
    return MappingProxyType(states)


def _set_start_values(group: Group) -> None:
    """Write the values that new states start with, and remove these options from the group."""
    for name, option in group._cls._start_values.items():
        start = group.checked[option]
        for state in group.tree.flatten(group.state[name], name):
            check_representable(option, start, state.dtype)
            if start:  # otherwise the memory, or the file, need not be written
                state[...] = start
        group.checked = {other: value for other, value in group.checked.items() if other != option}


def _new_state(name: str, param: Any, directory: Path | None, new_files: list[Path]) -> Array:
    if directory is None:
        return _zeros_like(param)
    from urllib.parse import quote  # noqa: PLC0415  rarely needed, and takes a while to import

    file = directory / f"{quote(name, safe=SAFE_IN_FILE_NAMES)}.npy"
    return zeros_laid_out(np.asarray(param), lambda shape, dtype: mapped_zeros(file, shape, dtype, new_files))
