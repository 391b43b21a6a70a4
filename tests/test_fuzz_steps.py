"""Optimizers and kernel functions return the bits of the reference, or raise and change no byte."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from cases import Case, Reference
from hypothesis import note
from hypothesis import strategies as st
from strategies import (
    DTYPES,
    FLAGS,
    ORDINARY,
    arrays,
    attempt,
    calls,
    fuzz,
    leaves,
    numbers,
    parameters,
    plain,
    rate,
    replacements,
    same,
    shapes,
)

import fastopt
from fastopt import kernels, reference
from fastopt.optimizers._param_groups import hyperparameter_at

RULES = {
    "sgd": [{}, {"momentum": 0.9}, {"momentum": 0.5, "dampening": 0.25}, {"momentum": 0.9, "nesterov": True}],
    "momentum": [{}, {"nesterov": True}, {"form": "ema"}, {"form": "ema", "momentum": 0.0}],
    "rmsprop": [
        {},
        {"centered": True},
        {"momentum": 0.9},
        {"centered": True, "momentum": 0.5, "eps_inside_sqrt": True},
    ],
    "adagrad": [{}, {"lr_decay": 0.5}, {"eps": 0.0}],
    "adam": [
        {},
        {"amsgrad": True},
        {"betas": (0.5, 0.0)},
        {"betas": (0.0, 0.999), "eps": 0.0},
        {"eps_hat": True, "eps": 0.25},
    ],
}
CLASSES = {"sgd": [fastopt.SGD], "momentum": [fastopt.Momentum], "rmsprop": [fastopt.RMSprop]}
CLASSES |= {"adagrad": [fastopt.Adagrad], "adam": [fastopt.Adam, fastopt.AdamW]}


def hyperparameters(rule):
    """Return a strategy for hyperparameters of a rule that go together."""
    common = {
        "lr": numbers(0, 2),
        "weight_decay": st.sampled_from([0.0, 0.01, 0.5]),
        "maximize": FLAGS,
        "decoupled_weight_decay": FLAGS,
    }
    return st.builds(lambda common, own: common | own, st.fixed_dictionaries(common), st.sampled_from(RULES[rule]))


@pytest.mark.parametrize("rule", RULES)
@fuzz(data=st.data())
def test_kernel_functions(rule, data):
    hyper, array = data.draw(hyperparameters(rule)), arrays(data.draw(DTYPES), data.draw(shapes()))
    states = list(CLASSES[rule][0](np.zeros(0), **hyper).state)
    valid = {name: data.draw(array) for name in ("param", "grad", *states)}
    valid |= {**hyper, "step": data.draw(st.sampled_from([1, 2, 10, 2**62 - 1])), "scale": data.draw(numbers(-1, 1))}
    name = "max_exp_avg_sq" if rule == "adam" else "momentum_buffer"
    superfluous = name not in valid and data.draw(FLAGS)
    if superfluous:
        valid[name] = data.draw(array)
    call = data.draw(calls(valid))
    call.replaced |= {name} if superfluous else set()
    call.check(getattr(kernels, rule), getattr(reference, rule), ["param", *states])


def is_about_values(error):
    """Return whether valid arguments may raise this: together they are too large, or a schedule's value is invalid."""
    known = any(text in str(error) for text in ("coefficient", "as the function", "at step"))
    return known or isinstance(error, (FloatingPointError, OverflowError))


