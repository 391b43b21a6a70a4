"""Losses: values and gradients against differences and PyTorch, the same bits everywhere, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import REALS, same_bits

import fastopt
from fastopt import losses, reference, runtime

RNG = np.random.default_rng(0)


# by a name: the function, its options, and what PyTorch calls it
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
    """Logits, a target, and the options of the call."""
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
    """Images of pixels, a target, and the options of the call."""
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
    """Central differences in float64."""
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
def test_gradients_of_elements_are_differences(name, reduction):
    function, options, _ = ELEMENTS[name]
    x, target = elements(np.float64, (4, 7))
    check_gradient(lambda x: getattr(losses, function)(x, target, reduction=reduction, **options), x)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ROWS)
def test_gradients_of_rows_are_differences(name, reduction):
    logits, target, options = rows(ROWS[name], np.float64, (5, 11))
    check_gradient(lambda x: losses.cross_entropy(x, target, reduction=reduction, **options), logits)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", DICE)
def test_gradients_of_dice_are_differences(name, reduction):
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
def test_pytorch_gives_the_same_for_elements(name, reduction, real):
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
def test_pytorch_gives_the_same_for_rows(name, shape, reduction, real):
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
def test_pytorch_gives_the_same_focal_loss(name, reduction, real):
    """PyTorch itself has none: this is torchvision's formula in PyTorch's operations."""
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
def test_pytorch_gives_the_same_dice(name, reduction, real):
    """PyTorch itself has none: this is the formula in its operations, with its own derivative."""
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

    # p (slope - mean slope): the slopes are larger than their differences
    compare_with_torch(theirs, lambda: losses.dice(x, target, reduction=reduction, **options), x, real, reduction, 16)


def test_dice_of_what_is_right_wrong_or_not_there():
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
def test_dice_of_a_class_that_is_next_to_nothing(real, far, options):
    """Its slope with respect to p is beyond the type's range; with respect to x it is all but zero."""
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
def test_dice_of_what_is_no_probability_is_what_it_is_without_a_warning(x, target, options):
    """Even where errors of floating point are raised: it had written by then."""
    x, target = np.array(x), np.array(target)
    with np.errstate(all="ignore"):
        wanted, slope = reference.losses.dice(x, target, from_logits=None, **options)
    with np.errstate(all="raise"):
        value, gradient = losses.dice(x, target, from_logits=None, **options)
    assert same_bits(np.array(value), np.array(wanted))
    assert same_bits(gradient, slope)


@pytest.mark.parametrize("kind", [np.float16, np.longdouble, np.int8])
def test_weights_of_any_kind_of_number(kind):
    logits, labels, weights = np.ones((2, 3)), np.array([0, 2]), np.array([1, 2, 4])
    value, _ = losses.cross_entropy(logits, labels, weight=weights.astype(kind))
    assert value == losses.cross_entropy(logits, labels, weight=weights.astype(float))[0]


def test_a_denominator_of_zero_has_no_gradient():
    x, q = np.full((1, 1, 2), -1.0), np.zeros((1, 1, 2))  # -1 + 0 + 1
    for module in (losses, reference.losses):
        value, gradient = module.dice(x, q, from_logits=None, reduction="sum")
        assert (value, gradient.tolist()) == (0.0, [[[0.0, 0.0]]])


@pytest.mark.parametrize("name", ["mae", "log_cosh"])
def test_a_difference_of_minus_zero_has_the_slope_zero(name):
    x, target = np.array([-0.0, 0.0]), np.array([0.0, -0.0])
    _, gradient = getattr(losses, name)(x, target)
    assert not np.signbit(gradient).any()
    assert same_bits(gradient, getattr(reference.losses, name)(x, target)[1])


def test_focal_at_extreme_logits():
    x = np.array([1e4, -1e4, 1e4, -1e4, np.inf, -np.inf, np.inf, -np.inf])
    value, gradient = losses.focal(x, np.array([1.0, 1, 0, 0, 1, 0, 0, 1]), alpha=None, reduction="none")
    assert value.tolist() == [0, 1e4, 1e4, 0, 0, 0, math.inf, math.inf]
    assert gradient.tolist() == [0, -1, 1, 0, 0, 0, 1, -1]


