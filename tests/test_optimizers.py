"""Optimizers beside their formulas: structures of parameters and the options of a step."""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
import pytest
from cases import CASES, REALS, hard_numbers, layouts, same_bits, start_values

import fastopt
from fastopt import kernels, reference


@pytest.mark.parametrize("kind", layouts(40))
@pytest.mark.parametrize("case", [case for case in CASES if "max_grad_norm" not in case.common], ids=str)
def test_every_structure_has_the_same_bits(case, kind):
    """Only the norm depends on the structure, because its sum is formed tensor by tensor."""
    size = 4100
    make, read = layouts(size)[kind]
    start, grad = start_values(size, np.float32), hard_numbers(size, np.float32)
    plain, params = start.copy(), make(start)
    one, other = case.make(plain), case.make(params)
    for _ in range(3):
        grads = make(grad)
        one.step(grad.copy())
        other.step(grads)
        if case.common.get("zero_grads"):
            assert not read(grads).any()
    assert same_bits(read(params), plain)
    for name, state in other.state.items():
        assert type(state) is {"mapping": MappingProxyType, "list": tuple}.get(kind, type(params))
        assert same_bits(read(state), one.state[name])


def test_names_of_gradients_may_be_in_any_order():
    params = {"a": np.zeros(2), "b": np.zeros(3)}
    fastopt.SGD(params, lr=1.0).step({"b": np.ones(3), "a": np.full(2, 2.0)})
    assert params["a"].tolist() == [-2, -2]
    assert params["b"].tolist() == [-1, -1, -1]


def test_clipping_uses_the_norm_of_all_unscaled_gradients():
    params = [np.zeros(2), np.zeros(1)]
    grads = [np.array([8.0, 16.0]), np.array([16.0])]
    optimizer = fastopt.SGD(params, lr=1.0, grad_scale=8.0, max_grad_norm=1.5)
    optimizer.step(grads)
    assert optimizer.grad_norm == 3.0
    np.testing.assert_allclose(np.concatenate(params), [-0.5, -1.0, -1.0], rtol=1e-6)
    assert grads[0].tolist() == [8, 16]  # the gradient is never rewritten
    optimizer.step([np.array([0.8, 0.0]), np.zeros(1)])
    assert optimizer.grad_norm == 0.1
    np.testing.assert_allclose(params[0], [-0.6, -1.0], rtol=1e-6)


def test_norm_is_computed_only_on_request():
    optimizer = fastopt.SGD(np.zeros(2))
    optimizer.step(np.ones(2))
    assert optimizer.grad_norm is None
    optimizer = fastopt.SGD(np.zeros(2), max_grad_norm=math.inf)
    optimizer.step(np.array([3.0, 4.0]))
    assert optimizer.grad_norm == 5.0


def test_grad_scale_divides_the_gradients_and_can_be_set():
    param = np.zeros(1)
    optimizer = fastopt.SGD(param, lr=1.0, grad_scale=4)
    optimizer.step(np.array([4.0]))
    assert param[0] == -1
    optimizer.grad_scale = 8
    assert optimizer.grad_scale == 8.0
    optimizer.step(np.array([4.0]))
    assert param[0] == -1.5
    with pytest.raises(ValueError, match="grad_scale must be a finite number > 0, got 0"):
        optimizer.grad_scale = 0
    assert optimizer.grad_scale == 8.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_skipped_step_changes_only_its_counter(bad):
    param, grad = np.ones((2, 3)), np.ones((2, 3))
    optimizer = fastopt.Adam({"w": param}, nonfinite="skip", ema_decay=0.5, zero_grads=True)
    optimizer.step({"w": grad})
    before = [x.tobytes() for x in (param, *[state["w"] for state in optimizer.state.values()])]
    grad[1, 2] = bad
    optimizer.step({"w": grad})
    assert [x.tobytes() for x in (param, *[state["w"] for state in optimizer.state.values()])] == before
    assert (optimizer.steps, optimizer.skipped) == (1, 1)
    assert not math.isfinite(optimizer.grad_norm)
    assert not grad.any()  # otherwise the next gradients would be added to a NaN
    optimizer.step({"w": grad})
    assert (optimizer.steps, optimizer.skipped) == (2, 1)


def test_finite_gradients_with_a_norm_beyond_float64_are_not_skipped():
    param = np.zeros(2)
    optimizer = fastopt.SGD(param, lr=1e-200, nonfinite="skip")
    optimizer.step(np.full(2, 1e200))
    assert (optimizer.steps, optimizer.skipped, optimizer.grad_norm) == (1, 0, math.inf)
    assert param.tolist() == [-1, -1]


