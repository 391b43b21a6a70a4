"""Optimizers and bare calls: the bits of the reference, or a refusal that changes no byte."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import Case, Reference
from hypothesis import given, note
from hypothesis import strategies as st
from scenes import REALS, Scene, fuzz, leaves, plain, rate, same, things

import fastopt
from fastopt import kernels, reference
from fastopt.optimizers._param_groups import value_at

RULES = {
    "sgd": [{}, {"momentum": 0.9}, {"momentum": 0.5, "dampening": 0.25}, {"momentum": 0.9, "nesterov": True}],
    "momentum": [{}, {"nesterov": True}, {"form": "ema"}, {"form": "ema", "momentum": 0.0}],
    "rmsprop": [
        {},
        {"centered": True},
        {"momentum": 0.9},
        {"centered": True, "momentum": 0.5, "eps_inside_sqrt": True},
    ],
    "adam": [{}, {"amsgrad": True}, {"betas": (0.5, 0.0)}, {"betas": (0.0, 0.999), "eps": 0.0}],
}
CLASSES = {"sgd": [fastopt.SGD], "momentum": [fastopt.Momentum], "rmsprop": [fastopt.RMSprop]}
CLASSES["adam"] = [fastopt.Adam, fastopt.AdamW]


def hyper_of(scene, rule):
    """Give hyperparameters of a rule that go together."""
    own = scene.pick(RULES[rule])
    flags = {name: scene.pick([False, False, True]) for name in ("maximize", "decoupled_weight_decay")}
    return {"lr": scene.number(0, 2), "weight_decay": scene.pick([0.0, 0.01, 0.5]), **flags, **own}


@pytest.mark.parametrize("rule", RULES)
@fuzz
@given(st.data())
def test_bare_calls(rule, data):
    scene = Scene(data)
    shape, dtype, hyper = scene.shape(), scene.pick(REALS), hyper_of(scene, rule)
    cls = CLASSES[rule][0]
    states = list(cls(np.zeros(0), **hyper).state)
    good = {name: scene.reals(shape, dtype) for name in ("param", "grad", *states)}
    written = ["param", *states]
    good |= {**hyper, "step": scene.pick([1, 2, 10, 2**62 - 1]), "scale": scene.number(-1, 1)}
    if scene.pick([False, False, True]):
        good["max_exp_avg_sq" if rule == "adam" else "momentum_buffer"] = scene.reals(shape, dtype)
        scene.spoiled.append("one more, perhaps")
    scene.check(getattr(kernels, rule), getattr(reference, rule), scene.spoil(dict(good)), good, written)


def of_values(error):
    """Whether what was refused is right in itself: too large together, or a function that gives what is no rate."""
    known = any(text in str(error) for text in ("coefficient", "as the function", "at step"))
    return known or isinstance(error, (FloatingPointError, OverflowError))


class Mirror:
    """An optimizer, and the reference beside it."""

    def __init__(self, scene, optimizer, case, params):
        self.scene, self.optimizer, self.case, self.params = scene, optimizer, case, leaves(params)
        self.reference, self.skipped = Reference(case, [np.array(param) for param in self.params]), 0

    def everything(self):
        """Give all that an optimizer may change, but gradients."""
        return [*self.params, *leaves(self.optimizer.state)]

    def check(self):
        """Compare all that there is."""
        tensors = self.reference.tensors
        assert all(same(param, tensor["param"]) for param, tensor in zip(self.params, tensors, strict=True))
        for name, states in self.optimizer.param_groups[0].state.items():
            assert all(same(got, tensor[name]) for got, tensor in zip(leaves(states), tensors, strict=True)), name
        assert (self.optimizer.steps, self.optimizer.skipped) == (self.reference.steps, self.skipped)

    def attempt(self, call, value):
        """Call with a value that may be spoiled; give the value, and what refused it."""
        scene = self.scene
        scene.spoiled.clear()
        if scene.pick([False, False, True]):
            value = scene.other(value, self.everything())
            scene.spoiled.append("it")
        note(f"{call} {value}")
        arrays = [array for array in leaves(value) if array.dtype.kind == "f"]
        copies = [array.copy() for array in arrays]
        _, error = scene.attempt(lambda: call(value), *self.everything(), *arrays)
        assert not error or scene.spoiled or of_values(error), error
        return value, arrays, copies, error

    def wanted(self, grads, parts):
        """Do what a step should do, and tell which error it should raise."""
        common, norm = self.case.common, self.case.common.get("max_grad_norm")
        finite, mode = all(np.isfinite(grad).all() for grad in grads), common["nonfinite"]
        if mode != "propagate" and not finite:
            self.skipped += mode == "skip"
            return FloatingPointError if mode == "raise" else None
        with np.errstate(all="ignore"):
            size = math.sqrt(reference.sum_squares(grads)) / (common["grad_scale"] * parts)
            beyond = norm is not None and not math.isfinite(size)
        if beyond and finite and norm < math.inf:
            return OverflowError
        self.reference.common["grad_scale"] = common["grad_scale"] * parts
        hyper = self.reference.hyper
        self.reference.hyper = {name: value_at(name, value, self.reference.steps) for name, value in hyper.items()}
        self.reference.step([grad.copy() for grad in grads])
        self.reference.hyper = hyper
        return None

    def step(self, good):
        """Do a step, and tell whether one can go on."""
        _, arrays, grads, error = self.attempt(self.optimizer.step, good)
        if not isinstance(error, (TypeError, ValueError)):
            assert type(error) is (self.wanted(grads, 1) or type(None))
            self.zeroed(arrays, grads, error)
        self.check()
        return True

    def zeroed(self, arrays, grads, error):
        zero = self.case.common["zero_grads"] and not error
        assert all(
            same(array, np.zeros_like(grad) if zero else grad) for array, grad in zip(arrays, grads, strict=True)
        )

    def accumulate(self, parts):
        """Add up some parts and step."""
        sums, added = [], 0
        for part in parts:
            _, arrays, grads, error = self.attempt(self.optimizer.accumulate, part)
            if not error:
                with np.errstate(all="ignore"):
                    sums = list(map(np.add, sums, grads)) if added else grads
                added += 1
                self.zeroed(arrays, grads, error)
        _, error = self.scene.attempt(self.optimizer.step, *self.everything())
        if isinstance(error, ValueError):  # the parts stay
            assert of_values(error), error
            return False
        assert type(error) is (self.wanted(list(map(np.asarray, sums)), added) or type(None) if added else TypeError)
        self.check()
        return True

    def reload(self):
        """Load what was saved, perhaps spoiled."""
        good = self.optimizer.state_dict()
        given_dict, _, _, error = self.attempt(self.optimizer.load_state_dict, good)
        if not error:
            self.reference.steps, self.skipped = int(given_dict["steps"]), int(given_dict["skipped"])
            self.case.common["grad_scale"] = float(given_dict["grad_scale"])
            group = given_dict["param_groups"][0]
            for name, states in group["state"].items():
                for tensor, array in zip(self.reference.tensors, leaves(states), strict=True):
                    tensor[name][...] = array
            self.took({name: value for name, value in group.items() if name != "state"}, good["param_groups"][0])
        self.check()
        return True

    def took(self, values, good):
        values = {name: plain(value, good[name]) for name, value in values.items()}
        self.reference.lr = values.pop("lr", self.reference.lr)
        self.reference.hyper |= values

    def change(self):
        """Change a hyperparameter, perhaps to something that is none."""
        group = self.optimizer.param_groups[0]
        name, good = self.scene.pick(list(group)), dict(group)
        value, _, _, error = self.attempt(lambda value: group.update({name: value}), good[name])
        if error:
            assert dict(group) == good
        else:
            self.took({name: value}, {**good, "lr": 0.1})
        return True


@pytest.mark.parametrize("rule", RULES)
@fuzz
@given(st.data())
def test_optimizers(rule, data):
    scene, kinds = Scene(data), ("ordinary", "ordinary", "ordinary", "hard", "edges")
    make = things(scene)
    common = {"max_grad_norm": scene.pick([None, 1.0, math.inf]), "zero_grads": scene.pick([False, True])}
    common |= {"ema_decay": scene.pick([None, 0.9]), "grad_scale": scene.pick([1.0, 3.0])}
    common |= {"nonfinite": scene.pick(["propagate", "skip", "raise"])}
    hyper = hyper_of(scene, rule)
    hyper["lr"] = scene.pick([hyper["lr"], rate, fastopt.schedules.Cosine(0.1, 5)])
    cls = scene.pick(CLASSES[rule])
    good = {"params": make(["ordinary"]), **hyper, **common}
    arguments = scene.spoil(dict(good))
    note(f"{cls.__name__} {arguments}")
    optimizer, error = scene.attempt(lambda: cls(**arguments))
    assert not error or scene.spoiled, error
    if error or "params" in scene.spoiled:  # of which the gradients would have to have the form
        return
    hyper = {name: plain(arguments[name], 1.0) for name in hyper}
    common = {name: plain(arguments[name], 1.0) for name in common}
    mirror = Mirror(scene, optimizer, Case(cls, hyper, common), arguments["params"])
    goes_on = True
    for _ in range(2 + scene.integer(4)):
        action = scene.pick(["step", "step", "accumulate", "reload", "change"]) if goes_on else ""
        if action == "step":
            goes_on = mirror.step(make(kinds))
        elif action == "accumulate":
            goes_on = mirror.accumulate([make(kinds) for _ in range(1 + scene.integer(2))])
        elif action:
            goes_on = getattr(mirror, action)()
