"""An optimizer and its NumPy reference for the fuzz test of optimizers: random actions on both."""

from __future__ import annotations

import math
import re
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cases import Reference
from hypothesis import assume, note
from hypothesis import strategies as st
from strategies import FLAGS, ORDINARY, attempt, plain, rate, replacements, same
from structures import arrays_and_flats, containers, matched, parameters

import fastopt
from fastopt import reference
from fastopt.optimizers._param_groups import varies


def is_about_values(error):
    """Return whether valid arguments may raise this: together they are too large, or a schedule's value is invalid."""
    known = any(text in str(error) for text in ("coefficient", "as the function", "at step"))
    return known or isinstance(error, (FloatingPointError, OverflowError))


ACTIONS = [*["step"] * 3, *["accumulate"] * 3, "reload", "resume", "change", "add", "change_containers"]


class Pair:
    """An optimizer and its reference, which take the same steps."""

    def __init__(self, data, optimizer, case, make, params, sources):
        self.data, self.optimizer, self.case = data, optimizer, case
        self.makes, self.params = [make], [params]  # of each group
        self.sources, self.added, self.wrapped = sources, [], bool(sources)  # group dicts, and options of added ones
        self.reference = Reference(case, arrays_and_flats(params))
        if case.common["nonfinite"] != "propagate" and case.common["max_grad_norm"] is None:
            self.reference.common["max_grad_norm"] = math.inf  # the norm is computed, too
        self.sums, self.parts, self.skipped, self.micro_steps = [], 0, 0, 0
        self.grad_scale, self.saved, self.replaced = case.common["grad_scale"], [optimizer.state_dict()], False

    # Arrays

    @property
    def _structure(self):
        return self.params if self.sources else self.params[0]

    def _by_tensor(self, columns):
        """Return a dictionary of arrays for each tensor, from a dictionary of structures for each group."""
        result = []
        for params, own in zip(self.params, columns, strict=True):
            found = {name: [array for _, array in matched(params, value)] for name, value in own.items()}
            result += [{name: found[name][i] for name in found} for i in range(len(matched(params, params)))]
        return result

    def _tensors(self):
        """Return the parameter and the states of each tensor of the optimizer."""
        groups = zip(self.params, self.optimizer.param_groups, strict=True)
        return self._by_tensor([{"param": params, **group.state} for params, group in groups])

    def _missed(self):
        """Return what the state_dict should contain of the steps that tensors have missed."""
        own_steps, result = iter(self.reference.own_steps), []
        for params in self.params:
            paths = [path for path, _ in matched(params, params)]
            missed = {path: self.reference.steps - next(own_steps) for path in paths}
            result.append({path: steps for path, steps in missed.items() if steps})
        return result

    def check(self):
        """Compare parameters, states, hyperparameters and counts."""
        for got, wanted in zip(self._tensors(), self.reference.tensors, strict=True):
            assert got.keys() == wanted.keys()
            assert all(same(got[name], wanted[name]) for name in got)
        assert [dict(group) for group in self.optimizer.param_groups] == self.reference.groups
        names = ("steps", "skipped", "micro_steps", "grad_scale")
        wanted = (self.reference.steps, self.skipped, self.micro_steps, self.grad_scale)
        assert tuple(getattr(self.optimizer, name) for name in names) == wanted
        if not self.parts:
            assert [group["missed_steps"] for group in self.optimizer.state_dict()["param_groups"]] == self._missed()

    # Calls

    def _drawn(self, *values):
        """Return values, one of which may be replaced."""
        self.replaced = self.data.draw(st.sampled_from([False, False, False, True]))
        if self.replaced:
            i = self.data.draw(st.integers(0, len(values) - 1))
            written = [array for tensor in self._tensors() for array in tensor.values()]
            values = (*values[:i], self.data.draw(replacements(values[i], written)), *values[i + 1 :])
        return values

    def _attempt(self, function, *values, expected=None):
        """Call with values that ``_drawn`` returned; return the exception, an expected one if they are valid."""
        note(f"{function} {values}")
        _, error = attempt(lambda: function(*values), values, self._tensors())
        is_expected = expected is not None and isinstance(error, ValueError) and expected in str(error)
        assert not error or self.replaced or is_expected or is_about_values(error), error
        return error

    def _draw_gradients(self):
        """Draw gradients and the names that are left out."""
        holes, odd = self.data.draw(FLAGS), self.case.common["convert_grads"] and self.data.draw(FLAGS)
        bounds = self.data.draw(st.sampled_from([ORDINARY, ORDINARY, None]))
        items = [make(bounds, holes, odd) for make in self.makes]
        grads = [self.data.draw(st.none() | item if holes and self.sources else item) for item in items]
        flats = [list(params) if isinstance(params, fastopt.Flat) else [] for params in self.params]
        skip = [self.data.draw(st.lists(st.sampled_from(names))) if names and holes else [] for names in flats]
        return (grads, skip) if self.sources else (grads[0], skip[0])

    def _pass(self, function, grads, skip, expected=None):
        """Pass gradients; return those of each tensor that the optimizer should have taken, and the exception."""
        taken = None
        with suppress(Exception):  # they are not like the parameters, and then the call raises, too
            arrays = [array for _, array in matched(self._structure, grads)]
            copies = [None if array is None else np.array(array) for array in arrays]
            skips = (skip or [()] * len(self.params)) if self.sources else [skip]
            out = [
                isinstance(params, fastopt.Flat) and bool(own) and params_path in [f"[{name!r}]" for name in own]
                for params, own in zip(self.params, skips, strict=True)
                for params_path, _ in matched(params, params)
            ]
            taken = [None if left_out else array for array, left_out in zip(copies, out, strict=True)]
            for i, tensor in enumerate(self.reference.tensors):
                if taken[i] is not None:
                    with np.errstate(all="ignore"):
                        np.copyto(converted := np.empty_like(tensor["param"]), taken[i], casting="same_kind")
                    taken[i] = converted
        error = self._attempt(function, grads, skip, expected=expected)
        if not error:
            written = [array for tensor in self._tensors() for array in tensor.values()]
            for array, copy in zip(arrays, copies, strict=True):
                wanted = np.zeros_like(copy) if self.case.common["zero_grads"] else copy
                # one that was converted may be a view of what a step writes
                assert array is None or same(array, wanted) or any(np.shares_memory(array, own) for own in written)
        return taken, error

    def _expected(self, grads, passed):
        """Do a step of the reference, or return the type of exception that the step should raise."""
        mode, max_norm = self.case.common["nonfinite"], self.case.common["max_grad_norm"]
        scale, self.parts = self.grad_scale * max(self.parts, 1), 0
        active = [grad for grad in grads if grad is not None]
        finite = all(np.isfinite(grad).all() for grad in active)
        if not finite and mode == "raise":
            return FloatingPointError
        if not finite and mode == "skip":
            self.skipped, self.micro_steps = self.skipped + 1, self.micro_steps + passed
            return type(None)
        with np.errstate(all="ignore"):
            norm = math.sqrt(reference.sum_squares(active)) / scale
        if max_norm is not None and max_norm < math.inf and finite and not math.isfinite(norm):
            return OverflowError
        self.micro_steps += passed
        self.reference.common["grad_scale"] = scale
        self.reference.step([None if grad is None else grad.copy("K") for grad in grads])
        assert same(self.optimizer.grad_norm, self.reference.grad_norm)
        return type(None)

    # Actions

    def step(self):
        """Step with gradients, perhaps with another rate, or with what was accumulated."""
        lr = self.data.draw(st.sampled_from([None, 0.0, 0.5, 1, np.float32(0.1), rate]))
        if lr is not None:
            self.optimizer.lr = lr
            for group in self.reference.groups:
                group["lr"] = plain(lr, 0.1)
        self.replaced, (grads, skip) = False, (None, ())
        if not self.parts or self.data.draw(FLAGS):
            grads, skip = self._drawn(*self._draw_gradients())
        passed, expected = grads is not None, "must be None after accumulate" if self.parts else None
        taken, error = self._pass(self.optimizer.step, grads, skip, expected)
        if isinstance(error, (TypeError, ValueError)):
            return
        assert passed == (self.parts == 0)
        taken = taken if passed else self.sums + [None] * (len(self.reference.tensors) - len(self.sums))
        assert type(error) is self._expected(taken, passed)

    def accumulate(self):
        """Pass the gradients of some parts of a batch, and perhaps step."""
        for _ in range(self.data.draw(st.integers(1, 3))):
            self._add_part()
            self.check()
        if self.data.draw(FLAGS):
            self.step()

    def _add_part(self):
        grads, skip = self._drawn(*self._draw_gradients())
        taken, error = self._pass(self.optimizer.accumulate, grads, skip)
        if error:
            return
        sums = (self.sums if self.parts else []) + [None] * len(taken)
        with np.errstate(all="ignore"):
            for i, grad in enumerate(taken):
                if grad is not None:  # what was not in earlier parts counts as zero in them
                    before = np.zeros_like(grad) if sums[i] is None else sums[i]
                    sums[i] = np.asarray(before + grad) if self.parts else grad
        self.sums, self.parts, self.micro_steps = sums[: len(taken)], self.parts + 1, self.micro_steps + 1

    def reload(self):
        """Load the state of now, or of the beginning."""
        if self.parts:
            with pytest.raises(RuntimeError):
                self.optimizer.state_dict()
        else:
            self.saved.append(self.optimizer.state_dict())
        saved, keep = self._drawn(self.saved[-1 if self.data.draw(FLAGS) else 0], self.data.draw(FLAGS))
        states = None
        with suppress(Exception):
            states = self._by_tensor([group["state"] for group in saved["param_groups"]])
            states = [{name: np.array(array) for name, array in own.items()} for own in states]
        error = self._attempt(
            lambda saved, keep: self.optimizer.load_state_dict(saved, keep_hyperparameters=keep),
            saved,
            keep,
            expected=f"must have {len(self.params)} groups",
        )
        if error:
            return
        self.parts, self.skipped = 0, int(saved["skipped"])
        self.reference.steps, self.micro_steps = int(saved["steps"]), int(saved["micro_steps"])
        self.grad_scale = plain(saved["grad_scale"], 1.0)
        for tensor, own in zip(self.reference.tensors, states, strict=True):
            for name, array in own.items():
                tensor[name][...] = array
        missed = [
            group["missed_steps"].get(path, 0)
            for params, group in zip(self.params, saved["param_groups"], strict=True)
            for path, _ in matched(params, params)
        ]
        self.reference.own_steps = [self.reference.steps - int(steps) for steps in missed]
        if not keep:
            for group, own in zip(self.reference.groups, saved["param_groups"], strict=True):
                load_hyperparameters(group, own)

    def resume(self):
        """Continue with other objects, from a file."""
        keep, suffix = self.data.draw(FLAGS), self.data.draw(st.sampled_from([".npz", ".safetensors"]))
        named = {str(i): params for i, params in enumerate(self.params)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"run{suffix}")
            if self.parts:
                with pytest.raises(RuntimeError):
                    fastopt.save(path, optimizer=self.optimizer)
                return
            fastopt.save(path, params=named, optimizer=self.optimizer)
            self.params = [self.data.draw(make(ORDINARY)) for make in self.makes]
            groups = [{"params": own, **given} for own, given in zip(self.params, [{}, *self.added], strict=True)]
            self.optimizer = self.case.make(groups[:1] if self.wrapped else self.params[0])
            for group in groups[1:]:
                self.optimizer.add_param_group(group)
            own = [dict(group) for group in self.optimizer.param_groups]
            params = dict(zip(named, self.params, strict=True))
            fastopt.load(path, params=params, optimizer=self.optimizer, keep_hyperparameters=keep)
        self.sources = groups if self.wrapped else groups[1:]
        for group, saved in zip(own, self.reference.groups, strict=True):
            if not keep:
                load_hyperparameters(group, {n: None if varies(value) else value for n, value in saved.items()})
        self.reference.groups = own

    def change(self):
        """Set a hyperparameter of a group, or the gradient scale."""
        i = self.data.draw(st.integers(0, len(self.params) - 1))
        group = self.optimizer.param_groups[i]
        name, valid = self.data.draw(st.sampled_from(["grad_scale", *group])), dict(group)
        if name == "grad_scale":
            (value,) = self._drawn(2.0)
            if not self._attempt(lambda value: setattr(self.optimizer, name, value), value):
                self.grad_scale = plain(value, 1.0)
            return
        (value,) = self._drawn(valid[name])
        if self._attempt(lambda value: group.update({name: value}), value):
            assert dict(group) == valid
        else:
            self.reference.groups[i][name] = hyperparameter(value, valid[name])

    def add(self):
        """Add a parameter group."""
        make, options = self.data.draw(parameters(any_order=True)), {"lr": 0.25, "weight_decay": 0.5, "maximize": True}
        params, names = self.data.draw(make(ORDINARY)), self.data.draw(st.sets(st.sampled_from(sorted(options))))
        (group,) = self._drawn({"params": params, **{name: options[name] for name in names}})
        if self._attempt(self.optimizer.add_param_group, group):
            return
        assume(group["params"] is params)  # otherwise gradients may not match
        given = {name: value for name, value in group.items() if name != "params"}
        self.added.append(given)
        self.makes, self.params, self.sources = [*self.makes, make], [*self.params, params], [*self.sources, group]
        self.reference.add_group(
            arrays_and_flats(params), **{name: plain(given[name], options[name]) for name in given}
        )

    def change_containers(self):
        """Replace or add an item of a container of parameters: until it is undone, no step can follow."""
        found = [*self.sources, *containers(self.params)[1:]]
        if not found:
            return
        i, (grads, skip) = self.data.draw(st.integers(0, len(found) - 1)), self._draw_gradients()
        function = self.data.draw(st.sampled_from([self.optimizer.step, self.optimizer.accumulate]))
        container, kept, other, memory = found[i], found[i].copy(), np.ones(2), self._tensors()
        keys = range(len(container)) if isinstance(container, list) else list(container)
        key = "params" if i < len(self.sources) else self.data.draw(st.sampled_from([None, *keys]))
        if key is not None:
            container[key] = other
        elif isinstance(container, list):
            container.append(other)
        else:
            container["new"] = other
        _, error = attempt(lambda: function(grads, skip), grads, memory)
        assert isinstance(error, ValueError)
        assert re.match(
            r"params.* must (be the object|have the \d+ items) that the optimizer was made with", str(error)
        )
        container.clear()
        container.extend(kept) if isinstance(container, list) else container.update(kept)


def hyperparameter(value, valid):
    """Return a hyperparameter or option that replaces a valid one, as the reference takes it."""
    value = plain(value, 1.0 if valid is None or callable(valid) else valid)
    return tuple(value) if isinstance(value, list) else value


def load_hyperparameters(group, saved):
    """Replace the numbers of a group by those of a state_dict, which has None for functions."""
    for name, value in group.items():
        if saved[name] is not None and not varies(value):
            group[name] = hyperparameter(saved[name], value)
