"""Batches, schedules, early stopping, Flat, checkpoints, loss scaling and settings: as specified, or unchanged."""

from __future__ import annotations

import inspect
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, note
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import (
    DTYPES,
    FLAGS,
    ORDINARY,
    SEEDS,
    STEPS,
    GuardedMemory,
    any_number,
    anything,
    arrays,
    as_array,
    as_float,
    attempt,
    calls,
    fuzz,
    guarded,
    leaves,
    numbers,
    rate,
    replacements,
    same,
    shapes,
)
from structures import parameters

import fastopt
from fastopt import reference, runtime, schedules


def takes_too_long(value):
    return isinstance(value, (int, float)) and value > 1000


@st.composite
def batches_arguments(draw):
    rows = draw(st.sampled_from([1, 2, 15, 16, 17, 65, 4097]))
    tails = draw(st.lists(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3), min_size=1, max_size=3))
    batch_size = draw(st.sampled_from([None, 1, 2, 16, 5000]))
    return {
        "arrays": [draw(arrays(draw(DTYPES), (rows, *tail))) for tail in tails],
        "batch_size": batch_size,
        "seed": draw(SEEDS),
        "epoch": draw(STEPS),
        "shuffle": draw(FLAGS),
        "drop_last": draw(FLAGS) and (batch_size or 0) <= rows,
        "start": draw(st.sampled_from([0, rows // min(batch_size or rows, rows)])),
    }


@fuzz(call=calls(batches_arguments()))
def test_batches(call):
    def wanted(arrays, batch_size, seed, epoch, shuffle, start, drop_last):
        count = len(arrays[0])
        words = reference._random.words(int(seed), int(epoch), 2, 2 * count)
        order = words.astype("<u4").view("<u8").argsort(kind="stable") if shuffle else np.arange(count)
        size = count if batch_size is None else int(batch_size)
        end = count // size if drop_last else -(-count // size)
        found = [[array[order[i * size : (i + 1) * size]] for array in arrays] for i in range(int(start), end)]
        return [tuple(batch) if len(batch) > 1 else batch[0] for batch in found]

    call.check(lambda arrays, **options: list(fastopt.batches(*arrays, **options)), wanted)


TIMES = [1, 2, 5, 10, 100, 2**31, 2**53 + 1]
duration, time, patience = st.sampled_from(TIMES), st.sampled_from([0, *TIMES]), st.integers(1, 5)
value = st.sampled_from([0.0, 0.1, 1.0, -2.5, 1e-300, 1e300])
scales = st.dictionaries(st.integers(0, 9), numbers(0, 2), max_size=2)
SCHEDULES = {  # the arguments of all schedules, by name
    **dict.fromkeys(["value", "init_value", "end_value", "base_value", "peak_value", "start"], value),
    **dict.fromkeys(["transition_steps", "decay_steps", "step_size", "step_size_up"], duration),
    **dict.fromkeys(["warmup_steps", "stable_steps"], time),
    **dict.fromkeys(["pct_start", "factor"], numbers(0, 0.5)),
    "decay_rate": numbers(2**-20, 2),
    "boundaries_and_scales": scales | scales.map(lambda pairs: list(pairs.items())),
    "power": st.sampled_from([0.5, 1, 2.0, 1e9]),
    "multiplier": st.integers(1, 7),
    "div_factor": numbers(1, 9),
    "step_size_down": st.none() | duration,
    "schedule": st.sampled_from([schedules.Linear(1, 0, 5), rate]),
    "schedules": st.just([rate, schedules.Constant(1.0)]),
    "boundaries": st.lists(time, min_size=1, max_size=1),
    "patience": patience,
    "threshold": st.sampled_from([0.0, 0.1]),
}
CLASSES = {  # of all schedules: the names of their arguments
    name: [own for own in inspect.signature(getattr(schedules, name)).parameters if own in SCHEDULES]
    for name in schedules.__all__
    if inspect.isclass(getattr(schedules, name)) and not name.endswith("Schedule")
}
arrays_of_steps = st.builds(guarded, hnp.arrays(st.sampled_from(["i8", "u1"]), shapes(), elements=st.integers(0, 99)))


@pytest.mark.parametrize("name", CLASSES)
@fuzz(data=st.data())
def test_schedules(name, data):
    """An array of steps has the values of its elements; test_schedules.py has the formulas."""
    call = data.draw(calls({own: data.draw(SCHEDULES[own]) for own in CLASSES[name]}))
    schedule, error = call.attempt(getattr(schedules, name))
    if error:
        return
    if name == "Plateau":
        for metric in data.draw(st.lists(numbers(-9, 9) | anything, max_size=3)):
            before = schedule.state_dict()
            _, error = attempt(lambda metric=metric: schedule.update(metric))
            assert not error or schedule.state_dict() == before
    call = data.draw(calls({"step": data.draw(time | st.lists(time, max_size=9) | arrays_of_steps)}))
    value, error = call.attempt(schedule.__call__)
    if not error:
        steps = as_array(call.arguments["step"])
        one_by_one = [schedule(int(step)) for step in steps.ravel()]
        assert {type(one) for one in one_by_one} <= {float}
        assert same(value, np.array(one_by_one, float).reshape(steps.shape))
        assert type(value) is (np.ndarray if steps.ndim else float)


METRICS = numbers(-9, 9) | st.sampled_from([math.inf, -math.inf, math.nan])
PLATEAU = {
    "init_value": value,
    "factor": numbers(0, 0.5),
    "patience": st.integers(0, 2),
    "threshold": st.sampled_from([0.0, 0.25, 1.0, 2.0]),  # few bits, so that bounds are exact
    "threshold_mode": st.sampled_from(["rel", "abs"]),
    "cooldown": st.integers(0, 2),
    "min_value": value,
    "mode": st.sampled_from(["min", "max"]),
}


@fuzz(options=st.fixed_dictionaries(PLATEAU), metrics=st.lists(METRICS, max_size=9))
def test_plateau(options, metrics):
    plateau, sign = schedules.Plateau(**options), 1 if options["mode"] == "max" else -1
    best, bad, cooldown, expected = -math.inf, 0, 0, options["init_value"]
    for metric in metrics:
        plateau.update(metric)
        margin = options["threshold"] * (abs(best) if options["threshold_mode"] == "rel" else 1)
        if sign * metric > (best + margin if math.isfinite(best) else best):
            best, bad = sign * metric, 0
        else:
            bad += 1
        if cooldown > 0:
            cooldown, bad = cooldown - 1, 0
        if bad > options["patience"]:
            reduced = max(expected * options["factor"], options["min_value"])
            expected, cooldown, bad = min(reduced, expected), options["cooldown"], 0
        state = {"value": expected, "best": sign * best, "bad_epochs": bad, "cooldown_left": cooldown}
        assert plateau.state_dict() == state


@fuzz(data=st.data())
def test_plot_schedule(data):
    pytest.importorskip("matplotlib")
    made = st.sampled_from([schedules.Cosine(0.1, 5), rate, schedules.Plateau(1.0)])
    call = data.draw(calls({"schedule": data.draw(made), "steps": data.draw(st.integers(1, 99))}))
    assume(not takes_too_long(call.arguments["steps"]))
    figure, error = call.attempt(schedules.plot_schedule)
    if not error:
        wanted = [float(call.arguments["schedule"](i)) for i in range(int(call.arguments["steps"]))]
        assert same(figure.axes[0].lines[0].get_ydata(), np.array(wanted))


EARLY_STOPPING = {"patience": patience, "min_delta": numbers(0, 1), "mode": st.sampled_from(["min", "max"])}


@fuzz(data=st.data())
def test_early_stopping(data):
    make, metrics = data.draw(parameters(any_order=True)), METRICS | st.sampled_from([-1e300, 1e300])
    call = data.draw(calls(st.fixed_dictionaries({**EARLY_STOPPING, "start_from_epoch": st.integers(0, 1)})))
    early_stopping, error = call.attempt(fastopt.EarlyStopping)
    if error:
        return
    sign = 1 if call.arguments["mode"] == "min" else -1
    names = ("min_delta", "patience", "start_from_epoch")
    least, patience, first = (as_float(call.arguments[name]) for name in names)
    best, kept, bad, epochs, layout_changed = math.inf, None, 0, 0, False
    for restore in data.draw(st.lists(FLAGS, max_size=5)):
        call = data.draw(calls({"params": data.draw(make()), **({} if restore else {"metric": data.draw(metrics)})}))
        call.replaced |= {"layout"} if layout_changed else set()
        arguments, memory, before = call.arguments, GuardedMemory(call.arguments), early_stopping.state_dict()
        if restore:
            _, error = call.attempt(early_stopping.restore) if kept else (None, None)
            assert error or not kept or all(map(same, leaves(arguments["params"]), kept))
            continue
        stopped, error = call.attempt(early_stopping.update)
        assert memory.unchanged()
        if error:
            assert same(leaves(early_stopping.state_dict()), leaves(before))
        else:
            layout_changed |= bool(call.replaced)
            metric = sign * as_float(arguments["metric"])
            if epochs >= first:
                better = metric + least < best
                best, bad = (metric, 0) if better else (best, bad + 1)
                kept = [np.array(array) for array in leaves(arguments["params"])] if better else kept
            epochs += 1
            assert stopped is early_stopping.stopped is (bad >= patience)
        assert (early_stopping.best, early_stopping.bad_epochs, early_stopping.epochs) == (sign * best, bad, epochs)


shape_or_array = shapes() | st.integers(0, 5) | st.sampled_from([[1, 4], np.int64(2)])
shape_or_array |= st.tuples(DTYPES, shapes()).flatmap(lambda kind: arrays(*kind))
layouts = st.lists(shape_or_array, max_size=3).map(lambda items: {f"w{i}": item for i, item in enumerate(items)})
real_types = st.sampled_from([np.float32, np.float64, "f4"])


@fuzz(data=st.data())
def test_flat(data):
    call = data.draw(calls(st.fixed_dictionaries({"shapes_or_arrays": layouts, "dtype": real_types})))
    items = call.arguments["shapes_or_arrays"]
    items = items if isinstance(items, Mapping) else {}
    sizes = [n for item in items.values() for n in (item if isinstance(item, (tuple, list)) else [item])]
    assume(not any(isinstance(n, int) and 10**4 < n < 2**62 for n in sizes))  # too much memory
    with np.errstate(over="ignore"):  # NumPy warns of values beyond the type, as in any cast
        flat, error = call.attempt(fastopt.Flat)
    if error:
        return
    expected = {}
    for name, item in items.items():
        is_array = hasattr(item, "__array_interface__") and not isinstance(item, np.integer)
        with np.errstate(all="ignore"):
            expected[name] = as_array(item).astype(flat.dtype) if is_array else np.zeros(item, flat.dtype)
    assert list(flat) == list(expected)
    assert all(same(flat[name], array) for name, array in expected.items())
    assert same(flat.buffer, np.concatenate([np.zeros(0, flat.dtype), *map(np.ravel, expected.values())]))
    for name in list(expected)[:1]:
        values = data.draw(replacements(data.draw(arrays(flat.dtype, expected[name].shape))))
        note(f"{name} {values!r}")
        with np.errstate(all="ignore"):
            _, error = attempt(lambda name=name, values=values: flat.__setitem__(name, values), flat, values)
            if not error:
                expected[name][...] = as_array(values)
        assert same(flat[name], expected[name])


json_values = st.recursive(
    st.none() | FLAGS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("a\u00e4\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=4,
)
named_arrays = st.dictionaries(st.sampled_from(["a", "", "/../b", "\u00e4", "w" * 999]), arrays("f4", (3,)), max_size=2)


@fuzz(data=st.data(), suffix=st.sampled_from([".npz", ".safetensors"]))
def test_checkpoints(data, suffix):
    """A load restores the saved values; a save that raises leaves the file as it was, and no other file."""
    make = data.draw(parameters(any_order=True))
    valid = {"params": data.draw(make()), "metadata": data.draw(json_values), "keep": data.draw(st.integers(1, 2))}
    call = data.draw(calls({**valid, "arrays": data.draw(named_arrays)}))
    arguments, memory = call.arguments, GuardedMemory(call.arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"run{suffix}")
        fastopt.save(path, metadata="before")
        before = path.read_bytes()
        _, error = call.attempt(lambda **arguments: fastopt.save(path, **arguments))
        assert memory.unchanged()
        older = [] if error or arguments["keep"] == 1 else [f"run.1{suffix}"]
        assert sorted(found.name for found in Path(folder).iterdir()) == sorted([path.name, *older])
        if error:
            assert path.read_bytes() == before
            return
        into = data.draw(make()) if arguments["params"] is not None and "params" not in call.replaced else None
        found = fastopt.load(path, params=into)
        assert into is None or all(map(same, leaves(into), leaves(arguments["params"])))
        assert json.dumps(found.metadata) == json.dumps(arguments["metadata"], default=lambda value: value.item())
        wanted = arguments["arrays"] or {}
        assert list(found.arrays) == list(wanted)
        for name, array in wanted.items():
            assert same(found.arrays[name], as_array(array).astype(as_array(array).dtype.newbyteorder("=")))


def gradients(data, params, make):
    """Draw gradients with None, or the names of a Flat that are left out."""
    names = st.sets(st.sampled_from(list(params))) if isinstance(params, fastopt.Flat) else st.just(())
    return data.draw(make(ORDINARY, holes=True)), data.draw(names)


@fuzz(data=st.data(), suffix=st.sampled_from([".npz", ".safetensors"]))
def test_load(data, suffix):
    """Parameters that differ from those that were saved are refused; the optimizer keeps its rate if it is told to."""
    make = data.draw(parameters(any_order=True))
    saved, own = data.draw(make(ORDINARY)), data.draw(make(ORDINARY))
    optimizer, other = fastopt.Adam(saved, lr=0.25), fastopt.Adam(own, lr=0.5)
    optimizer.step(*gradients(data, saved, make))
    call = data.draw(calls({"params": own, "keep_hyperparameters": data.draw(FLAGS)}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"run{suffix}")
        fastopt.save(path, params=saved, optimizer=optimizer)
        _, error = call.attempt(lambda **options: fastopt.load(path, optimizer=other, **options), leaves(other.state))
    into, keeps = call.arguments["params"], call.arguments["keep_hyperparameters"]
    if error:
        assert (other.steps, other.lr) == (0, 0.5)
    else:
        assert into is None or all(map(same, leaves(into), leaves(saved)))
        assert all(map(same, leaves(other.state), leaves(optimizer.state)))
        assert other.lr == (0.5 if keeps else 0.25)
        numbers = [each.state_dict()["param_groups"][0]["missed_steps"] for each in (other, optimizer)]
        assert numbers[0] == numbers[1]


LOSS_SCALE = {
    "init_scale": st.sampled_from([1.0, 2.0**16, 2.0**-126]),
    "growth_factor": st.sampled_from([1.0, 2.0, 1e30]),
    "backoff_factor": st.sampled_from([0.5, 1.0, 1e-30]),
    "growth_interval": st.integers(1, 3),
}


@fuzz(data=st.data())
def test_loss_scale(data):
    optimizer = fastopt.SGD(np.zeros(2, np.float32), lr=1.0, nonfinite="skip")
    call = data.draw(calls({"optimizer": optimizer, **data.draw(st.fixed_dictionaries(LOSS_SCALE))}))
    loss_scale, error = call.attempt(fastopt.DynamicLossScale)
    if error:
        assert optimizer.grad_scale == 1
        return
    scale, good_steps, arguments = loss_scale.scale, 0, call.arguments
    for gradient in data.draw(st.lists(METRICS, max_size=9)):
        finite = math.isfinite(gradient)
        optimizer.step(np.array([1.0, gradient], np.float32))
        loss_scale.update()
        good_steps += 1
        if not finite:
            scale, good_steps = scale * float(arguments["backoff_factor"]), 0
        elif good_steps == arguments["growth_interval"]:
            scale, good_steps = scale * float(arguments["growth_factor"]), 0
        scale = min(max(scale, 2.0**-126), 2.0**127)
        assert (loss_scale.scale, loss_scale.good_steps) == (scale, good_steps)
    call = data.draw(calls({"state_dict": loss_scale.state_dict()}))
    _, error = call.attempt(loss_scale.load_state_dict)
    wanted = {"scale": scale, "good_steps": good_steps} if error else call.arguments["state_dict"]
    assert (loss_scale.scale, loss_scale.good_steps) == (as_float(wanted["scale"]), wanted["good_steps"])


LR_FINDER = {"start": st.sampled_from([1e-7, 1e-300]), "end": st.sampled_from([1.0, 1e30]), "steps": st.integers(2, 5)}


@fuzz(data=st.data())
def test_find_lr(data):
    """Parameters and states are restored, also if the search raises."""
    make, extra = data.draw(parameters(any_order=True)), guarded(np.ones(3))
    params = data.draw(make())
    optimizer, passed = fastopt.Adam(params), gradients(data, params, make)
    optimizer.step(*gradients(data, params, make))
    call = data.draw(calls({**data.draw(st.fixed_dictionaries(LR_FINDER)), "restore": [extra]}))
    assume(not takes_too_long(call.arguments["steps"]))
    losses = data.draw(st.lists(numbers(-9, 9) | any_number, min_size=3, max_size=3))

    def step(i):
        optimizer.step(*passed)
        extra[...] += 1
        return losses[i % 3]

    before = [array.copy() for array in [*leaves(params), *leaves(optimizer.state)]]
    missed = optimizer.state_dict()["param_groups"][0]["missed_steps"]
    try:
        found = fastopt.find_lr(step, optimizer, **call.arguments)
    except (TypeError, ValueError):
        found = None
    assert all(map(same, [*leaves(params), *leaves(optimizer.state)], before))
    assert (optimizer.steps, optimizer.micro_steps, optimizer.lr) == (1, 1, 1e-3)
    assert optimizer.state_dict()["param_groups"][0]["missed_steps"] == missed
    assert "restore" in call.replaced or same(extra, np.ones(3))
    assert found is None or found.suggestion is None or found.suggestion in found.rates


@pytest.mark.parametrize("name", ["num_threads", "isa"])
@fuzz(value=st.sampled_from([1, 1024, "auto", *runtime.available_isas()]) | anything)
def test_settings(name, value):
    before = getattr(fastopt, name)()
    _, error = attempt(lambda: getattr(fastopt, f"set_{name}")(value))
    wanted = runtime.available_threads() if name == "num_threads" and isinstance(value, str) else value
    assert getattr(fastopt, name)() == (before if error else wanted)
