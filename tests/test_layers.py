"""Layers match PyTorch, finite differences and (bit for bit) the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import REALS, same_bits

import fastopt
from fastopt import layers, reference, runtime

SHAPES = [(2, 1), (7, 3), (50, 16), (4, 5, 6, 3), (300, 17), (3, 40, 40, 20), (5, 5000), (9000, 2)]


def batch(shape, real, seed=0):
    """Return x, weight, bias, running mean, running variance and a gradient."""
    rng = np.random.default_rng(seed)
    columns = shape[-1]
    x = rng.normal(rng.normal(0, 3, columns), rng.uniform(0.1, 4, columns), shape)
    more = [
        rng.normal(1, 0.5, columns),
        rng.normal(0, 1, columns),
        rng.normal(0, 1, columns),
        rng.uniform(1, 2, columns),
    ]
    return [a.astype(real) for a in (x, *more, rng.normal(0, 1, shape))]


def every_isa_and_thread_count():
    for isa in runtime.available_isas():
        for threads in (1, 2, 4, "auto"):
            fastopt.set_isa(isa)
            fastopt.set_num_threads(threads)
            yield


# Dropout


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize(("shape", "p"), [((0,), 0.5), ((63,), 0.25), ((100, 77), 0.1), ((70001,), 0.9), ((65,), 0.0)])
def test_dropout_matches_reference(shape, p, real):
    x = np.random.default_rng(0).normal(0, 1, shape).astype(real)
    wanted = reference.layers.dropout(x, p, seed=2**40 + 3, step=7)
    for _ in every_isa_and_thread_count():
        assert same_bits(layers.dropout(x, p, seed=2**40 + 3, step=7), wanted)


def test_dropout_backward_is_the_same_call():
    x, g = np.random.default_rng(0).normal(0, 1, (2, 200, 30))
    y, back = layers.dropout(x, 0.3, seed=1, step=5), layers.dropout(g, 0.3, seed=1, step=5)
    assert np.array_equal(y == 0, back == 0)
    kept = y != 0
    assert np.array_equal(back[kept], g[kept] * (2**32 / (2**32 - round(0.3 * 2**32))))
    h = 1e-6
    up, down = (layers.dropout(x + sign * h * g, 0.3, seed=1, step=5) for sign in (1, -1))
    np.testing.assert_allclose((up - down) / (2 * h), back, atol=1e-7)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.8])
def test_dropout_drops_a_fraction_p_and_rescales(p):
    n = 10**6
    y = layers.dropout(np.ones(n, np.float32), p, seed=3, step=1)
    share = (y == 0).mean()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n)
    assert y.max() == np.float32(1 / (1 - p))


def test_dropout_masks_of_different_seeds_and_steps_are_independent():
    masks = [layers.dropout(np.ones(10**5), 0.5, seed=s, step=t) == 0 for s, t in ((0, 0), (1, 0), (0, 1), (2**32, 0))]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs((one & other).mean() - 0.25) < 0.01


@pytest.mark.parametrize("p", [0.0, 2.0**-32, 0.1, 1 / 3, 0.5, 0.75, 0.999, 1 - 2.0**-20])
def test_dropout_scales_like_pytorch(p):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(0, 1e30, 2**16).astype(np.float32)
    y, theirs = layers.dropout(x, p, seed=0, step=0), torch.nn.functional.dropout(torch.from_numpy(x), p).numpy()
    kept, kept_by_both = y != 0, (y != 0) & (theirs != 0)
    np.testing.assert_allclose(y[kept_by_both], theirs[kept_by_both], rtol=3e-7 if p < 0.99 else 1e-4)
    assert abs(kept.mean() - (theirs != 0).mean()) <= 8 * math.sqrt(p * (1 - p) / x.size)
    assert p > 0 or same_bits(y, x)


def test_dropout_in_place_and_of_nan():
    x = np.full(1000, np.nan, np.float32)
    y = layers.dropout(x, 0.5, seed=0, step=0)
    assert set(np.unique(np.isnan(y))) == {True, False}
    assert (y[~np.isnan(y)] == 0).all()
    x = np.random.default_rng(0).normal(0, 1, 1000)
    wanted = layers.dropout(x, 0.5, seed=0, step=0)
    assert layers.dropout(x, 0.5, seed=0, step=0, out=x) is x
    assert same_bits(x, wanted)


# Batch norm


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_matches_reference(shape, training, real):
    x, weight, bias, mean, var, grad = batch(shape, real)
    wanted_mean, wanted_var = mean.copy(), var.copy()
    wanted, kept = reference.layers.batch_norm(x, weight, bias, wanted_mean, wanted_var, training=training)
    wanted_back = reference.layers.batch_norm_backward(grad, kept)
    for _ in every_isa_and_thread_count():
        got_mean, got_var = mean.copy(), var.copy()
        y, cache = layers.batch_norm(x, weight, bias, got_mean, got_var, training=training)
        back = layers.batch_norm_backward(grad, cache)
        for got, right in zip(
            (y, got_mean, got_var, *back), (wanted, wanted_mean, wanted_var, *wanted_back), strict=True
        ):
            assert same_bits(got, right)


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("momentum", "eps"), [(0.3, 1e-3), (0.0, 1e-12), (1.0, 1e3), (0.1, 1e30)])
@pytest.mark.parametrize("shape", [(50, 16), (4, 5, 6, 3), (300, 17), (2, 8)])
def test_batch_norm_matches_pytorch(shape, momentum, eps, training, real):
    torch = pytest.importorskip("torch")
    x, weight, bias, mean, var, grad = batch(shape, real)
    x[..., 0], x[..., 1], weight[2] = 0, 1e-15 * x[..., 1], 0  # constant, tiny
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in (np.moveaxis(x, -1, 1), weight, bias)]
    running = [torch.from_numpy(a.copy()) for a in (mean, var)]
    y_theirs = torch.nn.functional.batch_norm(theirs[0], *running, *theirs[1:], training, momentum, eps)
    y_theirs.backward(torch.from_numpy(np.moveaxis(grad, -1, 1).copy()))
    y, cache = layers.batch_norm(x, weight, bias, mean, var, training=training, momentum=momentum, eps=eps)
    of_x, of_weight, of_bias = layers.batch_norm_backward(grad, cache)
    pairs = [
        (y, np.moveaxis(y_theirs.detach().numpy(), 1, -1)),
        (mean, running[0].numpy()),
        (var, running[1].numpy()),
        (of_x, np.moveaxis(theirs[0].grad.numpy(), 1, -1)),
        (of_weight, theirs[1].grad.numpy()),
        (of_bias, theirs[2].grad.numpy()),
    ]
    eps = np.finfo(real).eps
    for got, wanted in pairs:
        # a mean of up to 60 standard deviations magnifies the rounding error of x - mean
        np.testing.assert_allclose(got, wanted, rtol=16 * eps, atol=64 * eps * max(1, np.abs(wanted).max()))


LARGE = [1e18, 1e20, 1e37, 3e38, 1e150, 1e200, 1.7e308]


@pytest.mark.parametrize(
    ("scale", "real"),
    [(scale, real) for real in REALS for scale in LARGE if scale < float(np.finfo(real).max)],
    ids=str,
)
@pytest.mark.parametrize("rows", [2, 40, 9000])
def test_large_numbers_do_not_overflow(rows, scale, real):
    """A column of them has the result of the same column divided by a power of two; other columns do not change."""
    rng, divisor = np.random.default_rng(0), 2.0 ** math.floor(math.log2(scale))
    x, grad = rng.uniform(0, 1, (rows, 4)).astype(real), rng.normal(0, 1, (rows, 4)).astype(real)
    large = np.stack([x[:, 0] * scale, x[:, 1], np.full(rows, 0.7 * scale), (x[:, 3] - 0.5) * scale], axis=1).astype(
        real
    )
    wide = large.astype(np.longdouble) / [divisor, 1, divisor, divisor]
    weight, bias, mean, var = np.array([[1, 2, 3, 4], [1, 0, 5, 0], [0, 0, 0, 0], [1, 1, 1, 1]], real)
    y, cache = layers.batch_norm(large, weight, bias, mean, var, momentum=0.5, eps=1e-9)
    back = layers.batch_norm_backward(grad, cache)
    center, eps = wide.mean(0), 16 * np.finfo(real).eps
    deviation = wide - center
    deviation[:, 2] = 0  # constant; the mean of long doubles is rounded
    variance = (deviation**2).mean(0)
    x_hat = deviation / np.sqrt(variance + 1e-9 * np.array([0, 1, 1, 0]))
    np.testing.assert_allclose(y, weight * x_hat + bias, rtol=0, atol=8 * eps)
    np.testing.assert_allclose(mean, 0.5 * center * [divisor, 1, divisor, divisor], rtol=1e-5)
    np.testing.assert_allclose(var[1], 0.5 + 0.5 * variance[1] * rows / (rows - 1), rtol=1e-5)
    of_weight = (grad * x_hat).sum(0)
    np.testing.assert_allclose(back[1], of_weight, rtol=0, atol=eps * rows)
    np.testing.assert_allclose(back[2], grad.sum(0), rtol=0, atol=eps * rows)
    of_x = (grad - grad.mean(0) - x_hat * of_weight / rows) * weight / np.sqrt(variance + 1e-9)
    np.testing.assert_allclose(back[0][:, [0, 1, 3]] * [divisor, 1, divisor], of_x[:, [0, 1, 3]], rtol=1e-4, atol=1e-4)
    alone = layers.batch_norm(x, weight, bias, eps=1e-9)
    assert same_bits(y[:, 1], alone[0][:, 1])
    with np.errstate(all="ignore"):
        wanted, kept = reference.layers.batch_norm(large, weight, bias, eps=1e-9)
        wanted_back = reference.layers.batch_norm_backward(grad, kept)
    for _ in every_isa_and_thread_count():
        y, cache = layers.batch_norm(large, weight, bias, eps=1e-9)
        assert all(map(same_bits, (y, *layers.batch_norm_backward(grad, cache)), (wanted, *wanted_back)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 2, 5)])
def test_batch_norm_gradients_match_finite_differences(shape, training):
    x, weight, bias, mean, var, grad = batch(shape, np.float64)
    running = (None, None) if training else (mean, var)

    def value(x, weight, bias):
        return float((layers.batch_norm(x, weight, bias, *running, training=training)[0] * grad).sum())

    _, cache = layers.batch_norm(x, weight, bias, *running, training=training)
    inputs, h = [x, weight, bias], 1e-5
    for which, gradient in enumerate(layers.batch_norm_backward(grad, cache)):
        for i in range(inputs[which].size):
            above, below = ([a.copy() for a in inputs] for _ in range(2))
            above[which].flat[i] += h
            below[which].flat[i] -= h
            assert (value(*above) - value(*below)) / (2 * h) == pytest.approx(gradient.flat[i], abs=1e-7)


@pytest.mark.parametrize(("weight", "var"), [(3e38, 0.0), (1.0, -1.0)])
def test_extreme_running_averages_do_not_warn(weight, var):
    one = np.ones(1, np.float32)
    with np.errstate(all="raise"):
        y, _ = layers.batch_norm(np.ones((2, 1), "f"), weight * one, 0 * one, 0 * one, var * one, training=False)
    assert not np.isfinite(y).any()


def test_variance_is_accurate_with_a_large_mean():
    x = np.random.default_rng(0).normal(0, 1, (10_000, 3))
    y, _ = layers.batch_norm(x, np.ones(3), np.zeros(3))
    moved, _ = layers.batch_norm(x + 1e8, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(moved, y, atol=1e-7)  # the rounding error of x + 1e8


def test_batch_norm_writes_into_given_arrays():
    x, weight, bias, mean, var, grad = batch((40, 6), np.float32)
    y, cache = layers.batch_norm(x, weight, bias, mean.copy(), var.copy())
    place = np.empty_like(x)
    again, cache = layers.batch_norm(x, weight, bias, mean, var, out=place)
    assert again is place
    assert same_bits(again, y)
    of_x, of_weight, of_bias = layers.batch_norm_backward(grad, cache)
    places = np.empty(6, np.float32), np.empty(6, np.float32)
    got = layers.batch_norm_backward(grad, cache, out=grad, grad_weight=places[0], grad_bias=places[1])
    assert got[0] is grad
    assert got[1:] == places
    assert all(map(same_bits, got, (of_x, of_weight, of_bias)))


# Inputs

CHANGES = {
    "Fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "misaligned": lambda x: np.frombuffer(b"?" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}
CASTS = {
    "list": lambda x: x.tolist(),
    "float64": lambda x: x.astype(np.float64),
    "int32": lambda x: x.astype(np.int32),
    "uint8": lambda x: x.astype(np.uint8),
    "bool": lambda x: x > 0.5,
    "byte-swapped": lambda x: x.astype(">f4"),
}


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("kind", CHANGES)
def test_inputs_may_have_any_memory_order(kind, real):
    x, weight, bias, mean, var, grad = batch((12, 5), real)
    change = CHANGES[kind]
    assert same_bits(layers.dropout(change(x), 0.5, seed=0, step=0), layers.dropout(x, 0.5, seed=0, step=0))
    out = np.empty_like(x)
    assert layers.dropout(change(x), 0.5, seed=0, step=0, out=out) is out
    for training in (True, False):
        averages = (None, None) if training else (mean, var)
        wanted, kept = layers.batch_norm(x, weight, bias, *averages, training=training)
        changed = [None if a is None else change(a) for a in averages]
        y, cache = layers.batch_norm(change(x), change(weight), change(bias), *changed, training=training)
        assert same_bits(y, wanted)
        back = layers.batch_norm_backward(change(grad), cache)
        assert all(map(same_bits, back, layers.batch_norm_backward(grad, kept)))
    penalty, changed_grad = layers.l2_penalty({"x": x}, 0.5, {"x": grad}), batch((12, 5), real)[5]
    assert layers.l2_penalty({"x": change(x)}, 0.5, {"x": changed_grad}) == penalty
    assert same_bits(changed_grad, grad)


@pytest.mark.parametrize("kind", CASTS)
def test_arrays_that_are_only_read_are_cast(kind):
    x = batch((12, 5), np.float32)[0]
    weight, bias, mean, var = np.random.default_rng(1).integers(0, 2, (4, 5)).astype(np.float32)
    grad, cast = np.random.default_rng(2).integers(0, 2, x.shape).astype(np.float32), CASTS[kind]
    wanted, kept = layers.batch_norm(x, weight, bias, mean, var, training=False)
    y, cache = layers.batch_norm(x, cast(weight), cast(bias), cast(mean), cast(var), training=False)
    assert same_bits(y, wanted)
    assert all(map(same_bits, layers.batch_norm_backward(cast(grad), cache), layers.batch_norm_backward(grad, kept)))
    assert same_bits(layers.batch_norm(x, cast(weight), cast(bias))[0], layers.batch_norm(x, weight, bias)[0])


def test_memory_maps_are_read_and_results_are_plain_arrays(tmp_path):
    x = batch((12, 5), np.float32)[0]
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    y = layers.dropout(mapped, 0.5, seed=0, step=0)
    normalized, cache = layers.batch_norm(mapped, np.ones(5), np.zeros(5))
    assert {type(a) for a in (y, normalized, layers.batch_norm_backward(mapped, cache)[0])} == {np.ndarray}
    assert same_bits(y, layers.dropout(x, 0.5, seed=0, step=0))
    assert layers.l2_penalty(mapped, 1.0) == layers.l2_penalty(x, 1.0)


# Penalty


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("size", [0, 1, 15, 4096, 10_001])
def test_l2_penalty_matches_reference(size, real):
    rng = np.random.default_rng(0)
    params, grads = rng.normal(0, 1, (2, size)).astype(real)
    wanted_grads = grads.copy()
    wanted = reference.layers.l2_penalty(params, 0.3, wanted_grads)
    for _ in every_isa_and_thread_count():
        got_grads = grads.copy()
        assert layers.l2_penalty(params, 0.3, got_grads) == wanted == layers.l2_penalty(params, 0.3)
        assert same_bits(got_grads, wanted_grads)


@pytest.mark.parametrize(
    ("value", "lam", "real"),
    [(1e200, 1e-200, np.float64), (1e154, 1e-10, np.float64), (1e300, 1e-300, np.float64), (1e20, 1.0, np.float32)],
)
def test_l2_penalty_does_not_overflow_before_the_result(value, lam, real):
    params, grads = [np.array([value, 2.0], real), np.array([-value], real)], [np.zeros(2, real), np.zeros(1, real)]
    wanted = 2 * (math.sqrt(lam) * float(real(value))) ** 2
    assert layers.l2_penalty(params, lam, grads) == pytest.approx(wanted, rel=1e-14)
    assert [g.tolist() for g in grads] == [(real(2 * lam) * a).tolist() for a in params]
    with np.errstate(over="ignore"):
        assert layers.l2_penalty(params[1], lam) == reference.layers.l2_penalty(params[1], lam)
    assert layers.l2_penalty(np.array([1e308]), 1e300) == math.inf
    assert layers.l2_penalty(np.array([-math.inf]), 1e-300) == math.inf
    assert math.isnan(layers.l2_penalty(np.array([1e200, math.nan]), 1e-300))


def test_l2_penalty_of_nothing_is_zero():
    for nothing in ({}, [], fastopt.Flat({}), {"a": []}, np.zeros((0, 3))):
        assert layers.l2_penalty(nothing, 1.0) == layers.l2_penalty(nothing, 1.0, nothing) == 0.0


def test_l2_penalty_equals_twice_the_coupled_weight_decay():
    """For every structure of parameters that an optimizer takes."""
    params = fastopt.Flat({"w": np.arange(6.0).reshape(2, 3), "b": np.ones(2)}, np.float64)
    grads, penalty = params.zeros_like(), 0.0
    for kind in (params, dict(params), list(params.values())):
        other = {"w": np.zeros((2, 3)), "b": np.zeros(2)} if kind is not params else grads
        other = list(other.values()) if isinstance(kind, list) else other
        penalty = layers.l2_penalty(kind, 0.25, other)
        assert penalty == 0.25 * (55 + 2)
    decayed, penalized = params.copy(), params.copy()
    fastopt.SGD(decayed, lr=0.1, weight_decay=0.5).step(params.zeros_like())
    fastopt.SGD(penalized, lr=0.1).step(grads)
    assert np.array_equal(decayed.buffer, penalized.buffer)
