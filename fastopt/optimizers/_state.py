"""What is saved of an optimizer, how it is checked before any of it is taken over, and how steps are taken back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import check_keys, count
from fastopt.optimizers._param_groups import CHECKS, Group, varies
from fastopt.optimizers._param_tree import Changes, pairs, plain
from fastopt.schedules._base import StatefulSchedule, stateful_schedules

if TYPE_CHECKING:
    from fastopt.optimizers._base import Optimizer


def state_of(optimizer: Optimizer, array: Callable[[Any], Array]) -> dict[str, Any]:
    """Give the ``state_dict`` of an optimizer, whose plan the caller holds; ``array`` makes what it has of a state."""
    parts = optimizer._plan.parts
    if parts:
        raise RuntimeError(f"{parts} parts were accumulated, which a state_dict has no place for; wants step()")
    return {
        "steps": optimizer.steps,
        "skipped": optimizer.skipped,
        "grad_scale": optimizer.grad_scale,
        "param_groups": [
            {
                **{name: value for name, value in group.items() if not varies(value)},
                **{name: [each.state_dict() for each in found] for name, found in _stateful(group).items()},
                "state": {name: plain(thing, array) for name, thing in group.state.items()},
            }
            for group in optimizer.param_groups
        ],
    }


def checked_state(optimizer: Optimizer, where: str, state_dict: Any) -> Changes:
    """Check what ``state_dict`` gave, which stands ``where``, and give what takes it over."""
    check_keys(where, state_dict, ["steps", "skipped", "grad_scale", "param_groups"])
    grad_scale = CHECKS["grad_scale"](f"{where}['grad_scale']", state_dict["grad_scale"])
    counts = {own: count(f"{where}[{own!r}]", state_dict[own]) for own in ("steps", "skipped")}
    saved, groups = state_dict["param_groups"], optimizer.param_groups
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"{where}['param_groups'] is a {type(saved).__name__!r}; wants a list")
    if len(saved) != len(groups):
        raise ValueError(f"{where}['param_groups'] has {len(saved)} groups; wants {len(groups)}")
    plan = optimizer._plan
    whole = [
        (plan, "steps", counts["steps"]),
        (plan, "parts", 0),
        (plan, "norm", None),
        (optimizer, "_skipped", counts["skipped"]),
        (optimizer, "_options", {**optimizer._options, "grad_scale": grad_scale}),
    ]
    of_groups = [
        _checked_group(group, f"{where}['param_groups'][{i}]", own)
        for i, (group, own) in enumerate(zip(groups, saved, strict=True))
    ]
    copies, attributes = Changes.together(of_groups)
    return Changes(_apart(copies), [*attributes, *whole])


def checked_schedules(schedule: Any, where: str, saved: Any) -> list[tuple[Any, str, Any]]:
    """Return the attributes to set in order to load the saved states of all stateful schedules in a hyperparameter."""
    found = stateful_schedules(schedule)
    if not isinstance(saved, (list, tuple)) or len(saved) != len(found):
        raise ValueError(f"{where} must be a list of {len(found)} states, one of each stateful schedule, got {saved!r}")
    return [
        (each, name, value)
        for i, (each, own) in enumerate(zip(found, saved, strict=True))
        for name, value in each._check_state(f"{where}[{i}]", own).items()
    ]


def take_over(optimizer: Optimizer | None, changes: Changes) -> None:
    """Do what has been checked, of which an optimizer may be a part; no step of that comes between."""
    if optimizer is None:
        _core.put(*changes)
        return
    with optimizer._plan:
        optimizer._news.append("state_dict")
        _core.put(*changes)


@contextmanager
def trial(optimizer: Optimizer, others: Iterable[Any] = ()) -> Iterator[None]:
    """Take back on leaving, by an exception too, all that steps change, and what becomes of some other arrays."""
    arrays = [np.asarray(array) for array in [*optimizer._structure.arrays, *others]]
    copies = [(array, np.array(array)) for array in arrays]
    back = checked_state(optimizer, "state_dict", optimizer.state_dict())
    norm = (optimizer._plan, "norm", optimizer.grad_norm)
    try:
        yield
    finally:
        take_over(optimizer, Changes([*copies, *back.copies], [*back.attributes, norm]))


def _stateful(group: Group) -> dict[str, list[StatefulSchedule]]:
    """Return the stateful schedules of a group by hyperparameter."""
    return {name: found for name, value in group.items() if (found := stateful_schedules(value))}


def _checked_group(group: Group, where: str, saved: Any) -> Changes:
    """Check what was saved of a group: its hyperparameters, the state of its schedules, its states."""
    stateful = _stateful(group)
    fixed = [name for name, value in group.items() if not varies(value)]
    check_keys(where, saved, [*fixed, *stateful, "state"])
    attributes = [(group, "checked", group.changed({name: saved[name] for name in fixed}, where))]
    for name in stateful:
        attributes += checked_schedules(group[name], f"{where}[{name!r}]", saved[name])
    check_keys(f"{where}['state']", saved["state"], list(group.state))
    copies = [
        pair
        for name, state in group.state.items()
        for pair in pairs(state, saved["state"][name], f"{where}['state'][{name!r}]")
    ]
    return Changes(copies, attributes)


def _apart(copies: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """Copy each source that shares memory with a target, for what is read must not have been written."""
    spans = sorted(_span(target) for target, _ in copies)  # which are apart
    result = []
    for target, source in copies:
        begin, end = _span(source)
        before = bisect_left(spans, (end,)) - 1  # the last that begins before the source ends
        shared = before >= 0 and spans[before][1] > begin
        result.append((target, source.copy() if shared else source))
    return result


def _span(array: Array) -> tuple[int, int]:
    begin = array.ctypes.data
    return begin, begin + array.nbytes