def test_infinite_parameters_stay_infinite():
    """An option that is off removes its term instead of multiplying it by zero, which would give NaN."""
    for cls in (fastopt.SGD, fastopt.Momentum, fastopt.RMSprop, fastopt.Adagrad, fastopt.Adam, fastopt.AdamW):
        param = np.array([-np.inf, 1, np.inf], np.float32)
        optimizer = cls(param, ema_decay=0.5, max_grad_norm=1.0)
        optimizer.step(np.array([1, 0, -1], np.float32))
        assert param[[0, 2]].tolist() == optimizer.ema[[0, 2]].tolist() == [-np.inf, np.inf]
        assert param[1] == pytest.approx(1, abs=0.01)
        assert all(np.isfinite(state).all() for name, state in optimizer.state.items() if name != "ema")
    param = np.zeros(1)
    fastopt.SGD(param, momentum=0.9).step(np.array([np.inf]))
    assert param[0] == -np.inf


def test_average_with_decay_0_is_the_parameter():
    param = np.ones(3, np.float32)
    optimizer = fastopt.SGD({"w": param}, lr=0.0, ema_decay=0.0)
    optimizer.ema["w"][...] = [1e8, np.inf, -3]
    optimizer.step({"w": param.copy()})
    assert optimizer.ema["w"].tolist() == [1, 1, 1]
    with pytest.raises(TypeError):
        optimizer.ema["w"] = np.ones(3, np.float32)


def test_option_that_rounds_to_zero_is_off():
    for module in (kernels, reference):
        param = np.array([np.inf, -0.0], np.float32)
        module.sgd(param, np.array([1, -0.0], np.float32), step=1, lr=0.5, weight_decay=1e-60)
        assert param.tolist() == [np.inf, 0]


def test_average_is_not_biased():
    """Compare with float64 over four time constants: two rounded products would be off by 3e-4."""
    rng = np.random.default_rng(0)
    param = np.ones(64, np.float32)
    optimizer = fastopt.SGD(param, lr=0.0, ema_decay=0.9999)
    wanted, grad = param.astype(np.float64), np.zeros_like(param)
    for _ in range(40_000):
        param[...] = 1 + rng.uniform(-0.2, 0.2, 64)
        optimizer.step(grad)
        wanted += 1e-4 * (param - wanted)
    assert np.abs(optimizer.ema / wanted - 1).max() < 2e-5


def test_norm_beyond_float64_raises_only_if_it_scales():
    """The gradients are finite, but the factor that clips them would be zero."""
    for nonfinite in ("propagate", "skip", "raise"):
        param = np.zeros(2)
        optimizer = fastopt.SGD(param, max_grad_norm=1.0, nonfinite=nonfinite)
        with pytest.raises(OverflowError, match=r"^the norm of grads must be within float64"):
            optimizer.step(np.full(2, 1e200))
        assert (optimizer.steps, optimizer.skipped, param.tolist()) == (0, 0, [0, 0])
        optimizer = fastopt.SGD(param, lr=1e-200, max_grad_norm=math.inf, nonfinite=nonfinite)
        optimizer.step(np.full(2, 1e200))
        assert (optimizer.steps, optimizer.grad_norm, param.tolist()) == (1, math.inf, [-1, -1])


def test_infinite_max_grad_norm_scales_nothing():
    """With an infinite max_grad_norm a NaN stays alone; with a finite one it reaches all elements through the norm."""
    for max_norm, good in ((math.inf, -1.0), (1.0, math.nan)):
        param = np.zeros(2, np.float32)
        optimizer = fastopt.SGD(param, lr=1.0, max_grad_norm=max_norm)
        optimizer.step(np.array([1, np.nan], np.float32))
        np.testing.assert_array_equal(param, np.array([good, np.nan], np.float32))
        assert math.isnan(optimizer.grad_norm)
        assert optimizer.steps == 1


def test_average_starts_as_a_copy_of_the_parameters():
    params = fastopt.Flat({"w": np.full(2, 8.0)})
    optimizer = fastopt.SGD(params, lr=1.0, ema_decay=0.75)
    assert isinstance(optimizer.ema, fastopt.Flat)
    assert optimizer.ema["w"].tolist() == [8, 8]
    grads = params.zeros_like()
    grads["w"] = 4
    optimizer.step(grads)
    assert params["w"].tolist() == [4, 4]
    assert optimizer.ema["w"].tolist() == [7, 7]
    assert fastopt.SGD(params).ema is None