class Pair:
    """An optimizer and its reference, which take the same steps."""

    def __init__(self, data, optimizer, case, params):
        self.data, self.optimizer, self.case, self.params = data, optimizer, case, leaves(params)
        self.reference, self.skipped = Reference(case, [np.array(param) for param in self.params]), 0

    def check(self):
        """Compare parameters, states and counts."""
        tensors = self.reference.tensors
        assert all(same(param, tensor["param"]) for param, tensor in zip(self.params, tensors, strict=True))
        for name, states in self.optimizer.param_groups[0].state.items():
            assert all(same(got, tensor[name]) for got, tensor in zip(leaves(states), tensors, strict=True)), name
        assert (self.optimizer.steps, self.optimizer.skipped) == (self.reference.steps, self.skipped)

    def attempt(self, function, value):
        """Call with a value or a replacement; return it, its arrays with copies from before, and the exception."""
        written, replaced = [*self.params, *leaves(self.optimizer.state)], self.data.draw(FLAGS)
        if replaced:
            value = self.data.draw(replacements(value, written))
        note(f"{function} {value}")
        floats = [array for array in leaves(value) if array.dtype.kind == "f"]
        copies = [array.copy() for array in floats]
        _, error = attempt(lambda: function(value), value, written)
        assert not error or replaced or is_about_values(error), error
        return value, floats, copies, error

    def expected(self, grads, parts):
        """Do a step of the reference, or return the type of exception that the step should raise."""
        common, norm = self.case.common, self.case.common.get("max_grad_norm")
        finite, mode = all(np.isfinite(grad).all() for grad in grads), common["nonfinite"]
        if mode != "propagate" and not finite:
            self.skipped += mode == "skip"
            return FloatingPointError if mode == "raise" else None
        with np.errstate(all="ignore"):
            size = math.sqrt(reference.sum_squares(grads)) / (common["grad_scale"] * parts)
        if norm is not None and norm < math.inf and finite and not math.isfinite(size):
            return OverflowError
        self.reference.common["grad_scale"] = common["grad_scale"] * parts
        hyper = self.reference.hyper
        self.reference.hyper = {
            name: hyperparameter_at(name, value, self.reference.steps) for name, value in hyper.items()
        }
        self.reference.step([grad.copy() for grad in grads])
        self.reference.hyper = hyper
        return None

    def check_gradients(self, arrays, copies, error):
        """Gradients are zeroed, or else stay as they were."""
        zeroed = self.case.common["zero_grads"] and not error
        wanted = [np.zeros_like(copy) if zeroed else copy for copy in copies]
        assert all(map(same, arrays, wanted))

    def step(self, grads):
        _, floats, copies, error = self.attempt(self.optimizer.step, grads)
        if not isinstance(error, (TypeError, ValueError)):
            assert type(error) is (self.expected(copies, 1) or type(None))
            self.check_gradients(floats, copies, error)
        self.check()
        return True

    def accumulate(self, parts):
        """Add some parts, then step; return False if the parts are still there, so that no other step can follow."""
        sums, added = [], 0
        for part in parts:
            _, floats, copies, error = self.attempt(self.optimizer.accumulate, part)
            if not error:
                with np.errstate(all="ignore"):
                    sums = list(map(np.add, sums, copies)) if added else copies
                added += 1
                self.check_gradients(floats, copies, error)
        _, error = attempt(self.optimizer.step, self.params, leaves(self.optimizer.state))
        if isinstance(error, ValueError):
            assert is_about_values(error), error
            return False
        wanted = (self.expected(list(map(np.asarray, sums)), added) or type(None)) if added else TypeError
        assert type(error) is wanted
        self.check()
        return True

    def reload(self):
        """Load the state that was just saved."""
        valid = self.optimizer.state_dict()
        loaded, _, _, error = self.attempt(self.optimizer.load_state_dict, valid)
        if not error:
            self.reference.steps, self.skipped = int(loaded["steps"]), int(loaded["skipped"])
            self.case.common["grad_scale"] = float(loaded["grad_scale"])
            group = loaded["param_groups"][0]
            for name, states in group["state"].items():
                for tensor, array in zip(self.reference.tensors, leaves(states), strict=True):
                    tensor[name][...] = array
            hyper = {name: value for name, value in group.items() if name not in ("state", "missed_steps")}
            self.set(hyper, valid["param_groups"][0])
        self.check()
        return True

    def change(self):
        """Set a hyperparameter."""
        group = self.optimizer.param_groups[0]
        name, valid = self.data.draw(st.sampled_from(list(group))), dict(group)
        value, _, _, error = self.attempt(lambda value: group.update({name: value}), valid[name])
        if error:
            assert dict(group) == valid
        else:
            self.set({name: value}, {**valid, "lr": 0.1})
        return True

    def set(self, values, valid):
        values = {name: plain(value, valid[name]) for name, value in values.items()}
        self.reference.lr = values.pop("lr", self.reference.lr)
        self.reference.hyper |= values


COMMON = {
    "max_grad_norm": st.sampled_from([None, 1.0, math.inf]),
    "zero_grads": FLAGS,
    "ema_decay": st.sampled_from([None, 0.9]),
    "grad_scale": st.sampled_from([1.0, 3.0]),
    "nonfinite": st.sampled_from(["propagate", "skip", "raise"]),
}


@pytest.mark.parametrize("rule", RULES)
@fuzz(data=st.data())
def test_optimizers(rule, data):
    make, cls = data.draw(parameters()), data.draw(st.sampled_from(CLASSES[rule]))
    hyper, common = data.draw(hyperparameters(rule)), data.draw(st.fixed_dictionaries(COMMON))
    hyper["lr"] = data.draw(st.sampled_from([hyper["lr"], rate, fastopt.schedules.Cosine(0.1, 5)]))
    call = data.draw(calls({"params": data.draw(make(ORDINARY)), **hyper, **common}))
    optimizer, error = call.attempt(cls)
    if error or "params" in call.replaced:  # the gradients would not match
        accepted = [] if error else leaves(call.arguments["params"])
        assert not any(np.shares_memory(*pair) for pair in combinations(accepted, 2))
        return
    hyper, common = ({name: plain(call.arguments[name], 1.0) for name in names} for names in (hyper, common))
    pair = Pair(data, optimizer, Case(cls, hyper, common), call.arguments["params"])
    grads, goes_on = st.one_of(make(ORDINARY), make(ORDINARY), make()), True
    for action in data.draw(st.lists(st.sampled_from(["step", "accumulate", "reload", "change"]), max_size=5)):
        if action == "step":
            goes_on = goes_on and pair.step(data.draw(grads))
        elif action == "accumulate":
            goes_on = goes_on and pair.accumulate(data.draw(st.lists(grads, min_size=1, max_size=3)))
        elif goes_on:
            getattr(pair, action)()
