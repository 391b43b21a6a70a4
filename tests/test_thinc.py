"""``fastopt.thinc``: agreement with thinc's own optimizers, bits of fastopt's, configs, and training in spaCy."""

from __future__ import annotations

import copy
from importlib.metadata import entry_points

import numpy as np
import pytest
from cases import same_bits

import fastopt

thinc = pytest.importorskip("thinc.api")

import fastopt.thinc  # noqa: E402  it imports thinc

NAMES = ["SGD", "Momentum", "RMSprop", "Adagrad", "Adam", "AdamW"]
EXACT_BETAS = {"beta1": 1 - 2**-4, "beta2": 1 - 2**-10}  # 1 - beta is exact in float32, too
EPS = 2.0**-23  # of float32
STEPS, RATE = 50, 0.01
KEY = (7, "W")


def gradients(steps=STEPS, size=2.0):
    rng = np.random.default_rng(0)
    return [rng.normal(0, size, (6, 4)).astype(np.float32) for _ in range(steps)]


def run(optimizer, grads):
    """Return the weights and their average after steps that are independent of the weights."""
    w = np.random.default_rng(1).normal(0, 1, (6, 4)).astype(np.float32)
    for grad in grads:
        w, _ = optimizer(KEY, w, grad.copy())
        optimizer.step_schedules()
    return w, None if optimizer.averages is None else optimizer.averages[KEY]


def tolerance(per_step=0.0, steps=STEPS, rate=RATE):
    """Return how far weights of about 3 may drift apart: each step rounds them once, and the step itself eight times;
    ``per_step`` is a known relative difference of steps, which are at most three times the rate."""
    return steps * (4.0 * EPS + 3.0 * rate * (8.0 * EPS + per_step))


CLIPPING = 2e-6  # fastopt adds 1e-6 to a norm, which is at least 0.5 here, before it divides by it


@pytest.mark.parametrize("use_averages", [False, True])
@pytest.mark.parametrize("l2_is_weight_decay", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("grad_clip", [0.0, 0.5])
def test_adam_agrees_with_thinc(grad_clip, l2, l2_is_weight_decay, use_averages):
    options = {"L2": l2, "grad_clip": grad_clip, "L2_is_weight_decay": l2_is_weight_decay, "use_averages": use_averages}
    theirs = run(thinc.Adam(RATE, **EXACT_BETAS, **options), gradients())
    mine = run(fastopt.thinc.Adam(RATE, **EXACT_BETAS, **options), gradients())
    difference = tolerance(RATE * l2 + (CLIPPING if grad_clip else 0.0))
    np.testing.assert_allclose(mine[0], theirs[0], rtol=0, atol=difference)
    if use_averages:
        np.testing.assert_allclose(mine[1], theirs[1], rtol=0, atol=difference)
    else:
        assert mine[1] is theirs[1] is None


def test_the_rounding_of_one_minus_beta_is_the_only_other_difference():
    """thinc's 1 - 0.999 is 1.3e-5 of its value too small, which makes steps larger by at most half of it."""
    excess = float(np.float32(1) - np.float32(0.999)) / (1 - 0.999) - 1
    assert -1.4e-5 < excess < -1.2e-5
    options = {"grad_clip": 0.0, "use_averages": False}
    optimizers = thinc.Adam(RATE, **options), fastopt.thinc.Adam(RATE, **options)
    for optimizer in optimizers:
        run(optimizer, gradients(1))
    theirs, mine = optimizers[0].mom2[KEY], optimizers[1].keyed[KEY].state["exp_avg_sq"].ravel()
    np.testing.assert_allclose(theirs.astype(float) / mine - 1, excess, rtol=0, atol=4 * EPS)
    theirs, mine = (run(module.Adam(RATE, **options), gradients())[0] for module in (thinc, fastopt.thinc))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance(-excess / 2))
    rounded = {name: float(np.float32(beta)) for name, beta in (("beta1", 0.9), ("beta2", 0.999))}  # as thinc does
    theirs, mine = (run(module.Adam(RATE, **rounded, **options), gradients())[0] for module in (thinc, fastopt.thinc))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance())


@pytest.mark.parametrize("options", [{}, {"L2": 0.1}, {"L2": 0.1, "L2_is_weight_decay": False}], ids=str)
def test_sgd_agrees_with_thinc(options):
    (theirs, their_average), (mine, average) = (
        run(cls(RATE, **options), gradients()) for cls in (thinc.SGD, fastopt.thinc.SGD)
    )
    difference = tolerance(RATE * options.get("L2", 0.0) + CLIPPING)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=difference)
    np.testing.assert_allclose(average, their_average, rtol=0, atol=difference)