@pytest.mark.parametrize("amsgrad", [False, True])
def test_epsilon_hat_is_added_before_the_bias_correction(amsgrad):
    """Kingma & Ba, before section 2.1, and with AMSGrad as in Keras; gradients are not large beside epsilon."""
    rng, lr, beta1, beta2, eps = np.random.default_rng(0), 0.01, 0.9, 0.999, 1e-2
    start, m, v, largest = rng.normal(size=100), 0.0, 0.0, 0.0
    param, wanted = start.copy(), start.copy()
    optimizer = fastopt.Adam(param, lr, (beta1, beta2), eps, amsgrad=amsgrad, eps_hat=True)
    for step in range(1, 31):
        grad = rng.normal(0, 0.1 / step, 100)
        optimizer.step(grad)
        m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
        largest = np.maximum(largest, v) if amsgrad else v
        wanted -= lr * math.sqrt(1 - beta2**step) / (1 - beta1**step) * m / (np.sqrt(largest) + eps)
    np.testing.assert_allclose(param, wanted, rtol=1e-13)
    assert np.abs(param - start).max() > 0.01


def test_epsilon_hat_is_the_formula_of_scikit_learn():
    peer = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    rng, options = np.random.default_rng(0), {"betas": (0.8, 0.95), "eps": 1e-2}
    param = rng.normal(size=100)
    theirs = param.copy()
    optimizer = fastopt.Adam(param, 0.01, eps_hat=True, **options)
    other = peer.AdamOptimizer([theirs], 0.01, *options["betas"], options["eps"])
    for _ in range(30):
        grad = rng.normal(0, 0.1, 100)
        optimizer.step(grad)
        other.update_params([theirs], [grad])
    np.testing.assert_allclose(param, theirs, rtol=1e-13)


def test_lr_decay_is_inverse_time_decay_of_the_rate():
    """The rate of a step also decays the parameters, so the two are interchangeable."""
    start, options = start_values(100, np.float64), {"weight_decay": 0.1, "decoupled_weight_decay": True}
    one, other = start.copy(), start.copy()
    decaying = fastopt.Adagrad(one, lr=0.5, lr_decay=0.25, **options)
    scheduled = fastopt.Adagrad(other, lr=fastopt.schedules.InverseTimeDecay(0.5, 0.25), **options)
    for step in range(5):
        for optimizer in (decaying, scheduled):
            optimizer.step(hard_numbers(100, np.float64, step))
    assert same_bits(one, other)
    assert (decaying.lr, scheduled.lr) == (0.5, 0.5 / 2.25)


def test_sum_of_adagrad_starts_with_the_value_of_its_group(tmp_path):
    params = [{"params": np.zeros(2), "initial_accumulator_value": 0.25}, {"params": {"w": np.zeros((1, 3))}}]
    optimizer = fastopt.Adagrad(params, initial_accumulator_value=2.0, state_dir=tmp_path)
    first, second = optimizer.state
    assert first["sum"].tolist() == np.load(tmp_path / "sum[0].npy").tolist() == [0.25, 0.25]
    assert second["sum"]["w"].tolist() == np.load(tmp_path / "sum[1]['w'].npy").tolist() == [[2, 2, 2]]
    optimizer.step([np.ones(2), None])
    optimizer.add_param_group({"params": np.zeros(1), "initial_accumulator_value": 0.5})
    assert [optimizer.state[0]["sum"].tolist(), optimizer.state[2]["sum"].tolist()] == [[1.25, 1.25], [0.5]]


def test_repr_shows_hyperparameters_and_steps():
    text = repr(fastopt.Adam(np.zeros(1), lr=0.5))
    assert text.startswith("Adam(lr=0.5, betas=(0.9, 0.999), eps=1e-08")
    assert text.endswith("steps=0)")


@pytest.mark.parametrize("steps", [30, 31, 32])
@pytest.mark.parametrize("real", REALS, ids=str)
def test_states_and_decaying_parameters_are_flushed_in_every_32nd_step(real, steps):
    state_bound, scaled_bound = (2.0**-121, 2.0**-95) if real is np.float32 else (2.0**-1017, 2.0**-991)

    def start(bound):  # which the decay halves, exactly
        return np.array([2 * bound, np.nextafter(real(2 * bound), real(0))], real)

    kept = [True, steps != 31]
    adam, sgd, fixed = start(1.0), start(state_bound), start(state_bound)
    optimizers = [
        fastopt.Adam(adam, lr=0.0, betas=(0.5, 0.5)),
        fastopt.SGD(sgd, lr=0.5, weight_decay=1.0, decoupled_weight_decay=True),
        fastopt.SGD(fixed, lr=0.5),
    ]
    for optimizer in optimizers:
        optimizer.load_state_dict({**optimizer.state_dict(), "steps": steps})
    moments = optimizers[0].state
    moments["exp_avg"][...], moments["exp_avg_sq"][...] = start(scaled_bound), start(state_bound)
    for optimizer in optimizers:
        optimizer.step(np.zeros(2, real))
    assert (moments["exp_avg"] == start(scaled_bound) / 2 * kept).all()
    assert (moments["exp_avg_sq"] == start(state_bound) / 2 * kept).all()
    assert (sgd == start(state_bound) / 2 * kept).all()
    assert (fixed == start(state_bound)).all()  # it does not decay


