"""The state of an optimizer: what is saved, how it is checked before any of it is loaded, and how it is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array, in_memory_order
from fastopt._util.validation import check_keys, check_state, count
from fastopt.optimizers._param_groups import CHECKS, Group, check_hyperparameter, varies
from fastopt.optimizers._param_tree import pairs, plain
from fastopt.schedules._base import stateful_schedules

if TYPE_CHECKING:
    from fastopt.optimizers._base import Optimizer

PROGRESS_CHECKS = {"steps": count, "skipped": count, "micro_steps": count, "grad_scale": CHECKS["grad_scale"]}


class Changes(NamedTuple):
    """Checked changes: arrays to copy and dictionaries to update, each (target, source)."""

    copies: list[tuple[Array, Array]]
    updates: list[tuple[dict[str, Any], dict[str, Any]]]


def snapshot(optimizer: Optimizer, array: Callable[[Any], Array]) -> dict[str, Any]:
    """Return the ``state_dict`` of an optimizer whose lock the caller holds; ``array`` copies its arrays, or not."""
    if optimizer._plan.parts:
        raise RuntimeError("step() must be called after accumulate and before the state is saved")
    all_missed = optimizer._plan.missed.tolist()
    return {
        "steps": optimizer.steps,
        "skipped": optimizer.skipped,
        "micro_steps": optimizer.micro_steps,
        "grad_scale": optimizer.grad_scale,
        "param_groups": [
            {
                **{name: _saved(value) for name, value in group.items()},
                "missed_steps": {
                    path: missed for path, missed in zip(paths, all_missed[segments], strict=True) if missed
                },
                "state": {name: plain(state, array) for name, state in group.state.items()},
            }
            for group, paths, segments in _segments(optimizer)
        ],
    }


def _saved(value: Any) -> Any:
    """Return what is saved of a hyperparameter: a number or flag, the states of stateful schedules, or None."""
    found = [own.state_dict() for own in stateful_schedules(value)]
    return found or (None if varies(value) else value)


def _segments(optimizer: Optimizer) -> Iterator[tuple[Group, list[str], slice]]:
    """Return each group with the paths of what steps can leave out, and their place among those of all groups."""
    begin = 0
    for group in optimizer.param_groups:
        end = begin + len(group.tree.segment_paths)
        yield group, group.tree.segment_paths, slice(begin, end)
        begin = end


def checked(optimizer: Optimizer, where: str, state_dict: Any, keep_hyperparameters: bool = False) -> Changes:
    """Check what ``snapshot`` returned, called ``where`` in errors, and return the changes that load it."""
    progress = check_state(where, state_dict, PROGRESS_CHECKS, ["param_groups"])
    saved, groups = state_dict["param_groups"], optimizer.param_groups
    if not isinstance(saved, (list, tuple)):
        raise TypeError(f"{where}['param_groups'] must be a list, got {type(saved).__name__!r}")
    if len(saved) != len(groups):
        raise ValueError(f"{where}['param_groups'] must have {len(groups)} groups, got {len(saved)}")
    changes = Changes([], [])
    missed_steps = np.zeros_like(optimizer._plan.missed)
    for i, ((group, paths, segments), own) in enumerate(zip(_segments(optimizer), saved, strict=True)):
        place = f"{where}['param_groups'][{i}]"
        check_keys(place, own, [*group, "missed_steps", "state"])
        if not keep_hyperparameters:
            _check_hyperparameters(group, place, own, changes)
        check_keys(f"{place}['state']", own["state"], list(group.state))
        for name, state in group.state.items():
            changes.copies.extend(pairs(state, own["state"][name], f"{place}['state'][{name!r}]"))
        missed_steps[segments] = _checked_missed_steps(
            f"{place}['missed_steps']", own["missed_steps"], paths, progress["steps"]
        )
    arrays = [array for target_and_source in changes.copies for array in target_and_source]
    try:
        _core.check_no_overlap(arrays, [""] * len(arrays))
    except ValueError:  # a state_dict made of this optimizer's arrays: one may be read after another was written
        changes.copies[:] = [(target, source.copy()) for target, source in changes.copies]
    changes.copies.append((optimizer._plan.progress, _core.progress(**progress)))
    changes.copies.append((optimizer._plan.missed, missed_steps))
    counts = progress["steps"], progress["skipped"]
    changes.updates.extend((vars(scale), {"_counts": counts}) for scale in optimizer._loss_scales)
    return changes


def locks(optimizer: Any) -> _core.Locks:
    """Return the locks that keep out steps of an optimizer or a `Keyed`, or none for None."""
    return _core.Locks([] if optimizer is None else optimizer._plans)


def apply(optimizer: Any, changes: Changes) -> None:
    """Make checked changes, all or none; the optimizer is locked, so that no step runs meanwhile."""
    with locks(optimizer) as plans:
        for plan in plans:
            plan.dirty = True
        _core.commit(*changes)


@contextmanager
def trial(optimizer: Optimizer, others: Iterable[Any] = ()) -> Iterator[None]:
    """Undo on exit, also by an exception, all that steps change in an optimizer, its parameters and other arrays.

    This includes every `DynamicLossScale` of the optimizer.
    """
    plan = optimizer._plan
    arrays = [in_memory_order(np.asarray(array)) for array in [*optimizer._tree.arrays, plan.progress, *others]]
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


def _check_hyperparameters(group: Group, where: str, saved: Any, changes: Changes) -> None:
    """Check the saved hyperparameters of a group, and add the changes that load them to the others."""
    numbers = {}
    for name, own in group.items():
        value, label = saved[name], f"{where}[{name!r}]"
        has_states = isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)
        if has_states and stateful_schedules(own):
            changes.updates.extend(checked_schedules(own, label, value))
        elif value is not None and not has_states:  # that of a function, which is not saved
            checked = check_hyperparameter(name, label, value)
            if not varies(own):
                numbers[name] = checked
    changes.updates.append((vars(group), {"checked": group.changed(numbers, where)}))


def _checked_missed_steps(where: str, saved: Any, paths: list[str], steps: int) -> list[int]:
    """Return the number of missed steps of each array from a mapping, which has only those that are not 0."""
    if not isinstance(saved, Mapping):
        raise TypeError(f"{where} must be a mapping, got {type(saved).__name__!r}")
    for path, missed in saved.items():
        if path not in paths:
            raise ValueError(f"{where} must have keys among {paths}, got {path!r}")
        if count(f"{where}[{path!r}]", missed) > steps:
            raise ValueError(f"{where}[{path!r}] must be at most the number of steps, {steps}, got {missed}")
    return [int(saved.get(path, 0)) for path in paths]
