"""Losses: values and gradients match finite differences, PyTorch and (bit for bit) the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import REALS, same_bits

import fastopt
from fastopt import losses, reference, runtime
from fastopt._util.arrays import as_int64

RNG = np.random.default_rng(0)


# id: (function, options, name in torch.nn.functional)
ELEMENTS = {
    "mse": ("mse", {}, "mse_loss"),
    "mae": ("mae", {}, "l1_loss"),
    "huber": ("huber", {}, "huber_loss"),
    "huber 0.3": ("huber", {"delta": 0.3}, "huber_loss"),
    "log_cosh": ("log_cosh", {}, None),
    "bce": ("binary_cross_entropy", {}, "binary_cross_entropy_with_logits"),
    "bce 3": ("binary_cross_entropy", {"pos_weight": 3.0}, "binary_cross_entropy_with_logits"),
    "bce weights": (
        "binary_cross_entropy",
        {"pos_weight": np.linspace(0.1, 4, 7)},
        "binary_cross_entropy_with_logits",
    ),
}
FOCAL = {
    "focal": {},
    "focal, not balanced": {"alpha": None},
    "focal 0": {"gamma": 0.0},
    "focal 0.5": {"gamma": 0.5, "alpha": 0.9},
    "focal 5": {"gamma": 5.0},
}
ELEMENTS.update({name: ("focal", options, None) for name, options in FOCAL.items()})
DICE = {
    "softmax": {},
    "softmax, batch": {"per_image": False},
    "softmax, squared": {"squared": True, "smooth": 0.0},
    "softmax, soft": {"soft": True},
    "sigmoid": {"from_logits": "sigmoid", "soft": True, "smooth": 0.1},
    "sigmoid, squared, batch": {"from_logits": "sigmoid", "squared": True, "per_image": False},
    "given": {"from_logits": None},
    "given, squared, soft": {"from_logits": None, "squared": True, "soft": True},
}
WEIGHTS = np.linspace(0.2, 3, 11)
ROWS = {
    "labels": {},
    "smoothing": {"label_smoothing": 0.1},
    "weights": {"weight": WEIGHTS},
    "ignore": {"ignore_index": 3},
    "ignore -100": {"weight": WEIGHTS, "label_smoothing": 0.2, "ignore_index": -100},
    "probabilities": {"soft": True},
    "probabilities, all": {"soft": True, "weight": WEIGHTS, "label_smoothing": 0.3},
}
REDUCTIONS = ["mean", "sum", "none"]


def rows(options, real, shape=(23, 11), seed=0):
    """Return logits, a target and the options of the call."""
    rng = np.random.default_rng(seed)
    options = dict(options)
    logits = rng.normal(0, 3, shape).astype(real)
    if options.pop("soft", False):
        target = rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(real)
    else:
        target = rng.integers(0, shape[-1], shape[:-1])
        if options.get("ignore_index", 0) < 0:
            target.flat[::5] = -100
    return logits, target, options


def elements(real, shape=(23, 7), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, shape).astype(real), rng.uniform(0, 1, shape).astype(real)


def pixels(options, real, shape, seed=0):
    """Return images, a target and the options of the call."""
    rng = np.random.default_rng(seed)
    options = dict(options)
    x = (
        rng.normal(0, 2, shape)
        if options.get("from_logits", "softmax")
        else rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    )
    soft = options.pop("soft", False)
    target = rng.uniform(0, 1, shape).astype(real) if soft else rng.integers(0, shape[-1], shape[:-1])
    return x.astype(real), target, options


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


def compare_with_torch(theirs, mine, x, real, reduction, of_largest=4):
    torch = pytest.importorskip("torch")
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    value = theirs(torch.nn.functional, leaf)
    value.sum().backward()
    got, gradient = mine()
    eps = np.finfo(real).eps
    assert type(got) is (np.ndarray if reduction == "none" else float)
    scale = max(1.0, float(np.abs(value.detach().numpy()).max()))
    np.testing.assert_allclose(got, value.detach().numpy(), rtol=16 * eps, atol=4 * eps * scale)
    wanted = leaf.grad.numpy()
    np.testing.assert_allclose(gradient, wanted, rtol=16 * eps, atol=of_largest * eps * np.abs(wanted).max())


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", [name for name, row in ELEMENTS.items() if row[2]])
def test_elementwise_losses_match_pytorch(name, reduction, real):
    torch = pytest.importorskip("torch")
    function, options, theirs = ELEMENTS[name]
    x, target = elements(real)
    x[0, :3] = target[0, :3]
    dtype = torch.from_numpy(x).dtype
    of_torch = {k: torch.as_tensor(v, dtype=dtype) if k == "pos_weight" else v for k, v in options.items()}
    compare_with_torch(
        lambda f, leaf: getattr(f, theirs)(leaf, torch.from_numpy(target), reduction=reduction, **of_torch),
        lambda: getattr(losses, function)(x, target, reduction=reduction, **options),
        x,
        real,
        reduction,
    )


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(23, 11), (300, 11), (2, 5, 11)])
@pytest.mark.parametrize("name", ROWS)
def test_cross_entropy_matches_pytorch(name, shape, reduction, real):
    torch = pytest.importorskip("torch")
    logits, target, options = rows(ROWS[name], real, shape)
    theirs = {
        k: torch.as_tensor(v, dtype=torch.from_numpy(logits).dtype) if k == "weight" else v for k, v in options.items()
    }
    flat = (-1, shape[-1]) if target.shape == shape else (-1,)

    def of_torch(f, leaf):
        value = f.cross_entropy(
            leaf.reshape(-1, shape[-1]), torch.from_numpy(target).reshape(flat), reduction=reduction, **theirs
        )
        return value.reshape(shape[:-1]) if reduction == "none" else value

    compare_with_torch(
        of_torch, lambda: losses.cross_entropy(logits, target, reduction=reduction, **options), logits, real, reduction
    )


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", FOCAL)
def test_focal_matches_torchvision_formula(name, reduction, real):
    """Compare with torchvision's formula, differentiated by PyTorch."""
    torch = pytest.importorskip("torch")
    x, target = elements(real)
    target[::2] = target[::2].round()
    t, options = torch.from_numpy(target), {"gamma": 2.0, "alpha": 0.25, **FOCAL[name]}

    def theirs(f, leaf):
        p = torch.sigmoid(leaf)
        entropy = f.binary_cross_entropy_with_logits(leaf, t, reduction="none")
        value = entropy * (1 - (p * t + (1 - p) * (1 - t))) ** options["gamma"]
        if options["alpha"] is not None:
            value = value * (options["alpha"] * t + (1 - options["alpha"]) * (1 - t))
        return value if reduction == "none" else getattr(value, reduction)()

    compare_with_torch(theirs, lambda: losses.focal(x, target, reduction=reduction, **options), x, real, reduction)


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", DICE)
def test_dice_matches_formula_differentiated_by_pytorch(name, reduction, real):
    torch = pytest.importorskip("torch")
    x, target, options = pixels(DICE[name], real, (3, 20, 31, 4))
    form, smooth = options.get("from_logits", "softmax"), options.get("smooth", 1.0)

    def theirs(f, leaf):
        p = torch.softmax(leaf, -1) if form == "softmax" else torch.sigmoid(leaf) if form else leaf
        t = torch.from_numpy(target)
        q = t if target.dtype == real else f.one_hot(t, 4).to(leaf.dtype)
        axes = (1, 2) if options.get("per_image", True) else (0, 1, 2)
        power = 2 if options.get("squared") else 1
        value = 1 - (2 * (p * q).sum(axes) + smooth) / ((p**power).sum(axes) + (q**power).sum(axes) + smooth)
        return value if reduction == "none" else getattr(value, reduction)()

    # the gradient, p (slope - mean slope), loses digits by cancellation
    compare_with_torch(theirs, lambda: losses.dice(x, target, reduction=reduction, **options), x, real, reduction, 16)


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
        ([[[1e300]], [[1e300]]], [[[1e300]], [[-1e300]]], {"smooth": 1e-5}),
        ([[[1e308], [1e308]]], [[[1e308], [1.0]]], {"squared": True}),
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


@pytest.mark.parametrize("kind", [list, np.int8, np.uint64, lambda labels: np.repeat(labels, 2)[::2]])
def test_labels_of_every_kind_are_accepted(kind):
    logits, labels, _ = rows({}, np.float32)
    wanted = losses.cross_entropy(logits, labels)
    value, gradient = losses.cross_entropy(logits, kind(labels), out=np.empty_like(logits))
    assert (value, same_bits(gradient, wanted[1])) == (wanted[0], True)
    assert losses.dice(logits, kind(labels))[0] == losses.dice(logits, labels)[0]


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
    labels[0] += 1 if ignored < 0 else -1
    with pytest.raises(IndexError, match="in row 0"):
        losses.cross_entropy(logits, labels, ignore_index=ignored)


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
