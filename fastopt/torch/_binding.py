"""An optimizer of fastopt over the memory of PyTorch's parameters and states.

Making a view of a tensor takes longer than its part of a step, so a `Binding` makes all views once. Before each step,
``is_current`` compares everything that could make them stale: the lists of parameters, the entries of
``optimizer.state``, and the memory, layout and dtype of each tensor. If anything has changed, the optimizer makes a new
binding from what is there.
"""

from __future__ import annotations

from itertools import chain, compress
from operator import attrgetter, is_, itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fastopt import _core
from fastopt.optimizers._param_groups import CHECKS
from fastopt.torch._checks import REFUSED, array_of, arrays_of, has_tensors, hyperparameters, paths_of, steps_of

if TYPE_CHECKING:
    from fastopt.torch._optimizer import TorchOptimizer

dtype_of = attrgetter("dtype")


def addresses_of(tensors: list[Tensor]) -> list[int]:
    """Return the address of each tensor's memory."""
    return list(map(Tensor.data_ptr, tensors))


def layouts_of(tensors: list[Tensor]) -> tuple[list[Any], ...]:
    """Return the strides, numbers of elements and dtypes of tensors: dense ones with the same are laid out alike."""
    return list(map(Tensor.stride, tensors)), list(map(Tensor.numel, tensors)), list(map(dtype_of, tensors))