# function, (prediction, target), options
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
def test_the_same_bits_as_the_reference_on_every_instruction_set_and_number_of_threads(name, real):
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
def test_the_gradient_may_take_the_place_of_the_prediction(name):
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


# Edges


@pytest.mark.parametrize("real", REALS, ids=str)
def test_extreme_logits_give_the_right_finite_answer(real):
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
def test_a_nan_stays_one(name):
    x, target = elements(np.float32)
    x[2, 3] = np.nan
    function, options, _ = ELEMENTS[name]
    value, gradient = getattr(losses, function)(x, target, reduction="none", **options)
    assert np.isnan(value).nonzero() == np.isnan(gradient).nonzero() == (2, 3)


@pytest.mark.parametrize("kind", [list, np.int8, np.uint64, lambda labels: np.repeat(labels, 2)[::2]])
def test_labels_of_every_kind(kind):
    logits, labels, _ = rows({}, np.float32)
    wanted = losses.cross_entropy(logits, labels)
    value, gradient = losses.cross_entropy(logits, kind(labels), out=np.empty_like(logits))
    assert (value, same_bits(gradient, wanted[1])) == (wanted[0], True)
    assert losses.dice(logits, kind(labels))[0] == losses.dice(logits, labels)[0]


def test_nothing_is_lost_in_a_large_sum():
    """In float32 a sum of ones ends at 2^24."""
    size = 2**24 + 999
    value, _ = losses.mae(np.ones(size, np.float32), np.zeros(size, np.float32), reduction="sum")
    assert value == size


def test_no_rows_have_no_mean():
    assert math.isnan(losses.mse(np.zeros(0), np.zeros(0))[0])
    assert losses.mse(np.zeros((0, 3)), np.zeros((0, 3)), reduction="sum")[0] == 0
    assert math.isnan(losses.cross_entropy(np.zeros((2, 3)), np.array([-100, -100]))[0])
    value, gradient = losses.cross_entropy(np.zeros((2, 3)), np.array([-100, -100]), reduction="sum")
    assert (value, gradient.tolist()) == (0.0, [[0] * 3] * 2)


def read_only(array):
    array.flags.writeable = False
    return array


