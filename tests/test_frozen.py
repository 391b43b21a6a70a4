"""Arrays that are left out of steps: by None in place of a gradient, or by ``skip`` for a ``Flat``.

They, their states and averages stay, and each array counts its own steps. What is refused is in ``test_refusals``.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, CHUNK, REALS, Reference, bits, hard_numbers, leaves, same_bits, start_values

import fastopt

SHAPES = {"embed": (70, 70), "w": (40, 3), "b": (7,), "none": (0,), "head": (CHUNK + 5,)}
STEPS = 12


def left_out(step):
    """Return the names that a step leaves out: none, some, some others for several steps, and once all."""
    return {1: {"b"}, 2: {"embed", "head"}, 3: {"embed", "head"}, 5: set(SHAPES), 6: {"w"}, 9: {"none"}}.get(
        step, set()
    )


def start(real):
    return {name: start_values(int(np.prod(shape)), real).reshape(shape) for name, shape in SHAPES.items()}


def gradients(real, step):
    made = {}
    for seed, (name, shape) in enumerate(SHAPES.items()):
        # All within the range of float32: one norm clips them together, and its factor must not vanish in float32.
        numbers = hard_numbers(int(np.prod(shape)), np.float32, seed=10 * step + seed)
        made[name] = numbers.astype(real).reshape(shape)
    return made


@pytest.mark.parametrize("real", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kind", ["dict", "groups", "flat"])
def test_steps_that_leave_arrays_out_have_the_bits_of_the_reference(kind, case, real):
    params = fastopt.Flat(start(real), real) if kind == "flat" else start(real)
    wanted = Reference(case, [params] if kind == "flat" else list(params.values()))
    groups = [
        {"params": {name: params[name] for name in ("embed", "w")}},
        {"params": [params[name] for name in ("b", "none", "head")]},
    ]
    optimizer = case.make(groups if kind == "groups" else params)
    for step in range(STEPS):
        grads, out = gradients(real, step), left_out(step)
        present = {name: None if name in out else grad for name, grad in grads.items()}
        wanted.step([None if grad is None else grad.copy() for grad in present.values()])
        if kind == "flat":
            flat = fastopt.Flat(grads, real)
            optimizer.step(flat, skip=sorted(out))
            assert optimizer.zero_grads <= (flat.buffer == 0).all()
        elif kind == "groups":
            optimizer.step([{n: present[n] for n in ("embed", "w")}, [present[n] for n in ("b", "none", "head")]])
        else:
            optimizer.step(present)
        assert wanted.grad_norm in (None, optimizer.grad_norm)
    assert all(same_bits(params[name], tensor["param"]) for name, tensor in zip(SHAPES, wanted.tensors, strict=True))
    for name in wanted.tensors[0].keys() - {"param"}:
        states = optimizer.state if kind == "groups" else [optimizer.state]
        mine = [array for state in states for array in leaves(state[name])]
        assert all(same_bits(a, tensor[name]) for a, tensor in zip(mine, wanted.tensors, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_flat_with_skip_is_like_a_mapping_of_its_arrays(threads):
    """Also with clipping, and with chunks that begin anywhere."""
    fastopt.set_num_threads(threads)
    rng = np.random.default_rng(0)
    shapes = {"a": 3, "b": 3 * CHUNK + 1, "c": 5, "d": 40_000}
    flat, grads = fastopt.Flat(shapes), fastopt.Flat(shapes)
    flat.buffer[:] = rng.normal(size=flat.buffer.size)
    named = {name: view.copy() for name, view in flat.items()}
    options = {"max_grad_norm": 1.0, "ema_decay": 0.5, "lr": 0.1}
    mine, other = fastopt.AdamW(flat, **options), fastopt.AdamW(named, **options)
    for out in (["b"], [], ["a", "c"], ["a", "b", "c", "d"], ["d"]):
        grads.buffer[:] = rng.normal(size=flat.buffer.size)
        mine.step(grads, skip=out)
        other.step({name: None if name in out else grads[name] for name in shapes})
        assert mine.grad_norm == other.grad_norm
        assert all(same_bits(flat[name], named[name]) for name in shapes)
    assert all(same_bits(mine.ema[name], other.ema[name]) for name in shapes)


def test_array_that_thaws_begins_with_a_full_step():
    """Its first step of Adam has the size of the rate; with zero gradients instead of None it would be 2.515 times."""
    frozen, other = np.zeros(3), np.zeros(3)
    optimizer = fastopt.Adam([frozen, other], lr=0.1, eps=0.0)
    for _ in range(1000):
        optimizer.step([None, np.ones(3)])
    assert (frozen == 0).all()
    optimizer.step([np.full(3, 7.0), np.ones(3)])
    assert frozen == pytest.approx([-0.1] * 3, rel=1e-15)
    assert optimizer.steps == 1001


def test_schedules_follow_the_steps_of_the_optimizer():
    a, b, seen = np.zeros(1), np.zeros(1), []

    def rate(step):
        seen.append(step)
        return float(step)

    optimizer = fastopt.SGD([a, b], lr=rate)
    for grads in ([None, np.ones(1)], [np.ones(1), np.ones(1)], [None, None], [np.ones(1), None]):
        optimizer.step(grads)
    assert (a[0], b[0]) == (-4.0, -1.0)
    assert seen == [0, 1, 3]  # once for each step in which something takes part, whatever the arrays' own steps
    assert optimizer.steps == 4


def test_whole_containers_and_groups_can_be_left_out():
    a, b, c = np.zeros(1), np.zeros(1), fastopt.Flat({"x": 1, "y": 1})
    optimizer = fastopt.SGD([{"params": {"deep": [a, {"b": b}]}}, {"params": c}], lr=1.0)
    optimizer.step([None, fastopt.Flat({"x": np.ones(1), "y": np.ones(1)})])
    optimizer.step([{"deep": [np.ones(1), None]}, None])
    optimizer.step([{"deep": None}, fastopt.Flat({"x": np.ones(1), "y": np.ones(1)})], skip=[(), ["x"]])
    assert (a[0], b[0], c["x"][0], c["y"][0]) == (-1.0, 0.0, -1.0, -2.0)


def test_norm_and_checks_are_of_what_takes_part():
    params = fastopt.Flat({"a": 2, "b": 2})
    grads = fastopt.Flat({"a": np.array([3.0, 4.0]), "b": np.array([np.nan, np.inf])})
    optimizer = fastopt.SGD(params, lr=1.0, max_grad_norm=2.5, nonfinite="raise")
    optimizer.step(grads, skip=["b"])
    assert optimizer.grad_norm == 5.0
    assert params.buffer.tolist() == pytest.approx([-1.5, -2.0, 0.0, 0.0], rel=1e-6)
    with pytest.raises(FloatingPointError, match=r"^grads\['b'\] must be finite, got nan at index \(0,\)$"):
        optimizer.step(grads, skip=["a"])
    optimizer.step(grads, skip=["a", "b"])
    assert (optimizer.grad_norm, optimizer.steps) == (0.0, 2)
    for names in (np.array(["b"]), {"b"}, iter(["b", "b"])):
        optimizer.step(grads, skip=names)
    assert (optimizer.grad_norm, optimizer.steps) == (5.0, 5)


@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_zero_grads_zeroes_what_is_left_out_too(nonfinite):
    """Otherwise a loop that adds to its gradients would go on adding to these."""
    params, grads = fastopt.Flat({"a": 2, "b": 2}), fastopt.Flat({"a": np.ones(2), "b": np.ones(2)})
    grads["a"][0] = np.inf
    optimizer = fastopt.SGD(params, lr=1.0, zero_grads=True, nonfinite=nonfinite)
    optimizer.step(grads, skip=["b"])
    assert (grads.buffer == 0).all()
    assert optimizer.skipped == (nonfinite == "skip")
    grads.buffer[:] = 1
    optimizer.accumulate(grads, skip=["a"])
    assert (grads.buffer == 0).all()


def test_skipped_step_counts_for_no_array():
    a, b = np.zeros(1), np.zeros(1)
    optimizer = fastopt.Adam([a, b], lr=0.1, eps=0.0, nonfinite="skip")
    optimizer.step([np.full(1, np.nan), None])
    assert (optimizer.steps, optimizer.skipped, optimizer.micro_steps) == (0, 1, 1)
    optimizer.step([np.ones(1), None])
    optimizer.step([np.ones(1), np.ones(1)])
    assert b[0] == pytest.approx(-0.1, rel=1e-15)


@pytest.mark.parametrize("real", REALS, ids=str)
def test_accumulated_parts_may_contain_different_arrays(real):
    """The step takes sum / number of parts, and leaves out what no part contained; sums of earlier batches are gone."""
    params, other = fastopt.Flat({"a": 5, "b": 3, "c": 2}, real), {"a": np.zeros(5, real), "b": np.zeros(3, real)}
    other["c"] = np.zeros(2, real)
    mine, named = fastopt.Adam(params, lr=0.1), fastopt.Adam(other, lr=0.1)
    rng = np.random.default_rng(0)
    for batch in ([[], []], [["a"], ["a", "b"]], [["a", "b", "c"]], [["c"], [], ["a"]], [["b"], ["b", "c"]]):
        total = {name: np.zeros(view.size, real) for name, view in params.items()}
        for out in batch:
            grads = fastopt.Flat({name: rng.normal(size=view.size) for name, view in params.items()}, real)
            mine.accumulate(grads, skip=out)
            for name in set(params) - set(out):
                total[name] += grads[name]
        mine.step(skip=())
        named.grad_scale = len(batch)
        missing = [name for name in params if all(name in out for out in batch)]
        named.step({name: None if name in missing else total[name] for name in params})
        assert all(same_bits(params[name], other[name]) for name in params)
    assert mine.state_dict()["param_groups"][0]["missed_steps"] == named.state_dict()["param_groups"][0]["missed_steps"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_numbers_of_steps_are_saved(suffix, tmp_path):
    """Also in another order of the names, as nothing but the names identifies the arrays."""

    def make(names):
        params = {name: np.ones(3) for name in names}
        return params, fastopt.Adam(params, lr=0.1)

    def run(params, optimizer, begin, end):
        for step in range(begin, end):
            grads = {name: np.full(3, 1.0 + step) for name in params}
            optimizer.step(
                {name: None if (name == "a" and step < 5) or step % 3 == 1 else g for name, g in grads.items()}
            )

    whole, optimizer = make("abc")
    run(whole, optimizer, 0, 12)
    first, saved = make("abc")
    run(first, saved, 0, 7)
    fastopt.save(tmp_path / f"run{suffix}", params=first, optimizer=saved)
    second, loaded = make("cab")
    run(second, loaded, 0, 3)
    fastopt.load(tmp_path / f"run{suffix}", params=second, optimizer=loaded)
    missed = loaded.state_dict()["param_groups"][0]["missed_steps"]
    assert missed == {"['a']": 5, "['b']": 2, "['c']": 2}
    run(second, loaded, 7, 12)
    assert all(same_bits(whole[name], second[name]) for name in whole)


def test_find_lr_sets_the_numbers_of_steps_back():
    a, b = np.ones(2), np.ones(2)
    optimizer = fastopt.Adam([a, b], lr=0.1)
    optimizer.step([None, np.ones(2)])
    before = optimizer.state_dict()["param_groups"][0]["missed_steps"]

    def step(i):
        optimizer.step([np.ones(2), None])
        return 1.0 / (1 + i)

    fastopt.find_lr(step, optimizer, steps=5)
    assert optimizer.state_dict()["param_groups"][0]["missed_steps"] == before == {"[0]": 1}
    assert (a == 1).all()


def test_micro_steps_count_the_gradients_that_were_passed():
    params = np.zeros(2)
    optimizer, seen = fastopt.SGD(params, nonfinite="skip"), []
    for _ in range(2):
        for _ in range(3):
            seen.append(optimizer.micro_steps)
            optimizer.accumulate(np.ones(2))
        optimizer.step()
    optimizer.step(np.full(2, np.nan))
    optimizer.step(np.ones(2))
    assert seen == [0, 1, 2, 3, 4, 5]
    assert (optimizer.micro_steps, optimizer.steps, optimizer.skipped) == (8, 3, 1)
    other = fastopt.SGD(np.zeros(2), nonfinite="skip")
    other.load_state_dict(optimizer.state_dict())
    assert other.micro_steps == 8


def test_left_out_gradient_may_return_in_other_memory():
    """The check for overlapping gradients is repeated for an array that was left out."""
    params, memory = [np.zeros(4), np.zeros(4)], np.ones(6)
    optimizer = fastopt.SGD(params, lr=1.0, zero_grads=True)
    optimizer.step([np.ones(4), memory[2:]])
    optimizer.step([memory[:4], None])
    with pytest.raises(ValueError, match=r"^grads\[0\] and grads\[1\] overlap in memory$"):
        optimizer.step([memory[:4], memory[2:]])


def test_bits_of_frozen_arrays_stay():
    """Also those of denormal numbers and of NaN, which a step would change."""
    frozen = np.array([1e-310, np.nan, -0.0, np.inf])
    before, other = bits(frozen).copy(), np.ones(1)
    optimizer = fastopt.AdamW([frozen, other], ema_decay=0.5, weight_decay=0.5)
    optimizer.step([None, np.ones(1)])
    assert (bits(frozen) == before).all()
    assert same_bits(optimizer.ema[0], frozen)
