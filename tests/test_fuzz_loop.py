"""What surrounds a step: batches, schedules, early stopping, Flat, checkpoints, loss scale, settings."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st
from scenes import NUMBERS, REALS, THINGS, Scene, as_array, as_float, fuzz, leaves, rate, same, things

import fastopt
from fastopt import reference, runtime, schedules


@fuzz
@given(st.data())
def test_batches(data):
    scene = Scene(data)
    rows = scene.pick([1, 2, 15, 16, 17, 65, 4097])
    tails = [scene.pick([(), (3,), (2, 0)]) for _ in range(1 + scene.integer(2))]
    good = {"arrays": [scene.reals((rows, *tail), scene.pick(REALS)) for tail in tails]}
    good |= {"batch_size": scene.pick([None, 1, 2, 16, 5000]), "seed": scene.integer(2**64 - 1)}
    size = min(good["batch_size"] or rows, rows)
    good |= {"epoch": scene.integer(2**53 - 1), "shuffle": scene.pick([True, False])}
    good |= {"drop_last": scene.pick([True, False]) and (good["batch_size"] or 0) <= rows}
    good |= {"start": scene.pick([0, rows // size])}

    def call(arrays, **options):
        return list(fastopt.batches(*arrays, **options))

    def wanted(arrays, batch_size, seed, epoch, shuffle, start, drop_last):
        count = len(arrays[0])
        words = reference._random.words(int(seed), int(epoch), 2, 2 * count)
        order = words.astype("<u4").view("<u8").argsort(kind="stable") if shuffle else np.arange(count)
        size = count if batch_size is None else int(batch_size)
        end = count // size if drop_last else -(-count // size)
        found = [[array[order[i * size : (i + 1) * size]] for array in arrays] for i in range(int(start), end)]
        return [tuple(batch) if len(batch) > 1 else batch[0] for batch in found]

    scene.check(call, wanted, scene.spoil(dict(good)), good)


STEPS = [0, 1, 2, 5, 10, 100, 2**31, 2**53 + 1]
SOME, VALUES = STEPS[1:], [0.0, 0.1, 1.0, -2.5, 1e-300, 1e300]
ENDS, DECAYS = {"init_value": VALUES, "end_value": VALUES}, {"init_value": VALUES, "decay_rate": [0.5, 2.0, 1e-9]}
SCHEDULES = {
    "Constant": {"value": VALUES},
    "Exponential": {**DECAYS, "transition_steps": SOME},
    "StepDecay": {**DECAYS, "step_size": SOME},
    "PiecewiseConstant": {
        "init_value": VALUES,
        "boundaries_and_scales": [{}, {3: 0.1}, {0: 2.0, 5: 0.0}, [(5, 0.5), (2, 3.0)]],
    },
    "InverseTimeDecay": DECAYS,
    "Polynomial": {**ENDS, "power": [0.5, 1, 2.0, 1e9], "transition_steps": SOME},
    "Linear": {**ENDS, "transition_steps": SOME},
    "Cosine": {**ENDS, "decay_steps": SOME},
    "CosineRestarts": {**ENDS, "decay_steps": SOME, "multiplier": [1, 2, 7]},
    "OneCycle": {"transition_steps": SOME, "peak_value": VALUES, "pct_start": [0.0, 0.3, 1.0], "div_factor": [1.0, 9]},
    "Cyclic": {"base_value": VALUES, "peak_value": VALUES, "step_size_up": SOME, "step_size_down": [None, *SOME]},
    "WarmupStableDecay": {"peak_value": VALUES, "warmup_steps": STEPS, "stable_steps": STEPS, "decay_steps": SOME},
    "Warmup": {"schedule": [fastopt.schedules.Linear(1, 0, 5), rate], "warmup_steps": STEPS, "start": VALUES},
    "Join": {"schedules": [[rate, fastopt.schedules.Constant(1.0)]], "boundaries": [[step] for step in STEPS]},
    "Plateau": {"init_value": VALUES, "factor": [0.0, 0.5], "patience": [0, 1], "threshold": [0.0, 0.1]},
}


@fuzz
@given(st.data())
def test_schedules(data):
    """There is no reference but the schedule itself, step by step; test_schedules.py has the formulas."""
    scene = Scene(data)
    name = scene.pick(SCHEDULES)
    arguments = scene.spoil({own: scene.pick(values) for own, values in SCHEDULES[name].items()})
    note(f"{name} {arguments}")
    schedule, error = scene.attempt(lambda: getattr(schedules, name)(**arguments))
    assert not error or scene.spoiled, error
    if error:
        return
    for metric in [1.0, scene.spoil({"metric": 2.0})["metric"], 3.0] if name == "Plateau" else []:
        memory = schedule.state_dict()
        _, error = scene.attempt(lambda metric=metric: schedule.update(metric))
        assert not error or (scene.spoiled and schedule.state_dict() == memory)
    steps = scene.pick([*STEPS, STEPS, scene.array(np.arange(65)), scene.array(np.array([[3], [70]], "u1"))])
    steps = scene.spoil({"steps": steps})["steps"]
    note(f"at {steps!r}")
    value, error = scene.attempt(lambda: schedule(steps))
    assert not error or scene.spoiled, error
    if not error:
        steps = as_array(steps)
        one_by_one = [schedule(int(step)) for step in steps.ravel()]
        assert {type(one) for one in one_by_one} <= {float}
        assert same(value, np.array(one_by_one, float).reshape(steps.shape))
        assert type(value) is (np.ndarray if steps.ndim else float)
        assert scene.spoiled or not np.isnan(one_by_one).any()


@fuzz
@given(st.data())
def test_plot_schedule(data):
    pytest.importorskip("matplotlib")
    scene = Scene(data)
    good = {
        "schedule": scene.pick([fastopt.schedules.Cosine(0.1, 5), rate, fastopt.schedules.Plateau(1.0)]),
        "steps": scene.pick(SOME[:5]),
    }
    arguments = scene.spoil(good)
    assume(not (isinstance(arguments["steps"], (int, float)) and arguments["steps"] > 10**4))  # more than there is time
    note(f"{arguments}")
    figure, error = scene.attempt(lambda: fastopt.schedules.plot_schedule(**arguments))
    assert not error or scene.spoiled, error
    if not error:
        wanted = [float(arguments["schedule"](i)) for i in range(int(arguments["steps"]))]
        assert same(figure.axes[0].lines[0].get_ydata(), np.array(wanted))


@fuzz
@given(st.data())
def test_early_stopping(data):
    scene = Scene(data)
    make, odd = things(scene), False  # whether parameters of another form were taken
    good = {"patience": scene.pick([1, 2, 5]), "min_delta": scene.pick([0.0, 0.5]), "mode": scene.pick(["min", "max"])}
    arguments = scene.spoil({**good, "start_from_epoch": scene.pick([0, 0, 1])})
    note(f"{arguments}")
    early_stopping, error = scene.attempt(lambda: fastopt.EarlyStopping(**arguments))
    assert not error or scene.spoiled, error
    if error:
        return
    sign, least = (1 if arguments["mode"] == "min" else -1), as_float(arguments["min_delta"])
    best, kept, bad, epochs = math.inf, None, 0, 0  # of what is to become less
    for _ in range(scene.integer(5)):
        scene.spoiled.clear()
        if scene.pick([True, False, False]):
            own = scene.spoil({"params": make()})
            note(f"restore {own}")
            _, error = scene.attempt(lambda own=own, kept=kept: early_stopping.restore(**own) if kept else None)
            assert not error or scene.spoiled or odd, error
            assert error or not kept or all(map(same, leaves(own["params"]), kept))
            continue
        own = scene.spoil({"metric": scene.pick([0.0, 1.0, 1.4, -1e300, math.nan, math.inf]), "params": make()})
        note(f"update {own}")
        memory, before = early_stopping.state_dict(), scene.snapshot()
        stopped, error = scene.attempt(lambda own=own: early_stopping.update(**own))
        assert (scene.snapshot() == before) is True
        if error:
            assert scene.spoiled or odd, error
            assert same(leaves(early_stopping.state_dict()), leaves(memory))
        else:
            odd, metric = odd or bool(scene.spoiled), sign * as_float(own["metric"])
            if epochs >= int(arguments["start_from_epoch"]):
                good = metric < best - least
                best, bad = (metric, 0) if good else (best, bad + 1)
                kept = [np.array(array) for array in leaves(own["params"])] if good else kept
            epochs += 1
            assert stopped is early_stopping.stopped is (bad >= int(arguments["patience"]))
        assert (early_stopping.best, early_stopping.bad_epochs, early_stopping.epochs) == (sign * best, bad, epochs)


@fuzz
@given(st.data())
def test_flat(data):
    scene = Scene(data)
    shapes = [3, (2, 3), [1, 4], (), 0, (0, 2), np.int64(2), scene.reals((2, 2), scene.pick(REALS)), np.arange(5)]
    good = {"shapes_or_arrays": {f"w{i}": scene.pick(shapes) for i in range(scene.integer(3))}}
    arguments = scene.spoil({**good, "dtype": scene.pick([np.float32, np.float64, "f4"])})
    note(f"{arguments}")
    things = arguments["shapes_or_arrays"] if isinstance(arguments["shapes_or_arrays"], Mapping) else {}
    sizes = [n for own in things.values() for n in (own if isinstance(own, (tuple, list)) else [own])]
    assume(not any(isinstance(n, int) and 10**4 < n < 2**62 for n in sizes))  # more than there is memory
    with np.errstate(over="ignore"):  # NumPy warns of values beyond the type, as in any cast
        flat, error = scene.attempt(lambda: fastopt.Flat(**arguments))
    assert not error or scene.spoiled, error
    if error:
        return
    expected = {}
    for name, thing in things.items():
        is_array = hasattr(thing, "__array_interface__") and not isinstance(thing, np.integer)
        with np.errstate(all="ignore"):
            expected[name] = as_array(thing).astype(flat.dtype) if is_array else np.zeros(thing, flat.dtype)
    assert list(flat) == list(expected)
    assert all(same(flat[name], array) for name, array in expected.items())
    assert same(flat.buffer, np.concatenate([np.zeros(0, flat.dtype), *map(np.ravel, expected.values())]))
    for name in list(expected)[:1]:
        values = scene.other(scene.reals(expected[name].shape, flat.dtype), [])
        note(f"{name} {values!r}")
        with np.errstate(all="ignore"):
            _, error = scene.attempt(lambda name=name, values=values: flat.__setitem__(name, values), flat.buffer)
            if not error:
                expected[name][...] = as_array(values)
        assert same(flat[name], expected[name])


JSON = [None, 3, -0.0, 1e300, "\u00e4\ud800", [1, [2.5, None]], {"a": {"b": []}}, True, 10**30]


@fuzz
@given(st.data())
def test_checkpoints(data):
    """What was saved is loaded; a rejected save leaves the old file unchanged and no other file."""
    scene = Scene(data)
    make, suffix = things(scene), scene.pick([".npz", ".safetensors"])
    good = {"params": make(), "metadata": scene.pick(JSON), "keep": scene.pick([1, 2])}
    good["arrays"] = {scene.pick(["a", "", "/../b", "\u00e4", "w" * 999]): scene.reals(scene.shape(), REALS[0])}
    arguments = scene.spoil(dict(good))
    note(f"{suffix} {arguments}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"run{suffix}")
        fastopt.save(path, metadata="before")
        before, memory = path.read_bytes(), scene.snapshot()
        _, error = scene.attempt(lambda: fastopt.save(path, **arguments))
        assert (scene.snapshot() == memory) is True
        older = [] if error or arguments["keep"] == 1 else [f"run.1{suffix}"]
        assert sorted(own.name for own in Path(folder).iterdir()) == sorted([path.name, *older])
        if error:
            assert scene.spoiled, error
            assert path.read_bytes() == before
            return
        into = make() if arguments["params"] is not None and "params" not in scene.spoiled else None
        found = fastopt.load(path, params=into)
        assert into is None or all(map(same, leaves(into), leaves(arguments["params"])))
        assert json.dumps(found.metadata) == json.dumps(arguments["metadata"], default=lambda scalar: scalar.item())
        wanted = arguments["arrays"] or {}
        assert list(found.arrays) == list(wanted)
        for name, array in wanted.items():
            assert same(found.arrays[name], as_array(array).astype(as_array(array).dtype.newbyteorder("=")))


@fuzz
@given(st.data())
def test_load(data):
    """Into something else than was saved."""
    scene = Scene(data)
    make, suffix = things(scene), scene.pick([".npz", ".safetensors"])
    saved, into = make(), scene.spoil({"params": make()})["params"]
    note(f"{suffix} {saved} into {into}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"run{suffix}")
        fastopt.save(path, params=saved)
        targets = [array for array in leaves(into) if not array.dtype.hasobject]
        _, error = scene.attempt(lambda: fastopt.load(path, params=into), *targets)
        assert not error or scene.spoiled, error
        assert error or into is None or all(map(same, leaves(into), leaves(saved)))


@fuzz
@given(st.data())
def test_loss_scale(data):
    scene = Scene(data)
    optimizer = fastopt.SGD(np.zeros(2, np.float32), lr=1.0, nonfinite="skip")
    good = {"init_scale": scene.pick([1.0, 2.0**16, 2.0**-126]), "growth_factor": scene.pick([1.0, 2.0, 1e30])}
    good |= {"backoff_factor": scene.pick([0.5, 1.0, 1e-30]), "growth_interval": scene.pick([1, 3])}
    arguments = scene.spoil({"optimizer": optimizer, **good})
    note(f"{arguments}")
    loss_scale, error = scene.attempt(lambda: fastopt.DynamicLossScale(**arguments))
    assert not error or scene.spoiled, error
    if error:
        assert optimizer.grad_scale == 1
        return
    scale, good_steps = loss_scale.scale, 0
    for _ in range(scene.integer(9)):
        finite = scene.pick([True, True, False])
        optimizer.step(np.array([1.0, 1.0 if finite else math.inf], np.float32))
        loss_scale.update()
        good_steps += 1
        if not finite:
            scale, good_steps = scale * float(arguments["backoff_factor"]), 0
        elif good_steps == arguments["growth_interval"]:
            scale, good_steps = scale * float(arguments["growth_factor"]), 0
        scale = min(max(scale, 2.0**-126), 2.0**127)
        assert (loss_scale.scale, loss_scale.good_steps) == (scale, good_steps)
    state_dict = scene.spoil(loss_scale.state_dict())
    note(f"load {state_dict}")
    _, error = scene.attempt(lambda: loss_scale.load_state_dict(state_dict))
    if error:
        state_dict = {"scale": scale, "good_steps": good_steps}
    assert loss_scale.scale == as_float(state_dict["scale"])
    assert loss_scale.good_steps == state_dict["good_steps"]


@fuzz
@given(st.data())
def test_find_lr(data):
    scene = Scene(data)
    make = things(scene)
    params, more = make(), scene.array(np.ones(3))
    optimizer = fastopt.Adam(params)
    good = {"start": scene.pick([1e-7, 1e-300]), "end": scene.pick([1.0, 1e30]), "steps": scene.pick([2, 5])}
    arguments = scene.spoil({**good, "restore": [more]})
    assume(not (isinstance(arguments["steps"], int) and arguments["steps"] > 10**4))  # more than there is time
    note(f"{arguments}")
    losses = [scene.pick([1.0, 0.5, -2.0, 9.0, math.nan, *NUMBERS]) for _ in range(3)]

    def step(i):
        optimizer.step(make(["ordinary"]))
        more[...] += 1
        return losses[i % 3]

    before = [array.copy() for array in [*leaves(params), *leaves(optimizer.state)]]
    found, error = scene.attempt(lambda: fastopt.find_lr(step, optimizer, **arguments))
    assert all(map(same, [*leaves(params), *leaves(optimizer.state)], before))
    assert optimizer.steps == 0
    assert optimizer.lr == 1e-3
    assert "restore" in scene.spoiled or same(more, np.ones(3))
    assert error or found.suggestion is None or found.suggestion in found.rates


@pytest.mark.parametrize("name", ["num_threads", "isa"])
@fuzz
@given(st.data())
def test_settings(name, data):
    scene = Scene(data)
    before = getattr(fastopt, name)()
    value = scene.pick([before, 1, 1024, "auto", *runtime.available_isas(), *NUMBERS, *THINGS])
    note(f"{value!r}")
    _, error = scene.attempt(lambda: getattr(fastopt, f"set_{name}")(value))
    wanted = runtime.available_threads() if name == "num_threads" and isinstance(value, str) else value
    assert getattr(fastopt, name)() == (before if error else wanted)
