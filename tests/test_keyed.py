"""``Keyed`` does what an optimizer of each array would do, whatever arrays arrive under a key."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from cases import CASES, hard_numbers, read_only, same_bits, start_values

import fastopt
from fastopt import schedules


def starts(real=np.float32):
    return {key: start_values(35, real).reshape(shape) for key, shape in (("w", (7, 5)), (3, (35,)))}


def new_array(array):
    """Return an equal array in other memory, as code that reassigns its weights does."""
    return array + np.zeros_like(array)


@pytest.mark.parametrize("make", ["in place", "copy", "reassigned", "same memory"])
@pytest.mark.parametrize("real", [np.float32, np.float64], ids=lambda real: real.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_array_has_the_bits_of_an_optimizer_of_its_own(case, real, make):
    update = fastopt.Keyed(case.cls, copy=make == "copy", **case.hyper, **case.common)
    arrays, own = starts(real), starts(real)
    optimizers = {key: case.make(array) for key, array in own.items()}
    for step in range(4):
        for i, key in enumerate(arrays):
            if step % (i + 1):  # each key has its own number of steps
                continue
            grad = hard_numbers(35, real, seed=step).reshape(arrays[key].shape)
            optimizers[key].step(grad.copy())
            passed = {"reassigned": new_array, "same memory": lambda array: array[:]}.get(make, lambda array: array)(
                arrays[key]
            )
            before = passed.copy()
            result = update(key, passed, grad)
            if make == "copy":
                assert same_bits(passed, before)
                assert not np.shares_memory(result, passed)
            else:
                assert result is passed
            arrays[key] = result
    for key, optimizer in optimizers.items():
        assert same_bits(arrays[key], own[key])
        assert update[key].steps == optimizer.steps
        assert list(update[key].state) == list(optimizer.state)
        for name, state in optimizer.state.items():
            assert same_bits(update[key].state[name], state)


def test_all_keys_have_the_bits_of_one_optimizer_of_all_arrays():
    arrays, together = starts(), starts()
    update, optimizer = fastopt.Keyed(fastopt.AdamW, lr=0.1), fastopt.AdamW(together, lr=0.1)
    for step in range(3):
        grads = {key: hard_numbers(35, np.float32, seed=step).reshape(array.shape) for key, array in arrays.items()}
        optimizer.step(grads)
        for key, grad in grads.items():
            update(key, arrays[key], grad)
    assert all(same_bits(arrays[key], together[key]) for key in arrays)


@pytest.mark.parametrize("copy", [False, True])
def test_the_order_of_axes_may_change(copy):
    w, own = start_values(12, np.float32).reshape(3, 4), start_values(12, np.float32).reshape(3, 4)
    update = fastopt.Keyed(fastopt.Adam, copy=copy, lr=0.1, convert_grads=True)
    optimizer = fastopt.Adam(own, lr=0.1)
    update.lr = optimizer.lr = 0.5
    for step, order in enumerate("CFFC"):
        grad = hard_numbers(12, np.float32, seed=step).reshape(3, 4)
        w = update("w", np.array(w, order=order), grad)
        assert w.flags[f"{order}_CONTIGUOUS"]
        optimizer.step(grad)
        assert same_bits(w, own)
    assert update["w"].steps == 4


def test_a_copy_can_be_made_of_an_array_that_is_read_only_or_has_gaps():
    update = fastopt.Keyed(fastopt.SGD, copy=True, lr=1.0)
    for key, w in (("read-only", read_only(np.ones(3))), ("gaps", np.ones(6)[::2])):
        assert update(key, w, np.ones(3)).tolist() == [0.0, 0.0, 0.0]
        assert w.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("copy", [False, True])
def test_old_arrays_are_freed(copy):
    update, old = fastopt.Keyed(fastopt.SGD, copy=copy), []
    for _ in range(3):
        w = np.ones(3)
        old.append(weakref.ref(w))
        w = update("w", w, np.ones(3))
        old.append(weakref.ref(w))
    gc.collect()
    assert [ref() is None for ref in old] == [True] * 4 + [copy, False]


def test_gradients_are_converted():
    update, w = fastopt.Keyed(fastopt.SGD, lr=1.0, convert_grads=True), np.zeros((2, 3), np.float32)
    update("w", w, np.arange(6.0).reshape(3, 2).T)
    assert w.tolist() == [[0.0, -2.0, -4.0], [-1.0, -3.0, -5.0]]


def test_overlaps_are_found_when_the_array_changes():
    memory = np.ones(8)
    update = fastopt.Keyed(fastopt.Adam)
    grad = memory[4:]
    update("w", np.ones(4), grad)
    with pytest.raises(ValueError, match="grads and params overlap in memory"):
        update("w", memory[2:6], grad)
    with pytest.raises(ValueError, match=r"(params and exp_avg|exp_avg and params) overlap in memory"):
        update("w", update["w"].state["exp_avg"], np.ones(4))
    assert memory.tolist() == [1.0] * 8
    update("w", memory[:4], grad)  # apart
    assert update["w"].steps == 2


def test_a_call_that_raises_changes_nothing_and_adds_no_key():
    update, w = fastopt.Keyed(fastopt.Adam), np.ones(3)
    with pytest.raises(ValueError, match="grads must have shape"):
        update("w", w, np.ones(4))
    with pytest.raises(ValueError, match="params must be writable"):
        update("w", read_only(np.ones(3)), np.ones(3))
    assert not update
    update("w", w, np.ones(3))
    before = w.copy()
    with pytest.raises(ValueError, match="as in the first call with this key"):
        update("w", np.ones(4), np.ones(4))
    with pytest.raises(ValueError, match="grads must have shape"):
        update("w", np.ones(3), np.ones(4))
    assert same_bits(w, before)
    update("w", w, np.ones(3))
    assert update["w"].steps == 2


# Hyperparameters


def test_hyperparameters_are_set_for_all_keys_and_later_ones():
    update = fastopt.Keyed(fastopt.AdamW, lr=0.1)
    update("a", np.ones(2), np.ones(2))
    update["a"].param_groups[0]["eps"] = 0.5  # for this key only
    update.lr = 0.2
    update.grad_scale, update.max_grad_norm = 4.0, 1.5
    update.set(betas=(0.5, 0.6), weight_decay=0.3)
    update("b", np.ones(2), np.ones(2))
    for key, eps in (("a", 0.5), ("b", 1e-8)):
        group = update[key].param_groups[0]
        assert (group["lr"], group["betas"], group["weight_decay"], group["eps"]) == (0.2, (0.5, 0.6), 0.3, eps)
        assert (update[key].grad_scale, update[key].max_grad_norm) == (4.0, 1.5)
    assert (update.lr, update.grad_scale, update.max_grad_norm) == (0.2, 4.0, 1.5)


def test_schedules_receive_the_steps_of_each_key():
    update = fastopt.Keyed(fastopt.SGD, lr=schedules.Linear(4.0, 0.0, 4))
    a, b = np.zeros(1), np.zeros(1)
    for _ in range(2):
        update("a", a, np.ones(1))
    update("b", b, np.ones(1))
    assert (a.tolist(), b.tolist()) == ([-7.0], [-4.0])
    assert (update.lr, update["a"].lr) == (4.0, 2.0)


def test_the_norm_is_that_of_each_array():
    update = fastopt.Keyed(fastopt.SGD, lr=1.0, max_grad_norm=1.0)
    update("a", np.zeros(1), np.full(1, 3.0))
    update("b", np.zeros(1), np.full(1, 4.0))
    assert (update["a"].grad_norm, update["b"].grad_norm) == (3.0, 4.0)


def test_a_key_can_be_forgotten():
    update = fastopt.Keyed(fastopt.Momentum)
    for key in ("a", "b"):
        update(key, np.ones(2), np.ones(2))
    del update["a"]
    assert list(update) == ["b"]
    update("a", np.ones(3), np.ones(3))
    assert update["a"].steps == 1
    assert repr(update).startswith("Keyed(Momentum(lr=0.001")
    assert repr(update).endswith("keys=['b', 'a'])")


# Saving


def trained(case, steps):
    """Return a ``Keyed`` and its arrays after some steps, with keys of all kinds that can be saved."""
    update = fastopt.Keyed(case.cls, **case.hyper, **case.common)
    arrays = {"w": start_values(12, np.float32).reshape(3, 4), 2: start_values(9, np.float64)}
    arrays[("layer", 1), None] = np.array(0.5)
    train(update, arrays, range(steps))
    return update, arrays


def train(update, arrays, steps):
    for step in steps:
        for key, array in arrays.items():
            update(key, array, hard_numbers(array.size, array.dtype, seed=step).reshape(array.shape))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loaded_state_continues_with_the_same_bits(case, file):
    update, arrays = trained(case, 3)
    again = {key: array.copy() for key, array in arrays.items()}
    fastopt.save(file, optimizer=update)
    others = [fastopt.Keyed(case.cls, **case.hyper, **case.common) for _ in range(2)]
    fastopt.load(file, optimizer=others[0])
    others[1].load_state_dict(update.state_dict())
    train(update, arrays, range(3, 6))
    for other in others:
        continued = {key: array.copy() for key, array in again.items()}
        train(other, continued, range(3, 6))
        assert list(other) == list(update)
        for key, array in arrays.items():
            assert same_bits(continued[key], array)
            assert other[key].steps == 6


def test_the_first_array_after_loading_may_have_another_order_of_axes():
    update, other = fastopt.Keyed(fastopt.Adam, lr=0.1), fastopt.Keyed(fastopt.Adam, lr=0.1)
    w = np.asfortranarray(start_values(12, np.float32).reshape(3, 4))
    grad = np.asfortranarray(hard_numbers(12, np.float32).reshape(3, 4))
    update("w", w, grad)
    other.load_state_dict(update.state_dict())
    again = w.copy("K")
    assert same_bits(other("w", again, grad), update("w", w, grad))
    with pytest.raises(ValueError, match=r"params must have shape \(3, 4\) and dtype float32 as in the first call"):
        other("w", np.zeros((4, 3), np.float32), grad)


def test_hyperparameters_are_loaded_or_kept(file):
    update = fastopt.Keyed(fastopt.AdamW, lr=0.1)
    update("w", np.ones(2), np.ones(2))
    update.lr = 0.3
    update["w"].lr = 0.4
    fastopt.save(file, optimizer=update)
    loaded, kept = fastopt.Keyed(fastopt.AdamW, lr=0.2), fastopt.Keyed(fastopt.AdamW, lr=0.2)
    fastopt.load(file, optimizer=loaded)
    fastopt.load(file, optimizer=kept, keep_hyperparameters=True)
    assert (loaded.lr, loaded["w"].lr) == (0.3, 0.4)
    assert (kept.lr, kept["w"].lr) == (0.2, 0.2)
    loaded("new", np.ones(2), np.ones(2))
    assert loaded["new"].lr == 0.3


def test_the_state_of_a_schedule_is_saved(file):
    updates = [fastopt.Keyed(fastopt.SGD, lr=schedules.Plateau(1.0, patience=0)) for _ in range(2)]
    updates[0]("w", np.ones(2), np.ones(2))
    plateau = updates[0]["w"].param_groups[0]["lr"]
    for loss in (1.0, 2.0):
        plateau.update(loss)
    fastopt.save(file, optimizer=updates[0])
    fastopt.load(file, optimizer=updates[1])
    assert updates[1].lr == updates[1]["w"].lr == plateau(0) < 1.0


def test_the_states_of_all_keys_are_saved_at_once():
    """A step of one key that saves is a re-entrant call, and so is one that loads."""
    update = fastopt.Keyed(fastopt.SGD, lr=lambda step: 0.1)
    for key in ("b", "a"):
        update(key, np.ones(2), np.ones(2))
    state = update.state_dict()
    for call in (update.state_dict, lambda: update.load_state_dict(state)):
        update["a"].lr = lambda step, call=call: call() or 0.1
        with pytest.raises(RuntimeError, match="already in use"):
            update("a", np.ones(2), np.ones(2))
        update("b", np.ones(2), np.ones(2))  # not locked
    assert (update["a"].steps, update["b"].steps) == (1, 3)