OWN = {  # arguments of thinc's form, and of fastopt's
    "SGD": ({"momentum": 0.8, "dampening": 0.1}, {"momentum": 0.8, "dampening": 0.1}),
    "Momentum": ({"form": "ema", "nesterov": True}, {"form": "ema", "nesterov": True}),
    "RMSprop": ({"alpha": 0.9, "centered": True, "momentum": 0.5}, {"alpha": 0.9, "centered": True, "momentum": 0.5}),
    "Adagrad": ({"lr_decay": 0.1, "initial_accumulator_value": 0.5},) * 2,
    "Adam": ({"beta1": 0.8, "beta2": 0.9, "amsgrad": True}, {"betas": (0.8, 0.9), "amsgrad": True, "eps_hat": True}),
    "AdamW": ({"eps": 1e-3}, {"eps": 1e-3, "eps_hat": True}),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_step_has_the_bits_of_fastopt(name):
    theirs, own = OWN[name]
    w = np.random.default_rng(1).normal(0, 1, (6, 4)).astype(np.float32)
    optimizer = getattr(fastopt, name)(
        w, lr=RATE, weight_decay=0.1, decoupled_weight_decay=True, max_grad_norm=0.5, **own
    )
    for grad in gradients():
        optimizer.step(grad)
    mine, _ = run(getattr(fastopt.thinc, name)(RATE, L2=0.1, grad_clip=0.5, **theirs), gradients())
    assert same_bits(mine, w)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_fastopt(name):
    """Except for thinc's decoupled decay, clipping, form of epsilon, and no decay."""
    thincs = {"decoupled_weight_decay": True, "eps_hat": True, "weight_decay": 0.01 if name == "AdamW" else 0.0}
    group = getattr(fastopt.thinc, name)(RATE).keyed._template.param_groups[0]
    expected = {**getattr(fastopt, name)(np.zeros(1), lr=RATE).param_groups[0]}
    assert group == {**expected, **{option: value for option, value in thincs.items() if option in expected}}


# What thinc expects of an optimizer


def test_weights_are_updated_in_place_and_gradients_become_zero():
    w, grad = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    optimizer = fastopt.thinc.Adam()
    weights, gradient = optimizer(KEY, w, grad)
    assert (weights is w, gradient is grad) == (True, True)
    assert not grad.any()
    assert w[0, 0] < 1
    assert optimizer.nr_update[KEY] == 1
    for other in (np.ones((2, 3)), np.ones((3, 2), np.float32).T):  # another dtype or order of axes
        optimizer(KEY, w, other)
        assert not other.any()


def test_empty_gradients_are_ignored():
    w = np.ones((0, 3), np.float32)
    optimizer = fastopt.thinc.Adam()
    assert optimizer(KEY, w, w)[0] is w
    assert not optimizer.keyed


def test_lr_scale():
    optimizer, w = fastopt.thinc.SGD(0.5, grad_clip=0.0), np.zeros(1, np.float32)
    for scale, expected in ((2.0, -1.0), (1.0, -1.5), (0.0, -1.5)):
        optimizer(KEY, w, np.ones(1, np.float32), lr_scale=scale)
        assert w == expected


def test_attributes_can_be_set():
    optimizer, w = fastopt.thinc.SGD(0.5, grad_clip=0.0), np.ones(1, np.float32)
    optimizer(KEY, w, np.ones(1, np.float32))
    optimizer.learn_rate, optimizer.L2, optimizer.grad_clip = 1.0, 0.5, 0.25
    optimizer(KEY, w, np.ones(1, np.float32))
    np.testing.assert_allclose(w, 0.5 * (1 - 0.5) - 0.25, rtol=0, atol=1e-6)
    optimizer.L2_is_weight_decay, optimizer.grad_clip = False, 0.0
    w[:] = 1.0
    optimizer(KEY, w, np.ones(1, np.float32))
    assert w == -0.5


def test_numbers_may_be_lists_of_the_values_of_each_step():
    values = [0.5, 0.25, 1.0]
    options = {"beta1": [0.5, 0.75, 0.875], "L2": [0.0, 0.1, 0.0], "grad_clip": [0.0, 2.0, 1.0]}
    optimizers = [module.Adam(list(values), **copy.deepcopy(options)) for module in (thinc, fastopt.thinc)]
    (theirs, _), (mine, _) = (run(optimizer, gradients(3)) for optimizer in optimizers)
    difference = tolerance(0.1 + CLIPPING + 5e-5, steps=3, rate=1.0)
    assert np.abs(mine - theirs).max() < difference
    assert [optimizer.keyed[KEY].param_groups[0]["betas"][0] for optimizer in optimizers[1:]] == [0.875]


def test_averages_are_those_of_thinc_and_can_be_used():
    thinc.fix_random_seed(0)
    model = thinc.chain(thinc.Relu(5), thinc.Linear())
    x, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    model.initialize(x, y)
    optimizer = fastopt.thinc.Adam(0.1)
    expected = {}
    for step in range(1, 6):
        train_once(model, optimizer, x, y)
        for key in optimizer.averages:
            node = next(node for node in model.walk() if node.id == key[0])
            before = expected.get(key, 0.0)
            expected[key] = before + (1 - (1 + step) / (10 + step)) * (node.get_param(key[1]) - before)
    for key, average in optimizer.averages.items():
        np.testing.assert_allclose(average, expected[key], rtol=1e-5)
    own = model.predict(x)
    with model.use_params(optimizer.averages):
        assert np.abs(model.predict(x) - own).max() > 1e-3
    assert same_bits(model.predict(x), own)


def test_averages_follow_an_array_whose_order_of_axes_changes():
    optimizer = fastopt.thinc.SGD(1.0, grad_clip=0.0)
    for order in "CF":
        optimizer(KEY, np.ones((2, 3), np.float32, order), np.ones((2, 3), np.float32))
        assert optimizer.averages[KEY] is optimizer.keyed[KEY].ema


class Elsewhere:
    """Looks like an array on a GPU."""

    shape, size, ndim = (3,), 3, 1
    __module__ = "cupy"
    __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (0, False), "version": 3}  # noqa: RUF012

    def __len__(self):
        return 3