X, Y, LABELS = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32), np.zeros(4, int)
BUFFER = np.zeros(24, np.float32)
HUGE = np.array([2**64 - 100, 0, 0, 0], np.uint64)
REFUSED = [
    (lambda: losses.mse([1.0], Y), TypeError, "x is a 'list'"),
    (lambda: losses.mse(X.astype(int), Y), TypeError, "x has dtype int64"),
    (lambda: losses.mse(X, Y.astype(float)), TypeError, "target has dtype float64; wants float32, as x"),
    (lambda: losses.mse(X, Y[:3]), ValueError, r"target must have shape \(4, 3\) as its parameter, got \(3, 3\), as x"),
    (lambda: losses.mse(X.T, Y.T), ValueError, "x must be C-contiguous"),
    (lambda: losses.mse(X, Y, reduction="average"), ValueError, "reduction is 'average'"),
    (lambda: losses.mse(X, Y, out=Y), ValueError, "out and target overlap"),
    (lambda: losses.mse(BUFFER[:12], np.ones(12, "f"), out=BUFFER[1:13]), ValueError, "out and x overlap"),
    (lambda: losses.mse(X, Y, out=np.zeros((4, 3))), TypeError, "out has dtype float64"),
    (lambda: losses.mse(X, Y, out=read_only(X.copy())), ValueError, "out is read-only"),
    (lambda: losses.huber(X, Y, 0.0), ValueError, "delta is 0.0"),
    (lambda: losses.binary_cross_entropy(X, Y, pos_weight=-1), ValueError, "pos_weight is -1"),
    (lambda: losses.binary_cross_entropy(X, Y, pos_weight=np.ones(4)), ValueError, r"pos_weight has shape \(4,\)"),
    (lambda: losses.binary_cross_entropy(X, Y, pos_weight="x"), TypeError, "pos_weight is a 'str' of dtype <U1"),
    (lambda: losses.focal(X, Y, gamma=-1.0), ValueError, "gamma is -1.0"),
    (lambda: losses.focal(X, Y, alpha=1.5), ValueError, "alpha is 1.5"),
    (lambda: losses.dice(X[0], LABELS[0]), ValueError, r"x must have shape \(N, ..., C\) as its parameter, got \(3,\)"),
    (lambda: losses.dice(X, LABELS[:2]), ValueError, r"target must have shape \(4,\) as its parameter, got \(2,\)"),
    (lambda: losses.dice(X, LABELS + 3), IndexError, r"target has 3 in row 0; wants labels in \[0, 3\)"),
    (lambda: losses.dice(X, Y, from_logits="tanh"), ValueError, "from_logits is 'tanh'"),
    (lambda: losses.dice(X, Y, smooth=-1.0), ValueError, "smooth is -1.0"),
    (lambda: losses.dice(X, Y, squared=2), ValueError, "squared is 2"),
    (lambda: losses.dice(X, Y, per_image="no"), ValueError, "per_image is 'no'"),
    (lambda: losses.dice(X, Y, out=Y), ValueError, "out and target overlap"),
    (lambda: losses.cross_entropy(X[0, 0], 0), TypeError, "logits is a 'float32'"),
    (lambda: losses.cross_entropy(np.zeros((3, 0)), LABELS[:3]), ValueError, "logits has shape"),
    (lambda: losses.cross_entropy(X, LABELS[:3]), ValueError, r"target must have shape \(4,\) as its parameter, got \(3,\)"),
    (lambda: losses.cross_entropy(X, np.array([0, 2, 3, -1])), IndexError, r"target has 3 in row 2; wants .*\[0, 3\)"),
    (lambda: losses.cross_entropy(X[None], np.array([[0, 2, -1, 1]])), IndexError, r"-1 in row \(0, 2\)"),
    (lambda: losses.cross_entropy(X, ["a"] * 4), TypeError, "target is a 'list' of dtype <U1; wants integer labels"),
    (lambda: losses.cross_entropy(X, Y.astype(float)), TypeError, "target has dtype float64"),
    (lambda: losses.cross_entropy(X, Y[:, :2].copy()), ValueError, "target has shape"),
    (lambda: losses.cross_entropy(X, LABELS, weight=np.ones(2)), ValueError, "weight has shape"),
    (lambda: losses.cross_entropy(X, LABELS, weight=[1, 2, np.nan]), ValueError, "weight is"),
    (lambda: losses.cross_entropy(X, LABELS, label_smoothing=1.1), ValueError, "label_smoothing is 1.1"),
    (lambda: losses.cross_entropy(X, [0, [1], 2, 0]), ValueError, "target is .*, which has no shape; wants integer"),
    (lambda: losses.cross_entropy(X, np.ma.array(LABELS)), TypeError, "target is a masked array"),
    (lambda: losses.cross_entropy(X, LABELS, weight=np.ma.ones(3)), TypeError, "weight is a masked array"),
    (lambda: losses.cross_entropy(X, LABELS, weight=[1, [2], 3]), ValueError, "weight is .*, which has no shape"),
    (lambda: losses.cross_entropy(X, LABELS, weight=[1e39, 1, 1]), ValueError, "weight is .* the range of float32"),
    (lambda: losses.cross_entropy(X, LABELS, weight=[1e-40] * 3), ValueError, "1 / the sum of the weights"),
    (lambda: losses.cross_entropy(X, HUGE), IndexError, "target has 18446744073709551516 in row 0"),
    (lambda: losses.cross_entropy(X, LABELS, ignore_index=2**53 + 1), ValueError, "ignore_index is 9007199254740993"),
    (lambda: losses.cross_entropy(X, LABELS, ignore_index=2**2000), ValueError, "ignore_index is"),
    (lambda: losses.binary_cross_entropy(X, Y, pos_weight=1e39), ValueError, "pos_weight is 1e\\+39"),
    (lambda: losses.focal(X, Y, gamma=1e39), ValueError, "gamma is 1e\\+39; wants .* range of float32"),
    (lambda: losses.huber(X, Y, 1e-50), ValueError, "delta is 1e-50; wants a number within the range of float32"),
    (lambda: losses.cross_entropy(X, LABELS, ignore_index=0.5), TypeError, "ignore_index is 0.5"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_can_not_be_used_is_refused_before_anything_is_written(call, error, message):
    before = [X.copy(), Y.copy(), BUFFER.copy()]
    with pytest.raises(error, match=message):
        call()
    assert all(same_bits(a, b) for a, b in zip(before, [X, Y, BUFFER], strict=True))
