"""Losses agree with PyTorch, torchvision's formula and Optax, also for unusual arguments."""

from __future__ import annotations

import numpy as np
import pytest
from cases import REALS
from loss_cases import DICE, ELEMENTS, FOCAL, REDUCTIONS, ROWS, elements, pixels, rows

from fastopt import losses


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
        counted = t[..., None] != options.get("ignore_index", -100) if target.dtype != real else torch.tensor(True)
        q = t if target.dtype == real else f.one_hot(t.where(t < 4, 0), 4).to(leaf.dtype)
        p, q = p * counted, q * counted
        axes = (1, 2) if options.get("per_image", True) else (0, 1, 2)
        power = 2 if options.get("squared") else 1
        value = 1 - (2 * (p * q).sum(axes) + smooth) / ((p**power).sum(axes) + (q**power).sum(axes) + smooth)
        return value if reduction == "none" else getattr(value, reduction)()

    # the gradient, p (slope - mean slope), loses digits by cancellation
    compare_with_torch(theirs, lambda: losses.dice(x, target, reduction=reduction, **options), x, real, reduction, 16)


# Unusual arguments ----------------------------------------------------------------------------------------------------

FINITE = [0.0, -0.0, 1.0, -1.0, 0.3, 5.0, -30.0, 30.0, 1e2, 1e4, -1e4]
EXTREME = [*FINITE, np.inf, -np.inf]
PROBABILITIES = [0.0, 1.0, 0.3, 0.5]
GRID = {  # a call of ours, its options, and the call of PyTorch with them
    "mse": [{}],
    "mae": [{}],
    "huber": [{"delta": delta} for delta in (1e-30, 1e-3, 1.0, 1e4, 1e30)],
    "binary_cross_entropy": [{"pos_weight": weight} for weight in (None, 0.0, 1e-30, 3.0, 1e30)],
    "focal": [{"gamma": gamma, "alpha": alpha} for gamma in (0.0, 0.5, 2.0, 5.0) for alpha in (None, 0.0, 0.25, 1.0)],
}
WEIGHTS = [None, [1.0, 2.0, 0.0, 0.5], [0.0] * 4, [1e30] * 4]


def differentiated(call, x):
    """Return the value and the gradient of a call of PyTorch."""
    torch = pytest.importorskip("torch")
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    value = call(torch.nn.functional, leaf)
    value.sum().backward()
    return value.detach().numpy(), leaf.grad.numpy()


def agree(got, wanted, real):
    """Return whether values and gradients agree wherever PyTorch's are numbers."""
    for mine, theirs in zip(map(np.asarray, got), wanted, strict=True):
        finite = np.isfinite(theirs)
        scale = np.abs(theirs[finite]).max(initial=0)
        near = np.abs(mine - np.where(finite, theirs, 0)) <= 32 * np.finfo(real).eps * (scale + np.abs(theirs))
        if not (np.isnan(theirs) | (mine == theirs) | (finite & near)).all():
            return False
    return True