class Binding:
    """What a step needs, as long as nothing but gradients and hyperparameters changes.

    States in ``optimizer.state`` are copied, and replaced by tensors that share the memory of the copies.
    """

    def __init__(self, optimizer: TorchOptimizer) -> None:
        self.rule, self.groups, self.state = optimizer._rule, optimizer.param_groups, optimizer.state
        self.zero_grads = optimizer._options["zero_grads"]
        self.params: list[Tensor] = [param for group in self.groups for param in group["params"]]
        self.paths = [*chain.from_iterable(paths_of(self.groups))]
        sources = [
            {"params": arrays, **hyperparameters(f"params[{g}][{{!r}}]", group)}
            for g, (arrays, group) in enumerate(zip(arrays_of(self.groups), self.groups, strict=True))
        ]
        self.optimizer = self.rule(sources, **optimizer._options, convert_grads=True)
        self.plan = self.optimizer._plan
        self.plan.takes_addresses = True
        entries = self._entries()
        self.tensors = [tensor for entry in entries for tensor in entry.values()]
        self._set_steps(entries, optimizer.skipped, optimizer._has_step)
        self.entries: list[Any] = []  # those of optimizer.state
        self.watched = self._watched_lists()
        self.without_entry = dict(enumerate(entries))  # PyTorch makes an entry when there is a gradient
        self._add_entries([i for i, param in enumerate(self.params) if self.state.get(param)])
        self.layouts, self.addresses = layouts_of(self.params), addresses_of([*self.params, *self.tensors])
        self.names = [name for name in optimizer.defaults if name in CHECKS or name in REFUSED]
        self.values = list(map(itemgetter(*self.names), self.groups))
        self.values_have_tensors = any(map(has_tensors, self.values))

    def _entries(self) -> list[dict[str, Tensor]]:
        """Return the states of each parameter by name, with the values that ``optimizer.state`` has."""
        entries = [
            dict(zip(group.state, map(torch.from_numpy, arrays), strict=True))
            for group in self.optimizer.param_groups
            for _, *arrays in zip(group.tree.arrays, *group.state.values(), strict=True)
        ]
        for param, path, entry in zip(self.params, self.paths, entries, strict=True):
            saved = self.state.get(param, {})
            for name, tensor in entry.items():
                if saved.get(name) is not None:
                    array_of(f"state{path}[{name!r}]", saved[name])
                    if saved[name].shape != param.shape:
                        expected, got = tuple(param.shape), tuple(saved[name].shape)
                        raise ValueError(f"state{path}[{name!r}] must have shape {expected}, got {got}")
                    tensor.copy_(saved[name])
        return entries

    def _set_steps(self, entries: list[dict[str, Tensor]], skipped: int, has_step: bool) -> None:
        """Set the counters of the plan to the steps in ``optimizer.state``, and put them into the entries."""
        saved = [self.state.get(param, {}) for param in self.params]
        steps = [steps_of(f"state{path}", own) for path, own in zip(self.paths, saved, strict=True)]
        most = max(steps, default=0)
        missed = np.array([most - own for own in steps], np.int64)
        progress = _core.progress(steps=most, skipped=skipped, micro_steps=most, grad_scale=1.0)
        _core.commit([(self.plan.progress, progress), (self.plan.missed, missed)], [])
        self.steps = np.array(steps, np.float32)  # one vector, of which each parameter has an element
        self.steps_bytes = self.steps.tobytes()
        for entry, step in zip(entries, torch.from_numpy(self.steps).unbind(), strict=True):
            if has_step:
                entry["step"] = step

    def _watched_lists(self) -> list[Any]:
        """Return the lists of parameters, as ``_core.check_current`` takes them."""
        lists = [self.groups, *(group["params"] for group in self.groups)]
        watched: list[Any] = [(group, ("params",), (group["params"],), -1, "") for group in self.groups]
        return watched + [(each, tuple(range(len(each))), tuple(each), len(each), "") for each in lists]

    def _add_entries(self, indices: list[int]) -> None:
        """Put the states of some parameters into ``optimizer.state``."""
        for i in indices:
            entry = self.without_entry.pop(i)
            if entry:
                own = self.state[self.params[i]]
                own.update(entry)
                self.watched.append((own, tuple(entry), tuple(entry.values()), -1, ""))
        self.entries = list(self.state.values())

    def is_current(self, optimizer: TorchOptimizer) -> bool:
        """Return whether the binding can be used; pass changed hyperparameters on."""
        try:
            _core.check_current(self.watched)
        except ValueError:
            return False
        return (
            optimizer.param_groups is self.groups
            and optimizer.state is self.state
            and len(self.state) == len(self.entries)
            and all(map(is_, self.state.values(), self.entries))
            and self.steps.tobytes() == self.steps_bytes
            and addresses_of([*self.params, *self.tensors]) == self.addresses
            and layouts_of(self.params) == self.layouts
            and self._pass_on_hyperparameters()
        )

    def _pass_on_hyperparameters(self) -> bool:
        """Pass hyperparameters that have changed to the core; return False if they need other states."""
        values = list(map(itemgetter(*self.names), self.groups))
        if values == self.values and not self.values_have_tensors:
            return True
        updates = []
        for g, (bound, new, old) in enumerate(zip(self.optimizer.param_groups, values, self.values, strict=True)):
            rows = zip(self.names, new, old, strict=True)
            changed = {name: value for name, value, before in rows if self.values_have_tensors or value != before}
            checked = hyperparameters(f"params[{g}][{{!r}}]", changed)
            changes = {name: value for name, value in checked.items() if name in bound.checked}
            if self.rule._kernel({**bound.checked, **changes}) != bound.kernel:
                return False
            updates.append((bound, changes))
        for bound, changes in updates:
            if changes.keys() == {"lr"}:  # takes less time than update, and most schedulers set only this
                bound["lr"] = changes["lr"]
            elif changes:
                bound.update(changes)
        self.values, self.values_have_tensors = values, any(map(has_tensors, values))
        return True

    def step(self) -> None:
        """Update the parameters that have a gradient."""
        grads: list[Any] = [param.grad for param in self.params]
        has_grad = [grad is not None for grad in grads]
        before = self.plan.steps
        self.plan.step(self._gradients(grads, has_grad), None, self.optimizer)
        if self.zero_grads:
            increment_version(compress(grads, has_grad))
        if self.plan.steps == before:  # skipped
            return
        np.subtract(self.plan.steps, self.plan.missed, out=self.steps, casting="same_kind")
        self.steps_bytes = self.steps.tobytes()
        increment_version(compress(self.params, has_grad))
        if self.without_entry:
            self._add_entries([i for i in self.without_entry if has_grad[i]])

    def _gradients(self, grads: list[Any], has_grad: list[bool]) -> list[Any]:
        """Return the addresses of the gradients, or arrays if one is not laid out as its parameter."""
        present, layouts = grads, self.layouts
        if not all(has_grad):
            present = list(compress(grads, has_grad))
            layouts = tuple(list(compress(each, has_grad)) for each in layouts)
        if layouts_of(present) != layouts or any(map(Tensor.is_neg, present)):
            return [
                None if grad is None else array_of(f"grads{path}", grad)
                for path, grad in zip(self.paths, grads, strict=True)
            ]
        addresses = addresses_of(present)
        if present is grads:
            return addresses
        rest = iter(addresses)
        return [next(rest) if has else None for has in has_grad]
