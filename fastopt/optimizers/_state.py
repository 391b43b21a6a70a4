"""The state of an optimizer: what is saved, how it is checked before any of it is loaded, and how it is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import check_keys, check_state, count
from fastopt.optimizers._param_groups import CHECKS, Group, varies
from fastopt.optimizers._param_tree import pairs, plain
from fastopt.schedules._base import StatefulSchedule, stateful_schedules

if TYPE_CHECKING:
    from fastopt.optimizers._base import Optimizer

PROGRESS_CHECKS = {"steps": count, "skipped": count, "grad_scale": CHECKS["grad_scale"]}


class Changes(NamedTuple):
    """Checked changes: arrays to copy and dictionaries to update, each (target, source)."""

    copies: list[tuple[Array, Array]]
    updates: list[tuple[dict[str, Any], dict[str, Any]]]


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
    progress = check_state(where, state_dict, PROGRESS_CHECKS, ["param_groups"])
    saved, groups = state_dict["param_groups"], optimizer.param_groups
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"{where}['param_groups'] must be a list, got {type(saved).__name__!r}")
    if len(saved) != len(groups):
        raise ValueError(f"{where}['param_groups'] must have {len(groups)} groups, got {len(saved)}")
    changes = Changes([], [])
    for i, (group, own) in enumerate(zip(groups, saved, strict=True)):
        _check_group(group, f"{where}['param_groups'][{i}]", own, changes)
    arrays = [array for target_and_source in changes.copies for array in target_and_source]
    try:
        _core.check_no_overlap(arrays, [""] * len(arrays))
    except ValueError:  # a state_dict made of this optimizer's arrays: one may be read after another was written
        changes.copies[:] = [(target, source.copy()) for target, source in changes.copies]
    changes.copies.append((optimizer._plan.progress, _core.progress(**progress)))
    counts = progress["steps"], progress["skipped"]
    changes.updates.extend((vars(scale), {"_counts": counts}) for scale in optimizer._loss_scales)
    return changes


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
    """Undo on exit, also by an exception, all that steps change in an optimizer, its parameters and other arrays.

    This includes every `DynamicLossScale` of the optimizer.
    """
    plan = optimizer._plan
    arrays = [np.asarray(array) for array in [*optimizer._tree.arrays, plan.progress, *others]]
    copies = [(array, np.array(array)) for array in arrays]
    before = checked(optimizer, "state_dict", optimizer.state_dict())
    before.updates.extend((vars(scale), dict(vars(scale))) for scale in optimizer._loss_scales)
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


def _check_group(group: Group, where: str, saved: Any, changes: Changes) -> None:
    """Check the saved state of a group, and add the changes that load it to the others."""
    stateful = _stateful(group)
    constant = [name for name, value in group.items() if not varies(value)]
    check_keys(where, saved, [*constant, *stateful, "state"])
    values = group.changed({name: saved[name] for name in constant}, where)
    changes.updates.append((vars(group), {"checked": values}))
    for name in stateful:
        changes.updates.extend(checked_schedules(group[name], f"{where}[{name!r}]", saved[name]))
    check_keys(f"{where}['state']", saved["state"], list(group.state))
    for name, state in group.state.items():
        changes.copies.extend(pairs(state, saved["state"][name], f"{where}['state'][{name!r}]"))
