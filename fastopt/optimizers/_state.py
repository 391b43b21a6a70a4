"""The state of an optimizer: what is saved, how it is checked before any of it is loaded, and how it is applied."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import check_keys, count
from fastopt.optimizers._param_groups import CHECKS, Group, varies
from fastopt.optimizers._param_tree import pairs, plain
from fastopt.schedules._base import StatefulSchedule, stateful_schedules

if TYPE_CHECKING:
    from fastopt.optimizers._base import Optimizer


class Changes(NamedTuple):
    """Checked changes: arrays to copy and dictionaries to update, each (target, source)."""

    copies: list[tuple[Array, Array]]
    updates: list[tuple[dict[str, Any], dict[str, Any]]]

    @classmethod
    def together(cls, parts: Sequence[Changes]) -> Changes:
        """Join changes that are to be made all or none."""
        return cls([copy for part in parts for copy in part.copies], [new for part in parts for new in part.updates])


def snapshot(optimizer: Optimizer, array: Callable[[Any], Array]) -> dict[str, Any]:
    """Return the ``state_dict`` of an optimizer whose lock the caller holds; ``array`` copies its arrays, or not."""
    if optimizer._plan.parts:
        raise RuntimeError("step() must be called after accumulate and before the state is saved")
    return {
        "steps": optimizer.steps,
        "skipped": optimizer.skipped,
        "grad_scale": optimizer.grad_scale,
        "param_groups": [
            {
                **{name: value for name, value in group.items() if not varies(value)},
                **{name: [own.state_dict() for own in found] for name, found in _stateful(group).items()},
                "state": {name: plain(state, array) for name, state in group.state.items()},
            }
            for group in optimizer.param_groups
        ],
    }


def checked(optimizer: Optimizer, where: str, state_dict: Any) -> Changes:
    """Check what ``snapshot`` returned, called ``where`` in errors, and return the changes that load it."""
    check_keys(where, state_dict, ["steps", "skipped", "grad_scale", "param_groups"])
    grad_scale = CHECKS["grad_scale"](f"{where}['grad_scale']", state_dict["grad_scale"])
    steps, skipped = (count(f"{where}[{name!r}]", state_dict[name]) for name in ("steps", "skipped"))
    saved, groups = state_dict["param_groups"], optimizer.param_groups
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"{where}['param_groups'] must be a list, got {type(saved).__name__!r}")
    if len(saved) != len(groups):
        raise ValueError(f"{where}['param_groups'] must have {len(groups)} groups, got {len(saved)}")
    copies, updates = Changes.together(
        [
            _checked_group(group, f"{where}['param_groups'][{i}]", own)
            for i, (group, own) in enumerate(zip(groups, saved, strict=True))
        ]
    )
    progress = (optimizer._plan.progress, _core.progress(steps, skipped, grad_scale))
    return Changes([*_without_overlap(copies), progress], updates)


def apply(optimizer: Optimizer | None, changes: Changes) -> None:
    """Make checked changes, all or none; the lock of the optimizer is held, so that no step runs meanwhile."""
    if optimizer is None:
        _core.commit(*changes)
        return
    with optimizer._plan:
        optimizer._plan.dirty = True
        _core.commit(*changes)


@contextmanager
def trial(optimizer: Optimizer, others: Iterable[Any] = ()) -> Iterator[None]:
    """Undo on exit, also by an exception, all that steps change in an optimizer, its parameters and other arrays."""
    plan = optimizer._plan
    arrays = [np.asarray(array) for array in [*optimizer._tree.arrays, plan.progress, *others]]
    copies = [(array, np.array(array)) for array in arrays]
    before = checked(optimizer, "state_dict", optimizer.state_dict())
    try:
        yield
    finally:
        apply(optimizer, Changes([*before.copies, *copies], before.updates))


def checked_schedules(schedule: Any, where: str, saved: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Check the saved states of all stateful schedules in a hyperparameter, and return the updates that load them."""
    found = stateful_schedules(schedule)
    if not isinstance(saved, (list, tuple)) or len(saved) != len(found):
        raise ValueError(f"{where} must be a list of {len(found)} states, one of each stateful schedule, got {saved!r}")
    return [
        (vars(each), each._check_state(f"{where}[{i}]", own))
        for i, (each, own) in enumerate(zip(found, saved, strict=True))
    ]


def _stateful(group: Group) -> dict[str, list[StatefulSchedule]]:
    """Return the stateful schedules of a group by the name of the hyperparameter."""
    return {name: found for name, value in group.items() if (found := stateful_schedules(value))}


def _checked_group(group: Group, where: str, saved: Any) -> Changes:
    stateful = _stateful(group)
    constant = [name for name, value in group.items() if not varies(value)]
    check_keys(where, saved, [*constant, *stateful, "state"])
    values = group.changed({name: saved[name] for name in constant}, where)
    updates = [(vars(group), {"checked": values})]
    for name in stateful:
        updates += checked_schedules(group[name], f"{where}[{name!r}]", saved[name])
    check_keys(f"{where}['state']", saved["state"], list(group.state))
    copies = [
        pair
        for name, state in group.state.items()
        for pair in pairs(state, saved["state"][name], f"{where}['state'][{name!r}]")
    ]
    return Changes(copies, updates)


def _without_overlap(copies: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """Copy each source that shares memory with a target, because it is read after that target was written."""
    targets = sorted(_span(target) for target, _ in copies)  # they do not overlap
    result = []
    for target, source in copies:
        begin, end = _span(source)
        last = bisect_left(targets, (end,)) - 1  # the last that begins before the source ends
        overlaps = last >= 0 and targets[last][1] > begin
        result.append((target, source.copy() if overlaps else source))
    return result


def _span(array: Array) -> tuple[int, int]:
    begin = array.ctypes.data
    return begin, begin + array.nbytes
