"""`fastopt.torch` notices whatever changes between two steps, and does what ``torch.optim`` does then."""

from __future__ import annotations

import copy
from collections import defaultdict

import pytest

torch = pytest.importorskip("torch")

from torch_models import (  # noqa: E402
    CLASSES,
    ONE_OF_EACH,
    PEERS,
    assert_params_agree,
    assert_params_equal,
    ids,
    loop,
    parameters,
    set_gradients,
    states_of,
)

import fastopt.torch  # noqa: E402

# Changes of parameters and of ``optimizer.state``, each a function of the optimizer and its parameters


def other_memory(optimizer, params):
    params[0].data = params[0].data.clone()


def other_strides(optimizer, params):
    params[7].data = params[7].data.t().contiguous().t() if params[7].is_contiguous() else params[7].data.contiguous()


def transposed_in_the_same_memory(optimizer, params):
    params[6].data = params[6].data.transpose(2, 3)


def fewer_rows_in_the_same_memory(optimizer, params):
    params[1].data = params[1].data[:100]
    for state in optimizer.state[params[1]].values():
        if state.ndim:
            state.data = state.data[:100].clone()


def another_parameter(optimizer, params):
    params[1] = optimizer.param_groups[0]["params"][1] = torch.nn.Parameter(torch.zeros(300, dtype=params[0].dtype))


def another_list(optimizer, params):
    optimizer.param_groups[0]["params"] = list(params)


def another_group(optimizer, params):
    params.append(torch.nn.Parameter(torch.ones(5, dtype=params[0].dtype)))
    optimizer.add_param_group({"params": params[-1], "lr": 0.1})


def groups_in_another_list(optimizer, params):
    optimizer.param_groups = [{**optimizer.param_groups[0], "lr": 0.1}]


def another_lr(optimizer, params):
    optimizer.param_groups[0]["lr"] = 0.1


def lr_as_a_tensor_that_changes(optimizer, params):
    optimizer.param_groups[0]["lr"] = torch.tensor(0.1, dtype=torch.float64)
    set_gradients(params, 100)
    optimizer.step()
    optimizer.param_groups[0]["lr"].fill_(0.2)


def maximizes(optimizer, params):
    optimizer.param_groups[0]["maximize"] = True


def no_state(optimizer, params):
    optimizer.state = defaultdict(dict)


def cleared_state(optimizer, params):
    optimizer.state.clear()


def no_entry(optimizer, params):
    del optimizer.state[params[0]]


def another_entry(optimizer, params):
    optimizer.state[params[0]] = copy.deepcopy(optimizer.state[params[1]])
    for name, state in optimizer.state[params[0]].items():
        if state.ndim:
            optimizer.state[params[0]][name] = torch.ones_like(params[0])


def another_tensor(optimizer, params):
    for name, state in optimizer.state[params[0]].items():
        if state.ndim:
            optimizer.state[params[0]][name] = torch.ones_like(params[0])


def state_in_other_memory(optimizer, params):
    for state in optimizer.state[params[0]].values():
        if state.ndim:
            state.data = torch.ones_like(state)


def state_in_place(optimizer, params):
    for state in optimizer.state[params[0]].values():
        if state.ndim:
            state.mul_(0.5)


def steps_in_place(optimizer, params):
    for own in optimizer.state.values():
        if "step" in own:
            own["step"].add_(5)


def loaded(optimizer, params):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def swapped(optimizer, params):
    """As ``Module.to`` does if ``torch.__future__.set_swap_module_params_on_conversion`` is set."""
    other = torch.nn.Parameter(params[0].detach().clone())
    other.grad, params[0].grad = params[0].grad, None
    torch.utils.swap_tensors(params[0], other)


