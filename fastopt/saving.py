"""What is saved of an optimizer, how it is checked before any of it is taken over, and how steps are taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.buffers import Array
from fastopt.hyperparameters import CHECKS, Group, count, same_names, varies
from fastopt.schedules import Plateau, memories
from fastopt.structures import pairs, plain

if TYPE_CHECKING:
    from fastopt.base import Optimizer


def state_of(optimizer: Optimizer, array: Callable[[Any], Array]) -> dict[str, Any]:
    """Give the ``state_dict`` of an optimizer, of whose states ``array`` makes what it has."""
    parts = optimizer._accumulation.parts
    if parts:
        raise RuntimeError(f"{parts} parts were accumulated, which a state_dict has no place for; wants step()")
    steps = optimizer._plan.idle()
    result = {
        "steps": steps,
        "skipped": optimizer.skipped,
        "grad_scale": optimizer.grad_scale,
        "param_groups": [
            {
                **{name: value for name, value in group.items() if not varies(value)},
                **{name: [memory.state_dict() for memory in found] for name, found in _remembered(group).items()},
                "state": {name: plain(thing, array) for name, thing in group.state.items()},
            }
            for group in optimizer.param_groups
        ],
    }
    if optimizer._plan.idle() != steps:
        raise RuntimeError("another thread did a step while the state was copied; wants one at a time")
    return result


def checked_state(optimizer: Optimizer, where: str, state_dict: Any) -> Callable[[], None]:
    """Check what ``state_dict`` gave, which stands ``where``, and give what takes it over, which can't fail."""
    same_names(where, state_dict, ["steps", "skipped", "grad_scale", "param_groups"])
    grad_scale = CHECKS["grad_scale"](f"{where}['grad_scale']", state_dict["grad_scale"])
    counts = {own: count(f"{where}[{own!r}]", state_dict[own]) for own in ("steps", "skipped")}
    saved, groups = state_dict["param_groups"], optimizer.param_groups
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"{where}['param_groups'] is a {type(saved).__name__!r}; wants a list")
    if len(saved) != len(groups):
        raise ValueError(f"{where}['param_groups'] has {len(saved)} groups; wants {len(groups)}")
    checked = [
        _checked_group(group, f"{where}['param_groups'][{i}]", own)
        for i, (group, own) in enumerate(zip(groups, saved, strict=True))
    ]
    copies = [copy for _, found, _ in checked for copy in found]
    targets = [target for target, _ in copies]
    # What is part of this optimizer's own states is read before any of them is written.
    sources = [np.array(s) if any(np.may_share_memory(s, t) for t in targets) else s for _, s in copies]

    def take_over() -> None:
        optimizer._plan.take_over(targets, sources, counts["steps"])
        for group, (changed, _, remember) in zip(groups, checked, strict=True):
            group.put(changed)
            for change in remember:
                change()
        optimizer._skipped = counts["skipped"]
        optimizer._options["grad_scale"] = grad_scale
        optimizer._accumulation.parts = 0
        optimizer._news.append("state_dict")

    return take_over


def checked_memories(schedule: Any, where: str, saved: Any) -> Callable[[], None]:
    """Check what was saved of all that remembers in a schedule, and give what takes it over."""
    found = memories(schedule)
    if not isinstance(saved, (list, tuple)) or len(saved) != len(found):
        raise ValueError(f"{where} is {saved!r}; wants a list of {len(found)}, the memory of each Plateau")
    states = [
        memory.checked_state(f"{where}[{i}]", own) for i, (memory, own) in enumerate(zip(found, saved, strict=True))
    ]

    def take_over() -> None:
        for memory, state in zip(found, states, strict=True):
            memory.load_state_dict(state)

    return take_over


@contextmanager
def trial(optimizer: Optimizer, others: Iterable[Any] = ()) -> Iterator[None]:
    """Take back on leaving, by an exception too, all that steps change, and what becomes of some other arrays."""
    arrays = [np.asarray(array) for array in [*optimizer._structure.arrays, *others]]
    copies = [np.array(array) for array in arrays]
    groups = [group.checked for group in optimizer.param_groups]
    saved, grad_norm = optimizer.state_dict(), optimizer.grad_norm
    try:
        yield
    finally:
        for array, copy in zip(arrays, copies, strict=True):
            np.copyto(array, copy)
        for group, checked in zip(optimizer.param_groups, groups, strict=True):
            group.put(checked)  # the schedules come before their memories, which are loaded
        optimizer.load_state_dict(saved)
        optimizer._plan.norm = grad_norm


def _remembered(group: Group) -> dict[str, list[Plateau]]:
    """Find what remembers in the schedules of a group, by the hyperparameter."""
    return {name: found for name, value in group.items() if (found := memories(value))}


def _checked_group(
    group: Group, where: str, saved: Any
) -> tuple[dict[str, Any], list[tuple[Array, Array]], list[Callable[[], None]]]:
    """Check what was saved of a group; give its hyperparameters, the copies to make, and what the schedules get."""
    remembered = _remembered(group)
    fixed = [name for name, value in group.items() if not varies(value)]
    same_names(where, saved, [*fixed, *remembered, "state"])
    changed = group.changed({name: saved[name] for name in fixed}, where)
    remember = [checked_memories(group[name], f"{where}[{name!r}]", saved[name]) for name in remembered]
    same_names(f"{where}['state']", saved["state"], list(group.state))
    copies = [
        pair
        for name, state in group.state.items()
        for pair in pairs(state, saved["state"][name], f"{where}['state'][{name!r}]")
    ]
    return changed, copies, remember