def test_an_array_on_a_gpu_raises():
    with pytest.raises(TypeError, match=r"params must be a NumPy array, got cupy\.Elsewhere"):
        fastopt.thinc.Adam()(KEY, Elsewhere(), Elsewhere())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Adam", {"learn_rate": -1.0}, "lr must be a finite number >= 0, got -1.0"),
        ("Adam", {"beta1": 1.0}, r"betas\[0\] must be .*, got 1.0"),
        ("AdamW", {"grad_clip": -1.0}, "max_grad_norm must be a number > 0, got -1.0"),
        ("SGD", {"learn_rate": 0.1, "nesterov": True}, "nesterov must be False without a momentum"),
        ("Momentum", {"learn_rate": 0.1, "form": "new"}, "form must be 'classical' or 'ema', got 'new'"),
    ],
)
def test_values_are_checked_when_the_optimizer_is_made(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(fastopt.thinc, name)(**options)


# Models and configs


def train_once(model, optimizer, x, y):
    prediction, backprop = model.begin_update(x)
    loss = float(((prediction - y) ** 2).mean())
    backprop((prediction - y) / len(x))
    model.finish_update(optimizer)
    optimizer.step_schedules()
    return loss


def test_a_model_trains_as_with_thinc():
    """The losses of two copies agree, although 200 steps increase the rounding of weights: measured, to 1e-4 or less,
    where a unit of ReLU passes zero in one of them first."""
    thinc.fix_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (32, 8)).astype(np.float32), rng.normal(0, 1, (32, 2)).astype(np.float32)
    model = thinc.chain(thinc.Relu(16), thinc.Linear()).initialize(x, y)
    other = model.copy()
    optimizers = [module.Adam(1e-2, L2=1e-3, **EXACT_BETAS) for module in (thinc, fastopt.thinc)]
    losses = np.array(
        [[train_once(m, o, x, y) for m, o in zip((model, other), optimizers, strict=True)] for _ in range(200)]
    )
    assert losses[-1].max() < 0.6 * losses[0].min()
    np.testing.assert_allclose(losses[:, 1], losses[:, 0], rtol=0, atol=1e-3)


def test_entry_points():
    """`pip install` registers the names; in a source tree, `python setup.py -q egg_info` does."""
    found = {entry.name: entry for entry in entry_points(group="thinc_optimizers") if entry.name.startswith("fastopt.")}
    if not found:
        pytest.skip("fastopt is not installed")
    assert {name: entry.load() for name, entry in found.items()} == {
        f"fastopt.{name}.v1": getattr(fastopt.thinc, name) for name in NAMES
    }


CONFIG = """
[optimizer]
@optimizers = "fastopt.{name}.v1"
L2 = 0.01
grad_clip = 0.5
use_averages = false
L2_is_weight_decay = true

[optimizer.learn_rate]
@schedules = "warmup_linear.v1"
warmup_steps = 2
total_steps = 10
initial_rate = 0.5
"""


@pytest.mark.parametrize("name", NAMES)
def test_configs(name):
    if not any(entry.name == "fastopt.Adam.v1" for entry in entry_points(group="thinc_optimizers")):
        pytest.skip("fastopt is not installed")
    optimizer = thinc.registry.resolve(thinc.Config().from_str(CONFIG.format(name=name)))["optimizer"]
    assert isinstance(optimizer, (fastopt.thinc.Optimizer, thinc.Optimizer))
    w, rates = np.ones(3, np.float32), []
    for _ in range(4):
        optimizer(KEY, w, np.ones(3, np.float32))
        rates.append(optimizer.keyed[KEY].lr)
        optimizer.step_schedules()
    assert rates == pytest.approx([0.0, 0.25, 0.5, 0.4375])
    for wrong in ("use_averages = 3.5", "unknown = 1"):
        text = CONFIG.format(name=name).replace("use_averages = false", wrong)
        with pytest.raises(thinc.ConfigValidationError):
            thinc.registry.resolve(thinc.Config().from_str(text))