CHANGES = [
    other_memory,
    other_strides,
    transposed_in_the_same_memory,
    fewer_rows_in_the_same_memory,
    another_parameter,
    another_list,
    another_group,
    groups_in_another_list,
    another_lr,
    lr_as_a_tensor_that_changes,
    maximizes,
    no_state,
    cleared_state,
    no_entry,
    another_entry,
    another_tensor,
    state_in_other_memory,
    state_in_place,
    steps_in_place,
    loaded,
    swapped,
]
DIFFERENT = {  # from torch.optim, whose Adagrad makes its states in the constructor only
    "Adagrad": [another_parameter, another_group, groups_in_another_list, no_state, cleared_state, no_entry]
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize(("name", "options"), ONE_OF_EACH, ids=ids(ONE_OF_EACH))
def test_changes_have_the_effect_that_they_have_in_torch_optim(name, options, change):
    if change in DIFFERENT.get(name, []):
        pytest.skip("torch.optim raises KeyError")
    results = []
    for make in (CLASSES[name], PEERS[name]):
        params = parameters(torch.float64)
        optimizer = make(params, **options)
        loop(optimizer, params, range(5), leaves_out=True)
        change(optimizer, params)
        loop(optimizer, params, range(5, 10), leaves_out=True)
        results.append((params, optimizer))
    (mine, optimizer), (theirs, peer) = results
    assert_params_agree(mine, theirs)
    for own, other in zip(states_of(optimizer), states_of(peer), strict=True):
        assert set(own) == set(other)
        for state, value in own.items():
            torch.testing.assert_close(value, other[state], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("change", [c for c in DIFFERENT["Adagrad"] if c is not another_group])
def test_adagrad_makes_states_that_are_missing(change):
    params = parameters()
    optimizer = fastopt.torch.Adagrad(params, initial_accumulator_value=0.5)
    loop(optimizer, params, range(3))
    change(optimizer, params)
    set_gradients(params, 3)
    optimizer.step()
    changed = params[1 if change is another_parameter else 0]
    assert optimizer.state[changed]["step"] == (4 if change is groups_in_another_list else 1)


def test_memory_format_and_dtype_of_a_model_change():
    results = []
    for make in (CLASSES["Adam"], PEERS["Adam"]):
        torch.manual_seed(0)
        model = torch.nn.Conv2d(3, 8, 3)
        optimizer, x = make(model.parameters()), torch.randn(2, 3, 6, 6)
        for memory_format in (torch.contiguous_format, torch.channels_last, torch.contiguous_format):
            model.to(memory_format=memory_format)
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        results.append(model)
    assert_params_agree(results[0].parameters(), results[1].parameters())
    model = results[0].double()  # whose states torch.optim would not convert
    optimizer = CLASSES["Adam"](model.parameters())
    model(x.double()).sum().backward()
    optimizer.step()
    model.float()
    model.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    assert optimizer.state[model.weight]["exp_avg"].dtype is torch.float32
    assert optimizer.state[model.weight]["step"] == 2


def test_parameters_that_are_loaded_by_assignment():
    results = []
    for make in (CLASSES["AdamW"], PEERS["AdamW"]):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 4)
        saved = {name: tensor + 1 for name, tensor in model.state_dict().items()}
        optimizer = make(model.parameters())
        model(torch.ones(5)).square().sum().backward()
        optimizer.step()
        model.load_state_dict(saved, assign=True)  # the model has other parameters: those of the optimizer are stale
        model(torch.ones(5)).square().sum().backward()
        optimizer.step()
        results.append([*model.parameters(), *optimizer.param_groups[0]["params"]])
    assert_params_agree(*results)


@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_momentum_may_begin_later(dampening):
    results = []
    for make, extra in ((CLASSES["SGD"], {"ema_decay": 0.9}), (PEERS["SGD"], {})):
        params = parameters(torch.float64)
        optimizer = make(params, **extra)
        for momentum in (0.0, 0.9, 0.0, 0.5):
            optimizer.param_groups[0].update(momentum=momentum, dampening=dampening if momentum else 0.0)
            loop(optimizer, params, range(2))
        results.append(params)
    assert_params_agree(*results)


def test_a_hyperparameter_out_of_range_changes_nothing():
    params = parameters()
    optimizer = fastopt.torch.Adam([{"params": params[:4]}, {"params": params[4:]}])
    loop(optimizer, params, range(2))
    before = copy.deepcopy((params, optimizer.state_dict()))
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.param_groups[1]["betas"] = (0.5, 1.0)
    with pytest.raises(ValueError, match=r"params\[1\]\['betas'\]\[1\] must be a number in \[0, 1\), got 1.0"):
        optimizer.step()
    assert_params_equal(params, before[0])
    optimizer.param_groups[1]["betas"] = (0.9, 0.999)
    reference = fastopt.torch.Adam([{"params": before[0][:4], "lr": 0.5}, {"params": before[0][4:]}])
    reference.load_state_dict(before[1])
    reference.param_groups[0]["lr"] = 0.5
    loop(optimizer, params, range(2, 4))
    loop(reference, before[0], range(2, 4))
    assert_params_equal(params, before[0])


def test_counts_of_skipped_steps_outlast_changes():
    params = parameters()
    optimizer = fastopt.torch.Adam(params, nonfinite="skip")
    for change in (other_memory, loaded, another_group):
        params[0].grad = torch.full_like(params[0], torch.inf)
        optimizer.step()
        change(optimizer, params)
    assert optimizer.skipped == 3
