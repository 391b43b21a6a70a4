"""Predictions and targets of losses: labels, masks, probabilities, what is ignored, converted, copied and checked."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CHUNK, REALS, read_only, same_bits
from loss_cases import elements, pixels, rows

import fastopt
from fastopt import losses, runtime
from fastopt._util.arrays import as_int64

ELEMENTWISE = ["mse", "mae", "huber", "log_cosh", "binary_cross_entropy", "focal"]
OF_PROBABILITIES = {
    "binary_cross_entropy": {},
    "focal": {},
    "cross_entropy": {},
    "dice": {"from_logits": "sigmoid"},
}


def same(got, wanted):
    """Return whether two pairs of a value and a gradient have the same bits."""
    return same_bits(np.asarray(got[0]), np.asarray(wanted[0])) and same_bits(got[1], wanted[1])


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, np.int8, np.uint64, lambda labels: np.repeat(labels, 2)[::2]])
def test_labels_of_every_kind_are_accepted(kind):
    logits, labels, _ = rows({}, np.float32)
    wanted = losses.cross_entropy(logits, labels)
    assert same(losses.cross_entropy(logits, kind(labels), out=np.empty_like(logits)), wanted)
    assert losses.dice(logits, kind(labels))[0] == losses.dice(logits, labels)[0]


@pytest.mark.parametrize("name", ["cross_entropy", "dice"])
def test_labels_of_two_classes_may_be_booleans(name):
    logits, labels, _ = rows({}, np.float32, (23, 2))
    loss = getattr(losses, name)
    assert same(loss(logits, labels.astype(bool)), loss(logits, labels))


def test_misaligned_labels_are_copied():
    labels = np.zeros(5 * 8 + 1, np.uint8)[1:].view(np.int64)
    assert not labels.flags.aligned
    assert as_int64(labels).flags.aligned
    logits = np.zeros((5, 2))
    assert losses.cross_entropy(logits, labels)[0] == losses.cross_entropy(logits, labels.copy())[0]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8])
def test_labels_may_have_any_memory_order(dtype):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 5, 4)), rng.integers(0, 4, (3, 5)).astype(dtype)
    assert losses.cross_entropy(logits, np.asfortranarray(labels))[0] == losses.cross_entropy(logits, labels)[0]


@pytest.mark.parametrize("ignored", [-(2**63), -(2**53) - 1, 2**53 + 1, 2**63 - 1])
def test_ignore_index_may_be_any_int64(ignored):
    logits = np.random.default_rng(0).normal(size=(3, 4))
    wanted, wanted_gradient = losses.cross_entropy(logits[1:], np.array([1, 2]))
    labels = np.array([ignored, 1, 2])
    for target in [labels, labels.astype(np.uint64)] if ignored > 0 else [labels]:
        value, gradient = losses.cross_entropy(logits, target, ignore_index=ignored)
        assert value == wanted
        assert np.array_equal(gradient, [np.zeros(4), *wanted_gradient])
        assert np.array_equal(losses.dice(logits, target, ignore_index=ignored)[1].any(axis=1), [False, True, True])
    labels[0] += 1 if ignored < 0 else -1
    for loss in (losses.cross_entropy, losses.dice):
        with pytest.raises(IndexError, match="in row 0"):
            loss(logits, labels, ignore_index=ignored)


@pytest.mark.parametrize("name", ["cross_entropy", "dice"])
def test_one_hot_code_of_any_dtype_is_a_target_of_probabilities(name):
    logits, labels, _ = rows({}, np.float32)
    loss, one_hot = getattr(losses, name), labels[:, None] == np.arange(11)
    wanted = loss(logits, one_hot.astype(np.float32))
    for target in (one_hot, one_hot.astype(np.uint8), one_hot.astype(np.float64), one_hot.tolist()):
        assert same(loss(logits, target), wanted)
    np.testing.assert_allclose(wanted[0], loss(logits, labels)[0], rtol=1e-6)


# Pixels that are ignored ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize(
    ("form", "classes"), [("softmax", 3), ("softmax", 70), ("sigmoid", 1), ("sigmoid", 3), (None, 1), (None, 70)]
)
@pytest.mark.parametrize("squared", [False, True])
def test_dice_of_ignored_pixels_equals_dice_without_them(squared, form, classes, real):
    x, labels, options = pixels({"from_logits": form, "ignore_index": 255}, real, (1, 777, classes))
    options["squared"] = squared
    kept = labels[0] != 255
    x[:, ~kept] = np.nan
    value, gradient = losses.dice(x, labels, **options)
    wanted, wanted_gradient = losses.dice(x[:, kept], labels[:, kept], **options)
    assert value == pytest.approx(wanted)
    assert not gradient[:, ~kept].any()
    np.testing.assert_allclose(gradient[:, kept], wanted_gradient, rtol=1e-5, atol=1e-5 * np.abs(wanted_gradient).max())


def test_dice_of_an_ignored_class_equals_dice_of_pixels_of_other_classes():
    x, labels, _ = pixels({}, np.float64, (1, 60, 3))
    value, gradient = losses.dice(x, labels, ignore_index=2)
    kept = labels[0] != 2
    assert value == pytest.approx(losses.dice(x[:, kept], labels[:, kept])[0])
    assert np.array_equal(gradient[0].any(axis=1), kept)


def test_dice_of_ignored_pixels_only_is_zero():
    for smooth in (0.0, 1.0):
        x = np.ones((2, 3, 2))
        value, gradient = losses.dice(x, np.full((2, 3), 255), ignore_index=255, smooth=smooth, out=x)
        assert (value, gradient.any()) == (0.0, False)


def test_ignore_index_has_no_effect_on_probabilities():
    x, target, _ = pixels({"soft": True}, np.float32, (2, 9, 3))
    target[0] = 1.0
    assert same(losses.dice(x, target, ignore_index=1), losses.dice(x, target))


# Masks of one class ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sigmoid", None])
def test_mask_of_one_class_is_q(form):
    x, mask, options = pixels({"from_logits": form}, np.float32, (3, 8, 9, 1))
    x = x * np.float32(0.3)  # with None, p would be 1
    wanted = losses.dice(x, mask[..., None].astype(np.float32), **options)
    for target in (mask, mask.astype(bool), mask.astype(np.uint8), mask.astype(np.float64), mask.astype(np.float32)):
        for shaped in (target, target[..., None], np.asfortranarray(target), target.tolist()):
            assert same(losses.dice(x, shaped, **options), wanted)


def test_dice_of_an_empty_mask():
    """The value and the gradient by hand: p = 1/2, B = 4/2 + 1, dL/dp = 1 / B^2, dp/dx = 1/4."""
    value, gradient = losses.dice(np.zeros((1, 2, 2, 1)), np.zeros((1, 2, 2), int), from_logits="sigmoid")
    assert value == pytest.approx(1 - 1 / 3)
    assert gradient.ravel() == pytest.approx([1 / 36] * 4)


@pytest.mark.parametrize("shape", [(2, 6, 7), (2, 6, 7, 1)])
def test_mask_of_one_class_may_have_ignored_pixels(shape):
    x, mask, options = pixels({"from_logits": "sigmoid", "ignore_index": 255}, np.float32, (2, 6, 7, 1))
    value, gradient = losses.dice(x, mask.reshape(shape).astype(np.uint8), **options)
    q, counted = mask == 1, mask != 255
    p = np.where(counted, 1 / (1 + np.exp(-x[..., 0].astype(np.float64))), 0)
    wanted = 1 - (2 * (p * q).sum((1, 2)) + 1) / (p.sum((1, 2)) + q.sum((1, 2)) + 1)
    assert value == pytest.approx(wanted.mean(), rel=1e-6)
    assert np.array_equal(gradient[..., 0] != 0, counted)


# Conversions ----------------------------------------------------------------------------------------------------------


def strided(x):
    return np.repeat(x, 2, axis=-1)[..., ::2]


def misaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    memory[...] = x
    return memory


def calls():
    """Return calls of each loss with a target like the prediction, and of those with classes with labels."""
    x, target = elements(np.float32, (6, 3))
    found = [(getattr(losses, name), x, target) for name in [*ELEMENTWISE, "cross_entropy", "dice"]]
    return [*found, *((loss, *rows({}, np.float32, (6, 3))[:2]) for loss in (losses.cross_entropy, losses.dice))]


@pytest.mark.parametrize("layout", [np.asfortranarray, strided, misaligned, lambda x: x[::-1].copy()[::-1]])
def test_inputs_may_have_any_memory_order(layout):
    for loss, x, target in calls():
        wanted, before = loss(x, target), x.copy()
        assert same(loss(layout(x), layout(target)), wanted)
        assert same(loss(layout(x), target, out=np.empty_like(x)), wanted)
        assert same(loss(read_only(layout(x)), read_only(layout(target))), wanted)
        assert np.array_equal(x, before)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float16, np.float64, np.longdouble, ">f4", list])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_targets_are_converted_to_the_dtype_of_the_prediction(name, kind):
    x, target = elements(np.float32)
    loss, target = getattr(losses, name), target.round()
    given = target.tolist() if kind is list else target.astype(kind)
    assert same(loss(x, given), loss(x, target))


def test_float64_probabilities_are_rounded_to_float32():
    logits, target, _ = rows({"soft": True}, np.float64)
    x = logits.astype(np.float32)
    assert same(losses.cross_entropy(x, target), losses.cross_entropy(x, target.astype(np.float32)))


# Ranges ---------------------------------------------------------------------------------------------------------------

OUTSIDE = [-1e-30, 1.0000001, 255, np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_a_probability_out_of_range_raises_wherever_it_is(name, real):
    for size in [*range(1, 36), 2 * CHUNK + 35]:
        x, target = np.zeros((1, size, 2), real), np.full((1, size, 2), 0.5, real)
        target[0, :, 0], target[0, ::2, 1] = -0.0, 1
        for isa in runtime.available_isas():
            fastopt.set_isa(isa)
            getattr(losses, name)(x, target, **OF_PROBABILITIES[name])
            for i, bad in enumerate(OUTSIDE):
                where = (0, (i * size // len(OUTSIDE) if size > CHUNK else size - 1), i % 2)
                kept, target[where] = target[where], bad
                message = rf"^target must be in \[0, 1\], got {real(bad)} at index \({', '.join(map(str, where))}\)$"
                with pytest.raises(ValueError, match=message):
                    getattr(losses, name)(x, target, **OF_PROBABILITIES[name])
                target[where] = kept


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_logits_that_are_not_finite_hide_no_probability_out_of_range(name, reduction):
    x, target = np.zeros((3 * CHUNK, 2), np.float32), np.ones((3 * CHUNK, 2), np.float32)
    options = {**OF_PROBABILITIES[name], "reduction": reduction}
    x[0], x[CHUNK], target[-1, -1] = np.nan, -np.inf, 2
    with np.errstate(all="raise"), pytest.raises(ValueError, match=rf"got 2.0 at index \({3 * CHUNK - 1}, 1\)$"):
        getattr(losses, name)(x, target, **options)
    target[-1, -1] = 1
    value, _ = getattr(losses, name)(x, target, **options)
    assert np.isnan(value).any()