def sigmoid_focal_loss(f, logits, target, gamma, alpha):
    """The formula of torchvision."""
    p = logits.sigmoid()
    loss = f.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = loss * (1 - (p * target + (1 - p) * (1 - target))) ** gamma
    return loss if alpha is None else (alpha * target + (1 - alpha) * (1 - target)) * loss


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("numbers", [FINITE, EXTREME], ids=["finite", "infinite"])
@pytest.mark.parametrize("name", GRID)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # of the comparison
def test_elementwise_losses_agree_with_pytorch_on_a_grid(name, numbers, reduction, real):
    torch = pytest.importorskip("torch")
    targets = PROBABILITIES if name in {"binary_cross_entropy", "focal"} else [*PROBABILITIES, 7.0, -1e4]
    x, y = (np.array(axis, real).ravel() for axis in np.meshgrid(numbers, targets))
    t = torch.from_numpy(y)

    def theirs(f, leaf, pos_weight=None, **options):
        if name == "focal":
            value = sigmoid_focal_loss(f, leaf, t, **options)
            return value if reduction == "none" else getattr(value, reduction)()
        if name == "binary_cross_entropy":
            options["pos_weight"] = None if pos_weight is None else torch.tensor(pos_weight, dtype=t.dtype)
        of_torch = {row[0]: row[2] for row in ELEMENTS.values()}[name]
        return getattr(f, of_torch)(leaf, t, reduction=reduction, **options)

    for options in GRID[name]:
        got = getattr(losses, name)(x, y, reduction=reduction, **options)
        assert agree(got, differentiated(lambda f, leaf, o=options: theirs(f, leaf, **o), x), real), options


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("numbers", [FINITE, EXTREME], ids=["finite", "infinite"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_cross_entropy_agrees_with_pytorch_on_a_grid(smoothing, numbers, reduction, real):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, labels = rng.choice(numbers, (40, 4)).astype(real), rng.integers(0, 4, 40)
    soft = rng.dirichlet(np.ones(4), 40).astype(real)
    soft[::2] = np.eye(4)[labels[::2]]
    nothing = np.full(40, -100)
    targets = [(labels, -100), (labels, 2), (nothing, -100), (np.where(labels == 1, 255, labels), 255), (soft, -100)]
    for weight in WEIGHTS:
        of_torch = None if weight is None else torch.tensor(weight, dtype=torch.from_numpy(x).dtype)
        for target, ignored in targets:
            options = {"label_smoothing": smoothing, "ignore_index": ignored, "reduction": reduction}
            got = losses.cross_entropy(x, target, weight=weight, **options)
            wanted = differentiated(
                lambda f, leaf, t=target, w=of_torch, o=options: f.cross_entropy(leaf, torch.from_numpy(t), w, **o), x
            )
            assert agree(got, wanted, real), (weight, options)


def test_differences_from_pytorch_are_as_documented():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x, y = torch.tensor([torch.inf, torch.nan]), torch.tensor([1.0, 0.0])
    assert f.binary_cross_entropy_with_logits(x, y, reduction="none").isnan().all()
    assert losses.binary_cross_entropy(x.numpy()[:1], y.numpy()[:1])[0] == 0
    assert f.l1_loss(x, y, reduction="none").isnan().tolist() == [False, True]
    assert differentiated(lambda f, leaf: f.l1_loss(leaf, y, reduction="sum"), x.numpy())[1].tolist() == [1, 0]
    assert np.isnan(losses.mae(x.numpy(), y.numpy())[1]).tolist() == [False, True]
    logits = torch.tensor([[-torch.inf, 0.0]])
    assert f.cross_entropy(logits, torch.tensor([[0.0, 1.0]])).isnan()
    assert losses.cross_entropy(logits.numpy(), np.array([[0.0, 1.0]]))[0] == 0
    one_class = differentiated(lambda f, leaf: f.cross_entropy(leaf, torch.tensor([0])), np.array([[3.0]]))
    assert (one_class[0], one_class[1]) == losses.cross_entropy(np.array([[3.0]]), [0]) == (0, 0)


def test_huber_is_smooth_l1_loss_times_delta():
    x, y = elements(np.float64)
    wanted = differentiated(
        lambda f, leaf: f.smooth_l1_loss(leaf, pytest.importorskip("torch").from_numpy(y), beta=0.3), x
    )
    value, gradient = losses.huber(x, y, 0.3)
    assert value / 0.3 == pytest.approx(wanted[0])
    np.testing.assert_allclose(gradient / 0.3, wanted[1], rtol=1e-12)


def test_log_cosh_and_focal_agree_with_optax():
    optax = pytest.importorskip("optax")
    x, y = elements(np.float32)
    np.testing.assert_allclose(
        losses.log_cosh(x, y, reduction="none")[0], optax.losses.log_cosh(x, y), rtol=1e-5, atol=1e-7
    )
    wanted = optax.losses.sigmoid_focal_loss(x, y, alpha=0.25, gamma=2.0)
    np.testing.assert_allclose(losses.focal(x, y, reduction="none")[0], wanted, rtol=1e-4, atol=1e-6)
