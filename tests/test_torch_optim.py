"""The optimizers of `fastopt.torch` agree with those of ``torch.optim``, and with those of fastopt in every bit."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

import fastopt

torch = pytest.importorskip("torch")

from torch_models import (  # noqa: E402
    CLASSES,
    NAMES,
    ONE_OF_EACH,
    PEERS,
    VARIANTS,
    assert_params_agree,
    assert_params_equal,
    assert_states_equal,
    ids,
    loop,
    parameters,
    set_gradients,
    states_of,
)

import fastopt.torch  # noqa: E402

STEPS = 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=ids(VARIANTS))
def test_parameters_and_states_agree_with_torch_optim(name, options, dtype):
    """Some steps leave parameters out; one of three groups is added on the way."""
    results = []
    for make in (CLASSES[name], PEERS[name]):
        params = parameters(dtype)
        first, second, third = params[:3], params[3:6], params[6:]
        optimizer = make([{"params": first}, {"params": second, "lr": 2e-3}], **options)
        if name == "Adagrad":  # that of PyTorch 2.6 makes no states for a group that is added after the first step
            optimizer = make([{"params": first}, {"params": second, "lr": 2e-3}, {"params": third}], **options)
        loop(optimizer, params[:6], range(STEPS // 2), leaves_out=True)
        if name != "Adagrad":
            optimizer.add_param_group({"params": third, "weight_decay": 0.02})
        loop(optimizer, params, range(STEPS // 2, STEPS), leaves_out=True)
        results.append((params, optimizer))
    (mine, optimizer), (theirs, peer) = results
    assert_params_agree(mine, theirs)
    tolerance = 1e-4 if dtype is torch.float32 else 1e-12
    for own, other in zip(states_of(optimizer), states_of(peer), strict=True):
        assert set(own) == {state for state, value in other.items() if value is not None}
        for state, value in own.items():
            largest = other[state].abs().max().item() if value.numel() else 0
            torch.testing.assert_close(value, other[state], rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=ids(VARIANTS))
def test_bits_are_those_of_fastopt(name, options):
    common = {"max_grad_norm": 20.0, "ema_decay": 0.9}
    params = parameters()
    arrays = [param.detach().clone(memory_format=torch.preserve_format).numpy() for param in params]
    optimizer = CLASSES[name]([{"params": params[:4]}, {"params": params[4:], "lr": 2e-3}], **options, **common)
    numpy = getattr(fastopt, name)([{"params": arrays[:4]}, {"params": arrays[4:], "lr": 2e-3}], **options, **common)
    for step in range(20):
        set_gradients(params, step, {1, 6} if step % 3 == 0 else ())
        grads = [None if p.grad is None else p.grad.numpy() for p in params]
        optimizer.step()
        numpy.step([grads[:4], grads[4:]])
        assert optimizer.grad_norm == numpy.grad_norm
    for group, own in zip((params[:4], params[4:]), numpy.param_groups, strict=True):
        for i, param in enumerate(group):
            assert np.array_equal(param.detach().numpy(), own.tree.arrays[i])
            for state, values in own.state.items():
                assert np.array_equal(optimizer.state[param][state].numpy(), values[i])


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_those_of_torch_optim(name):
    """Ours may have arguments of newer versions of PyTorch, and have their own after all others."""
    own, other = (inspect.signature(cls).parameters for cls in (CLASSES[name], PEERS[name]))
    assert [argument for argument in own if argument in other] == list(other)
    for argument, parameter in other.items():
        assert (own[argument].default, own[argument].kind) == (parameter.default, parameter.kind)
    optimizers = [make(parameters()) for make in (CLASSES[name], PEERS[name])]
    assert set(optimizers[1].param_groups[0]) <= set(optimizers[0].param_groups[0])


@pytest.mark.parametrize("name", NAMES)
def test_implementations_of_torch_may_be_chosen(name):
    for argument in ("foreach", "fused"):
        if argument in inspect.signature(PEERS[name]).parameters:
            params = parameters()
            loop(CLASSES[name](params, **{argument: True}), params, range(2))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_named_parameters(momentum):
    model = torch.nn.Linear(3, 2)
    optimizer = fastopt.torch.SGD(model.named_parameters(), momentum=momentum)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_repr_lists_the_groups():
    text = repr(fastopt.torch.AdamW(parameters(), lr=0.5))
    assert text.startswith("AdamW (")
    assert "lr: 0.5" in text


# State


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=ids(VARIANTS))
def test_state_dict_continues_with_the_same_bits(name, options, tmp_path):
    params = parameters()
    optimizer = CLASSES[name](params, **options, ema_decay=0.9)
    loop(optimizer, params, range(7), leaves_out=True)
    torch.save({"params": [p.detach() for p in params], "optimizer": optimizer.state_dict()}, tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    others = [torch.nn.Parameter(param) for param in saved["params"]]
    other = CLASSES[name](others, lr=7.0, ema_decay=0.9)
    other.load_state_dict(saved["optimizer"])
    for own, its in ((optimizer, params), (other, others)):
        loop(own, its, range(7, 20), leaves_out=True)
    assert_params_equal(params, others)
    assert_states_equal(optimizer, other)


@pytest.mark.parametrize(("first", "second"), [(CLASSES, PEERS), (PEERS, CLASSES)], ids=["to torch", "from torch"])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=ids(VARIANTS))
def test_state_dict_continues_in_the_other_library(name, options, first, second):
    results = []
    for makes in ((PEERS, PEERS), (first, second)):
        params = parameters(torch.float64)
        optimizer = makes[0][name](params, **options)
        loop(optimizer, params, range(7), leaves_out=True)
        other = makes[1][name](params, lr=7.0)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        loop(other, params, range(7, 20), leaves_out=True)
        results.append(params)
    assert_params_agree(*results)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize(("name", "options"), ONE_OF_EACH, ids=ids(ONE_OF_EACH))
@pytest.mark.parametrize("steps", [0, 5])
def test_copies_continue_on_their_own(name, options, steps, copied):
    params = parameters()
    optimizer = CLASSES[name](params, **options, ema_decay=0.9, max_grad_norm=1.0, nonfinite="skip")
    loop(optimizer, params, range(steps), leaves_out=True)
    params[0].grad = torch.full_like(params[0], torch.nan)
    optimizer.step()
    others, other = copied((params, optimizer))
    before = [param.detach().clone() for param in others]
    loop(optimizer, params, range(steps, 9), leaves_out=True)
    assert_params_equal(before, others)
    loop(other, others, range(steps, 9), leaves_out=True)
    assert_params_equal(params, others)
    assert_states_equal(optimizer, other)
    assert optimizer.skipped == other.skipped == 1
    assert {key for key in vars(optimizer) if key[0] != "_"} == {key for key in vars(other) if key[0] != "_"}


@pytest.mark.parametrize(("name", "options"), ONE_OF_EACH, ids=ids(ONE_OF_EACH))
def test_parameters_without_gradients_have_the_states_of_torch(name, options):
    results = []
    for make in (CLASSES[name], PEERS[name]):
        params = parameters()
        optimizer = make(params, **options)
        with_states = [sorted(optimizer.state_dict()["state"])]
        for left_out in (range(8), range(1, 8), ()):
            set_gradients(params, 0, left_out)
            optimizer.step()
            with_states.append(sorted(optimizer.state_dict()["state"]))
        results.append((with_states, [own.get("step") for own in states_of(optimizer)]))
    assert results[0] == results[1]


def test_sgd_without_momentum_has_no_states():
    params = parameters()
    optimizer = fastopt.torch.SGD(params)
    loop(optimizer, params, range(2))
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_decay_of_a_loaded_state_is_that_of_torch(name):
    """An Adam becomes an AdamW with the state of one, and an AdamW stays one."""
    for source in ("Adam", "AdamW"):
        optimizer = CLASSES[name](parameters())
        optimizer.load_state_dict(CLASSES[source](parameters()).state_dict())
        assert optimizer.param_groups[0]["decoupled_weight_decay"] == ("AdamW" in (name, source))


@pytest.mark.parametrize("name", NAMES)
def test_state_of_an_older_torch(name):
    """Hyperparameters that did not exist get their defaults, and steps may be numbers."""
    params = parameters()
    optimizer = CLASSES[name](params)
    loop(optimizer, params, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        for argument in ("maximize", "foreach", "fused", "differentiable", "capturable", "decoupled_weight_decay"):
            group.pop(argument, None)
    for own in saved["state"].values():
        if "step" in own:
            own["step"] = own["step"].item()
    others = [torch.nn.Parameter(param.detach().clone(memory_format=torch.preserve_format)) for param in params]
    other = CLASSES[name](others)
    other.load_state_dict(saved)
    assert set(other.param_groups[0]) == set(optimizer.param_groups[0])
    loop(optimizer, params, range(3, 6))
    loop(other, others, range(3, 6))
    assert_params_equal(params, others)
