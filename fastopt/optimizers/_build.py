"""Parameter groups of an optimizer: parse what the user passed, allocate states, and make the plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array, aligned_zeros, check_representable, mapped_zeros, zeros_laid_out
from fastopt._util.validation import check_known
from fastopt.optimizers._param_groups import Group
from fastopt.optimizers._param_tree import ParamGroups, ParamTree, param_tree

if TYPE_CHECKING:
    from fastopt.optimizers._base import Optimizer

SAFE_IN_FILE_NAMES = "[]' "  # besides letters, digits and -._~
ARGUMENTS = {"param": "params", "grad": "grads"}  # the users' names of these operands


class Structure(NamedTuple):
    """The parameters of an optimizer: all of them as one tree, and by group."""

    tree: ParamTree
    trees: list[ParamTree]
    groups: tuple[Group, ...]
    sources: list[Mapping[str, Any]]  # the users' group dicts, {"params": ...} for parameters without groups
    has_groups: bool


def parse(cls: type[Optimizer], params: Any, defaults: Mapping[str, Any]) -> Structure:
    """Return the structure of parameters, which may be group dicts."""
    has_groups = isinstance(params, (list, tuple)) and any(
        isinstance(group, Mapping) and "params" in group for group in params
    )
    if has_groups:
        structure = Structure(ParamGroups([], []), [], (), [], True)
        for i, group in enumerate(params):
            structure = with_group(cls, structure, group, f"params[{i}]", defaults)
        return structure
    tree = param_tree(params)
    return Structure(tree, [tree], (Group(cls, "", defaults),), [{"params": params}], False)


def with_group(
    cls: type[Optimizer], structure: Structure, group: Any, where: str, defaults: Mapping[str, Any]
) -> Structure:
    """Return a structure with one more group, called ``where`` in errors."""
    if not isinstance(group, Mapping) or "params" not in group:
        raise TypeError(f"{where} must be a group dict with 'params', got {group!r}")
    own = {name: value for name, value in group.items() if name != "params"}
    check_known(f"{cls.__name__}, in {where},", own, defaults)
    groups = (*structure.groups, Group(cls, f"params[{len(structure.groups)}]", {**defaults, **own}))
    trees, sources = [*structure.trees, param_tree(group["params"])], [*structure.sources, group]
    return Structure(ParamGroups(trees, sources), trees, groups, sources, True)


def build(structure: Structure, options: Mapping[str, Any]) -> _core.Plan:
    """Allocate the states of groups that have none yet, and return the plan, which checks and holds all arrays."""
    ema = [] if options["ema_decay"] is None else ["ema"]  # the name of a stage and of its state
    zero_grad = ["zero_grad"] if options["zero_grads"] else []
    specs, new_files = [], list[Path]()
    try:
        for i, (group, tree) in enumerate(zip(structure.groups, structure.trees, strict=True)):
            paths = [f"[{i}]{path}" if structure.has_groups else path for path in tree.paths]
            for param, path in zip(tree.arrays, paths, strict=True):
                _core.inspect_array(param, "params", path, any_order=True)
            if group.state is None:
                names = [*_core.KERNELS[group.kernel].operands[2:], *ema]
                group.state = _new_states(names, tree, paths, options["state_dir"], new_files)
                _set_start_values(group, tree)
            columns = [tree.flatten(state, name) for name, state in group.state.items()]
            tensors = [
                (path, sizes, {"param": param, **dict(zip(group.state, arrays, strict=True))})
                for path, sizes, param, *arrays in zip(paths, tree.sizes, tree.arrays, *columns, strict=True)
            ]
            specs.append(((group.kernel, *ema, *zero_grad), tensors))
        own = [options[name] for name in ("max_grad_norm", "nonfinite")]
        return _core.Plan(specs, ARGUMENTS, _zeros_like, options["convert_grads"], structure.tree.locate, *own)
    except BaseException:
        for file in new_files:
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


def _set_start_values(group: Group, tree: ParamTree) -> None:
    """Write the values that new states start with, and remove these options from the group."""
    for name, option in group._cls._start_values.items():
        value = group.checked[option]
        for state in tree.flatten(group.state[name], name):
            check_representable(option, value, state.dtype)
            if value:  # otherwise the memory, or the file, need not be written
                state[...] = value
        group.checked = {name: value for name, value in group.checked.items() if name != option}


def _new_state(name: str, param: Any, directory: Path | None, new_files: list[Path]) -> Array:
    if directory is None:
        return _zeros_like(param)
    from urllib.parse import quote  # noqa: PLC0415  rarely needed, and takes a while to import

    file = directory / f"{quote(name, safe=SAFE_IN_FILE_NAMES)}.npy"
    return zeros_laid_out(np.asarray(param), lambda shape, dtype: mapped_zeros(file, shape, dtype, new_files))
