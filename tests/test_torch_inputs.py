"""The inputs of PyTorch's own tests of its optimizers, with our classes in place of PyTorch's."""

from __future__ import annotations

import copy
import inspect

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's inputs need expecttest")

from torch.testing._internal import common_optimizers  # noqa: E402
from torch_models import (  # noqa: E402
    CLASSES,
    NAMES,
    assert_params_agree,
    assert_params_equal,
    loop,
    parameters,
    set_gradients,
)

INFOS = {info.optim_cls.__name__: info for info in common_optimizers.optim_db}
DTYPES = [torch.float32, torch.float64]


def inputs_of(name, dtype):
    """Return PyTorch's keyword arguments for an optimizer on the CPU, with each implementation that may be chosen."""
    info = INFOS[name]
    result = []
    for each in info.optim_inputs_func(device="cpu", dtype=dtype):
        result.append((each.desc, each.kwargs))
        for flag in ("foreach", "fused"):
            supported = flag in inspect.signature(info.optim_cls).parameters
            has_tensor = any(isinstance(value, torch.Tensor) for value in each.kwargs.values())
            if supported and not (has_tensor and flag == "foreach"):  # PyTorch raises for these
                result.append((f"{each.desc}, {flag}", {**each.kwargs, flag: True}))
    return result


INPUTS = [
    pytest.param(
        *(name, dtype, desc, options),
        id=f"{name}-{dtype}-{desc}",
        marks=[pytest.mark.slow] if dtype is torch.float64 else [],
    )
    for name in NAMES
    for dtype in DTYPES
    for desc, options in inputs_of(name, dtype)
]

# PyTorch's rate in a tensor of float32 makes the arithmetic of a step that of float32 tensors
TENSOR_RATE = {"atol": 1e-6, "rtol": 1e-6}


@pytest.mark.parametrize(("name", "dtype", "desc", "options"), INPUTS)
def test_steps_agree(name, dtype, desc, options):
    """With groups, gradients that are missing, and a scheduler of those that PyTorch chooses for the optimizer."""
    schedulers = INFOS[name].scheduler_inputs
    results = []
    for make in (CLASSES[name], INFOS[name].optim_cls):
        params = parameters(dtype)
        groups = [{"params": params[:4]}, {"params": params[4:], "weight_decay": 0.05}]
        optimizer = make(groups, **copy.deepcopy(options))
        schedules = [scheduler(optimizer) for scheduler in schedulers[len(desc) % len(schedulers)]]
        for step in range(10):
            set_gradients(params, step, {step % 8} if step % 2 else ())
            optimizer.step()
            for schedule in schedules:
                schedule.step(*([1.0] if type(schedule).__name__ == "ReduceLROnPlateau" else []))
        results.append(params)
    if any(isinstance(value, torch.Tensor) for value in options.values()):
        torch.testing.assert_close(results[0], results[1], **TENSOR_RATE)
    else:
        assert_params_agree(*results)


@pytest.mark.parametrize(("name", "dtype", "desc", "options"), INPUTS)
def test_training_goes_in_the_right_direction(name, dtype, desc, options):
    """And a copy of the state after some steps, made by deepcopy, continues with the same bits."""
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 10, dtype=dtype)
    optimizer, x = CLASSES[name](model.parameters(), **copy.deepcopy(options)), torch.randn(5, dtype=dtype)

    def closure_of(optimizer, model):
        def closure():
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            return loss

        return closure

    first = closure_of(optimizer, model)().item()
    for _ in range(20):
        optimizer.step(closure_of(optimizer, model))
    other_model = copy.deepcopy(model)
    other = CLASSES[name](other_model.parameters(), **copy.deepcopy(options))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(20):
        optimizer.step(closure_of(optimizer, model))
        other.step(closure_of(other, other_model))
    assert_params_equal(model.parameters(), other_model.parameters())
    last = closure_of(optimizer, model)().item()
    assert last > first if options.get("maximize") else last < first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", ["no gradients", "zero gradients"])
def test_steps_that_change_nothing(name, kept):
    """Without gradients, or with zeros and no decay."""
    for _, options in inputs_of(name, torch.float32):
        if options.get("weight_decay") or (name == "AdamW" and kept == "zero gradients"):
            continue
        params = parameters()
        optimizer = CLASSES[name](params, **options)
        before = copy.deepcopy(params)
        for param in params:
            param.grad = torch.zeros_like(param) if kept == "zero gradients" else None
        optimizer.step()
        assert_params_equal(params, before)


# What PyTorch raises, and what we raise where it differs: a message of our own, or nothing.
SAYS = {
    "Tensor lr must be 1-element": r"lr must be a finite number >= 0, got tensor\(",
    "Invalid lr_decay value: -0.5": "lr_decay must be a finite number >= 0, got -0.5",
    "Invalid beta parameter at index 0: 1.0": r"betas\[0\] must be a number in \[0, 1\), got 1.0",
    "Invalid weight_decay value: -1": "weight_decay must be a finite number >= 0, got -1",
    "Invalid momentum value: -0.5": r"momentum must be a number in \[0, 1\), got -0.5",
    "Invalid momentum value: -1.0": r"momentum must be a number in \[0, 1\), got -1.0",
    # restrictions of implementations that we do not have: a tensor is its number
    "lr as a Tensor is not supported for capturable=False and foreach=True": None,
    "betas must be either both floats or both Tensors": None,
    r"betas\[0\] as a Tensor is not supported for capturable=False and foreach=True": None,
    r"betas\[1\] as a Tensor is not supported for capturable=False and foreach=True": None,
    r"Tensor betas\[0\] must be 1-element": r"betas\[0\] must be a number in \[0, 1\), got tensor\(",
    r"Tensor betas\[1\] must be 1-element": r"betas\[1\] must be a number in \[0, 1\), got tensor\(",
}
ERRORS = [
    (name, dtype, each)
    for name in NAMES
    for dtype in DTYPES
    for each in INFOS[name].optim_error_inputs_func(device="cpu", dtype=dtype)
]


@pytest.mark.parametrize(
    ("name", "dtype", "each"), ERRORS, ids=[f"{n}-{t}-{e.optimizer_error_input.desc}" for n, t, e in ERRORS]
)
def test_error_inputs(name, dtype, each):
    given = each.optimizer_error_input
    params = [torch.nn.Parameter(torch.randn(2, 3, dtype=dtype))] if given.params is None else given.params
    says = SAYS.get(each.error_regex, each.error_regex)
    assert each.error_on is common_optimizers.OptimizerErrorEnum.CONSTRUCTION_ERROR
    if says is None:
        loop(CLASSES[name](params, **given.kwargs), params, range(2))
        return
    with pytest.raises((each.error_type, TypeError) if says != each.error_regex else each.error_type, match=says):
        CLASSES[name](params, **given.kwargs)
