"""Optimizers and kernel functions return the bits of the reference, or raise and change no byte."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from cases import Case
from hypothesis import strategies as st
from pair import ACTIONS, Pair, hyperparameter
from strategies import (
    DTYPES,
    FLAGS,
    ORDINARY,
    arrays,
    calls,
    fuzz,
    leaves,
    numbers,
    rate,
    shapes,
)
from structures import parameters

import fastopt
from fastopt import kernels, reference

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


COMMON = {
    "max_grad_norm": st.sampled_from([None, 1.0, math.inf]),
    "zero_grads": FLAGS,
    "convert_grads": FLAGS,
    "ema_decay": st.sampled_from([None, 0.9]),
    "grad_scale": st.sampled_from([1.0, 3.0]),
    "nonfinite": st.sampled_from(["propagate", "skip", "raise"]),
}


@pytest.mark.parametrize("rule", RULES)
@fuzz(data=st.data())
def test_optimizers(rule, data):
    make, cls = data.draw(parameters(any_order=True)), data.draw(st.sampled_from(CLASSES[rule]))
    hyper, common = data.draw(hyperparameters(rule)), data.draw(st.fixed_dictionaries(COMMON))
    hyper["lr"] = data.draw(st.sampled_from([hyper["lr"], rate, fastopt.schedules.Cosine(0.1, 5)]))
    params = data.draw(make(ORDINARY))
    sources = [{"params": params}] if data.draw(FLAGS) else []
    call = data.draw(calls({"params": sources or params, **hyper, **common}))
    optimizer, error = call.attempt(cls)
    if error or "params" in call.replaced:  # the gradients would not match
        accepted = [] if error else leaves(call.arguments["params"])
        assert not any(np.shares_memory(*pair) for pair in combinations(accepted, 2))
        return
    hyper, common = (
        {name: hyperparameter(call.arguments[name], valid) for name, valid in values.items()}
        for values in (hyper, common)
    )
    pair = Pair(data, optimizer, Case(cls, hyper, common), make, params, sources)
    for action in data.draw(st.lists(st.sampled_from(ACTIONS), min_size=3, max_size=12)):
        getattr(pair, action)()
        pair.check()
