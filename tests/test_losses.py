"""Losses: values and gradients match finite differences and (bit for bit) the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import REALS, same_bits
from loss_cases import DICE, ELEMENTS, REDUCTIONS, ROWS, elements, pixels, rows

import fastopt
from fastopt import losses, reference, runtime

# Values and gradients


def check_gradient(loss, x):
    """Compare with central differences in float64."""
    _, gradient = loss(x)
    for i in range(0, x.size, 3):
        h = 1e-5
        up, down = x.copy(), x.copy()
        up.flat[i] += h
        down.flat[i] -= h
        difference = (loss(up)[0] - loss(down)[0]) / (2 * h)
        assert abs(difference - gradient.flat[i]) < 1e-7, i


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ELEMENTS)
def test_elementwise_gradients_match_finite_differences(name, reduction):
    function, options, _ = ELEMENTS[name]
    x, target = elements(np.float64, (4, 7))
    check_gradient(lambda x: getattr(losses, function)(x, target, reduction=reduction, **options), x)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ROWS)
def test_cross_entropy_gradient_matches_finite_differences(name, reduction):
    logits, target, options = rows(ROWS[name], np.float64, (5, 11))
    check_gradient(lambda x: losses.cross_entropy(x, target, reduction=reduction, **options), logits)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", DICE)
def test_dice_gradient_matches_finite_differences(name, reduction):
    x, target, options = pixels(DICE[name], np.float64, (2, 3, 4, 3))
    check_gradient(lambda x: losses.dice(x, target, reduction=reduction, **options), x)


def test_dice_of_right_wrong_and_absent_classes():
    right = np.array([[[30.0, -30, 0], [30, -30, 0], [-30, 30, 0]]]) - [0, 0, 1e4]
    value, gradient = losses.dice(right, np.array([[0, 0, 1]]), smooth=0.0, reduction="none")
    assert value.round(12).tolist() == [[0, 0, 0]]
    value, _ = losses.dice(right, np.array([[1, 1, 0]]), smooth=0.0, reduction="none")
    assert value.round(12).tolist() == [[1, 1, 0]]
    assert losses.dice(np.zeros((2, 5, 1)), np.zeros((2, 5, 1)), from_logits=None, smooth=0.0)[0] == 0
    assert losses.dice(np.zeros((0, 5, 2)), np.zeros((0, 5), int), reduction="sum")[0] == 0
    given = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    value, gradient = losses.dice(given, np.array([[0, 0]]), from_logits=None, smooth=0.0, reduction="sum")
    assert value == pytest.approx(1 / 3 + 1)
    assert gradient.round(6).tolist() == [[[-0.444444, 0], [-0.444444, 0]]]


@pytest.mark.parametrize(
    ("real", "far", "options"),
    [
        (np.float32, -50.0, {"smooth": 0.0, "squared": True}),
        (np.float32, -90.0, {"smooth": 0.0}),
        (np.float32, -1e4, {"smooth": 1e-40}),
        (np.float64, -712.0, {"smooth": 0.0}),
    ],
)
def test_dice_of_almost_absent_class_has_tiny_gradient(real, far, options):
    """The slope with respect to p exceeds the range of the dtype, but with respect to x it is almost zero."""
    x = np.zeros((1, 4, 2), real)
    x[..., 1] = far
    target = np.zeros((1, 4), int)
    value, gradient = losses.dice(x, target, **options)
    wanted_value, wanted = reference.losses.dice(x, target, **options)
    assert value == wanted_value
    assert same_bits(gradient, wanted)
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.parametrize(
    ("x", "target", "options"),
    [
        ([[[np.inf], [1.0]]], [[[0.0], [0.0]]], {}),
        ([[[0.0]]], [[[0.0]]], {"squared": True, "smooth": 1e-308}),
        ([[[1e300]], [[1e300]]], [[[1.0]], [[0.0]]], {"smooth": 1e-5}),
        ([[[1e308], [1e308]]], [[[1.0], [0.0]]], {"squared": True}),
    ],
    ids=str,
)
def test_dice_of_arbitrary_numbers_does_not_warn(x, target, options):
    """Not even under np.errstate(all="raise"), which would interrupt it after it has written."""
    x, target = np.array(x), np.array(target)
    with np.errstate(all="ignore"):
        wanted, slope = reference.losses.dice(x, target, from_logits=None, **options)
    with np.errstate(all="raise"):
        value, gradient = losses.dice(x, target, from_logits=None, **options)
    assert same_bits(np.array(value), np.array(wanted))
    assert same_bits(gradient, slope)


@pytest.mark.parametrize("kind", [np.float16, np.longdouble, np.int8])
def test_cross_entropy_accepts_weights_of_any_real_dtype(kind):
    logits, labels, weights = np.ones((2, 3)), np.array([0, 2]), np.array([1, 2, 4])
    value, _ = losses.cross_entropy(logits, labels, weight=weights.astype(kind))
    assert value == losses.cross_entropy(logits, labels, weight=weights.astype(float))[0]


def test_dice_with_zero_denominator_has_no_loss_and_no_gradient():
    x, q = np.full((1, 1, 2), -1.0), np.zeros((1, 1, 2))  # -1 + 0 + 1
    for module in (losses, reference.losses):
        value, gradient = module.dice(x, q, from_logits=None, reduction="sum")
        assert (value, gradient.tolist()) == (0.0, [[[0.0, 0.0]]])


@pytest.mark.parametrize("name", ["mae", "log_cosh"])
def test_gradient_of_negative_zero_difference_is_positive_zero(name):
    x, target = np.array([-0.0, 0.0]), np.array([0.0, -0.0])
    _, gradient = getattr(losses, name)(x, target)
    assert not np.signbit(gradient).any()
    assert same_bits(gradient, getattr(reference.losses, name)(x, target)[1])


def test_focal_of_extreme_logits():
    x = np.array([1e4, -1e4, 1e4, -1e4, np.inf, -np.inf, np.inf, -np.inf])
    value, gradient = losses.focal(x, np.array([1.0, 1, 0, 0, 1, 0, 0, 1]), alpha=None, reduction="none")
    assert value.tolist() == [0, 1e4, 1e4, 0, 0, 0, math.inf, math.inf]
    assert gradient.tolist() == [0, -1, 1, 0, 0, 0, 1, -1]


# id: function of the dtype that returns (name of the loss, (prediction, target), options)
EVERYTHING = {
    **{name: lambda real, row=row: (row[0], elements(real, (3001, 7)), row[1]) for name, row in ELEMENTS.items()},
    **{f"cross entropy, {name}": lambda real, o=options: of_rows(o, real, (901, 11)) for name, options in ROWS.items()},
    "cross entropy, wide": lambda real: of_rows({}, real, (3, 5003)),
    "cross entropy, wide and smooth": lambda real: of_rows({"label_smoothing": 0.1}, real, (3, 5003)),
    "cross entropy, one class": lambda real: of_rows({}, real, (50, 1)),
    "cross entropy, 64": lambda real: of_rows({}, real, (130, 64)),
    "cross entropy, 65": lambda real: of_rows({}, real, (130, 65)),
    **{f"dice, {name}": lambda real, o=options: of_pixels(o, real, (3, 40, 31, 4)) for name, options in DICE.items()},
    "dice, one class": lambda real: of_pixels({"from_logits": "sigmoid", "soft": True}, real, (2, 50, 1)),
    "dice, one mask": lambda real: of_pixels({"from_logits": "sigmoid", "ignore_index": 255}, real, (2, 50, 1)),
    "dice, one given mask": lambda real: of_pixels({"from_logits": None, "squared": True}, real, (2, 50, 1)),
    "dice, 70 classes": lambda real: of_pixels({}, real, (2, 9, 11, 70)),
    "dice, 5,000 classes": lambda real: of_pixels({}, real, (2, 3, 5000)),
    "dice, no pixels": lambda real: of_pixels({}, real, (2, 0, 3)),
}


def of_pixels(options, real, shape):
    x, target, rest = pixels(options, real, shape)
    return "dice", (x, target), rest


def of_rows(options, real, shape):
    logits, target, rest = rows(options, real, shape)
    return "cross_entropy", (logits, target), rest


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("name", EVERYTHING)
def test_losses_match_reference_for_every_isa_and_thread_count(name, real):
    function, arguments, options = EVERYTHING[name](real)
    for reduction in REDUCTIONS:
        wanted, slopes = getattr(reference.losses, function)(*arguments, reduction=reduction, **options)
        for isa in runtime.available_isas():
            for threads in (1, 2, 4, "auto"):
                fastopt.set_isa(isa)
                fastopt.set_num_threads(threads)
                value, gradient = getattr(losses, function)(*arguments, reduction=reduction, **options)
                assert same_bits(np.asarray(value), np.asarray(wanted))
                assert same_bits(gradient, slopes)


@pytest.mark.parametrize("name", EVERYTHING)
def test_out_may_be_the_prediction(name):
    function, (x, target), options = EVERYTHING[name](np.float32)
    loss = getattr(losses, function)
    value, gradient = loss(x, target, **options)
    target_before, other = target.copy(), np.empty_like(x)
    again, same = loss(x, target, out=other, **options)
    assert same is other
    assert (again, same_bits(same, gradient)) == (value, True)
    again, same = loss(x, target, out=x, **options)
    assert same is x
    assert (again, same_bits(x, gradient)) == (value, True)
    assert np.array_equal(target, target_before)


# Edge cases


@pytest.mark.parametrize("real", REALS, ids=str)
def test_extreme_logits_have_exact_finite_losses(real):
    def of(logits, label):
        value, gradient = losses.cross_entropy(np.array([logits], real), np.array([label]))
        return value, gradient[0].tolist()

    assert of([1e4, -1e4, 0], 0) == (0.0, [0, 0, 0])
    assert of([1e4, -1e4, 0], 1) == (2e4, [1, -1, 0])
    assert of([1e4, 1e4], 0) == (pytest.approx(math.log(2), rel=1e-6), [-0.5, 0.5])
    assert of([-1e4] * 4, 2) == (pytest.approx(math.log(4), rel=1e-6), [0.25, 0.25, -0.75, 0.25])
    assert of([0, -np.inf], 0) == (0.0, [0, 0])
    assert of([3], 0) == (0.0, [0])
    soft = losses.cross_entropy(np.array([[0, -np.inf]], real), np.array([[1, 0]], real))
    assert (soft[0], soft[1].tolist()) == (0.0, [[0, 0]])
    x = np.array([1e4, -1e4, 1e4, -1e4, np.inf, -np.inf], real)
    value, gradient = losses.binary_cross_entropy(x, np.array([1, 1, 0, 0, 1, 0], real), reduction="none")
    assert value.tolist() == [0, 1e4, 1e4, 0, 0, 0]
    assert gradient.tolist() == [0, -1, 1, 0, 0, 0]
    value, gradient = losses.log_cosh(np.array([1e4, -1e4, 0, 1e-3], real), np.zeros(4, real), reduction="none")
    np.testing.assert_allclose(value, [1e4 - math.log(2), 1e4 - math.log(2), 0, 4.9999991666669e-07], rtol=1e-6)
    np.testing.assert_allclose(gradient, [1, -1, 0, math.tanh(1e-3)], rtol=1e-6)


@pytest.mark.parametrize("name", ELEMENTS)
def test_nan_propagates_to_its_element_only(name):
    x, target = elements(np.float32)
    x[2, 3] = np.nan
    function, options, _ = ELEMENTS[name]
    value, gradient = getattr(losses, function)(x, target, reduction="none", **options)
    assert np.isnan(value).nonzero() == np.isnan(gradient).nonzero() == (2, 3)


def test_sum_of_many_float32_losses_is_exact():
    """A float32 sum of ones stops at 2**24."""
    size = 2**24 + 999
    value, _ = losses.mae(np.ones(size, np.float32), np.zeros(size, np.float32), reduction="sum")
    assert value == size


def test_mean_of_no_rows_is_nan():
    assert math.isnan(losses.mse(np.zeros(0), np.zeros(0))[0])
    assert losses.mse(np.zeros((0, 3)), np.zeros((0, 3)), reduction="sum")[0] == 0
    assert math.isnan(losses.cross_entropy(np.zeros((2, 3)), np.array([-100, -100]))[0])
    value, gradient = losses.cross_entropy(np.zeros((2, 3)), np.array([-100, -100]), reduction="sum")
    assert (value, gradient.tolist()) == (0.0, [[0] * 3] * 2)
    assert math.isnan(losses.dice(np.zeros((0, 5, 2)), np.zeros((0, 5), int))[0])