@pytest.mark.parametrize("real", REALS, ids=str)
def test_gradients_that_are_squared_are_flushed_in_every_step(real):
    bound = real(2.0**-53 if real is np.float32 else 2.0**-501)
    optimizer = fastopt.Adam(np.zeros(2, real), betas=(0.5, 0.5))
    optimizer.step(np.array([bound, np.nextafter(bound, real(0))]))
    assert optimizer.state["exp_avg"].tolist() == [bound / 2, 0]


# Nested containers


def nested(x):
    """Return a nested container of copies of parts of an array, and the function that joins them again."""
    a, b, c, d = (part.copy() for part in np.split(x, [100, 1000, 4000]))
    tree = {"encoder": [a, {"w": b.reshape(-1, 2)}], "empty": [], "head": (c, (d,))}

    def join(t):
        (a, inner), (c, (d,)) = t["encoder"], t["head"]
        return np.concatenate([a, inner["w"].ravel(), c, d])

    return tree, join


@pytest.mark.parametrize("case", [case for case in CASES if "max_grad_norm" not in case.common], ids=str)
def test_nested_containers_have_the_same_bits(case):
    start, grad = start_values(4100, np.float32), hard_numbers(4100, np.float32)
    plain, (params, join) = start.copy(), nested(start)
    one, other = case.make(plain), case.make(params)
    for _ in range(3):
        one.step(grad.copy())
        other.step(nested(grad)[0])
    assert same_bits(join(params), plain)
    for name, state in other.state.items():
        assert same_bits(join(state), one.state[name])


def test_states_have_the_structure_of_nested_parameters():
    params = {"a": [np.ones(2), (np.ones((2, 3)), fastopt.Flat({"w": 4}))], "b": {}}
    optimizer = fastopt.AdamW(params, ema_decay=0.5)
    for state in (*optimizer.state.values(), optimizer.ema):
        first, (second, flat) = state["a"]
        assert (first.shape, second.shape, flat["w"].shape) == ((2,), (2, 3), (4,))
        assert isinstance(flat, fastopt.Flat)
        assert dict(state["b"]) == {}
        with pytest.raises(TypeError):
            state["a"] = first
    assert optimizer.ema["a"][1][0].tolist() == [[1] * 3] * 2
    assert optimizer.execution_info()["tensors"] == 3


def test_gradients_may_mix_lists_and_tuples():
    params = [np.zeros(1), (np.zeros(1), [np.zeros(1)])]
    fastopt.SGD(params, lr=1.0).step((np.ones(1), [np.ones(1), (np.ones(1),)]))
    assert [params[0][0], params[1][0][0], params[1][1][0][0]] == [-1, -1, -1]


def test_groups_may_hold_nested_containers():
    params = [{"params": {"w": [np.zeros(1)]}, "lr": 1.0}, {"params": (np.zeros(1), {"b": np.zeros(1)}), "lr": 2.0}]
    fastopt.SGD(params).step([{"w": [np.ones(1)]}, (np.ones(1), {"b": np.ones(1)})])
    assert params[0]["params"]["w"][0].tolist() == [-1]
    assert [params[1]["params"][0][0], params[1]["params"][1]["b"][0]] == [-2, -2]


def test_files_of_nested_states_are_named_by_their_paths(tmp_path):
    fastopt.Momentum({"a": [np.ones(2), {"x/y": np.ones(1)}]}, state_dir=tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["momentum_buffer['a'][0].npy", "momentum_buffer['a'][1]['x%2Fy'].npy"]


def test_max_grad_norm_can_be_set_between_steps():
    params = np.zeros(1)
    optimizer = fastopt.SGD(params, lr=1.0)
    for max_norm, norm in ((2.0, 4.0), (None, None), (1.0, 4.0)):
        optimizer.max_grad_norm = max_norm
        optimizer.step(np.full(1, 4.0))
        assert (optimizer.max_grad_norm, optimizer.grad_norm) == (max_norm, norm)
    assert params == pytest.approx(-7.0, rel=1e-6)
    optimizer.add_param_group({"params": np.zeros(1)})
    assert optimizer.max_grad_norm == 1.0


def test_ema_decay_can_be_a_function_of_the_step():
    params, constant = (np.arange(5.0) for _ in range(2))
    optimizer = fastopt.SGD(params, lr=0.5, ema_decay=lambda steps: steps / 4)
    ema = constant.copy()
    for step in range(4):
        grad = np.full(5, 1.0 + step)
        other = fastopt.SGD(constant, lr=0.5, ema_decay=step / 4)
        other.ema[...] = ema
        other.step(grad)
        ema = other.ema
        optimizer.step(grad)
        assert same_bits(optimizer.ema, ema)
