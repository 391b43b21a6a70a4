"""Arrays whose axes are in any order in memory, gradients that are converted, and containers that change.

What is refused is in ``test_refusals``.
"""

from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest
from cases import CASES, Reference, hard_numbers, same_bits, start_values

import fastopt
from fastopt._util.arrays import in_memory_order

SHAPE = (4, 5, 3, 7)
ORDERS = [(3, 2, 1, 0), (0, 2, 3, 1), (1, 0, 3, 2)]  # Fortran, channels last, and another one
SUFFIXES = [".npz", ".safetensors"]


def laid_out(array, order):
    """Return a copy whose axes have an order in memory: the last one is contiguous."""
    inverse = np.argsort(order)
    return np.ascontiguousarray(array.transpose(order)).transpose(inverse)


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_axes_in_any_order_have_the_bits_of_the_reference(case, order):
    size = int(np.prod(SHAPE))
    param = laid_out(start_values(size, np.float32).reshape(SHAPE), order)
    wanted, optimizer = Reference(case, [param]), case.make({"w": param})
    for step in range(5):
        grad = laid_out(hard_numbers(size, np.float32, step).reshape(SHAPE), order)
        wanted.step([grad.copy("K")])
        optimizer.step({"w": grad})
        assert wanted.grad_norm in (None, optimizer.grad_norm)
    assert same_bits(param, wanted.tensors[0]["param"])
    for name, state in optimizer.state.items():
        assert state["w"].strides == param.strides
        assert same_bits(state["w"], wanted.tensors[0][name])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_state_can_be_loaded_into_another_order(suffix, tmp_path):
    """A file has the axes in the order of the shape; early stopping and find_lr copy in memory order."""
    start, file = np.arange(24.0).reshape(2, 3, 4), tmp_path / f"run{suffix}"
    params = [start.copy(), laid_out(start, (1, 0, 2))]
    optimizers = [fastopt.Adam([param], lr=0.5, ema_decay=0.5) for param in params]
    stopping = [fastopt.EarlyStopping() for _ in params]
    for optimizer, param, early in zip(optimizers, params, stopping, strict=True):
        grad = np.empty_like(param)
        grad[...] = np.sin(start)
        optimizer.step([grad])
        early.update(1.0, [param])
    assert same_bits(*params)
    fastopt.save(file, params=[params[1]], optimizer=optimizers[1], early_stopping=stopping[1])
    for optimizer, param, early in zip(optimizers, params, stopping, strict=True):
        trained = param.copy()
        fastopt.find_lr(
            lambda i, o=optimizer, p=param: o.step([np.copyto(g := np.empty_like(p), i) or g]) or 1.0,
            optimizer,
            steps=3,
        )
        assert same_bits(param, trained)
        param[...], optimizer.state["exp_avg"][0][...] = 0, 0
        fastopt.load(file, params=[param], optimizer=optimizer, early_stopping=early)
        assert same_bits(param, trained)
        assert same_bits(optimizer.state["exp_avg"][0], optimizers[1].state["exp_avg"][0])
        param[...] = 0
        early.restore([param])
        assert same_bits(param, trained)


def test_mapped_states_have_the_layout_of_their_parameter(tmp_path):
    param = np.asfortranarray(np.ones((3, 5)))
    optimizer = fastopt.Adam(param, lr=0.5, state_dir=tmp_path)
    optimizer.step(np.asfortranarray(np.arange(15.0).reshape(3, 5)))
    assert optimizer.state["exp_avg"].strides == param.strides
    assert np.load(tmp_path / "exp_avg.npy").shape == (5, 3)  # the file has the axes in the order of memory


def test_axes_of_one_element_do_not_matter():
    param, other = np.zeros((4, 1, 3)), np.zeros((4, 1, 3))
    grad = np.arange(12.0).reshape(4, 3)[:, None, :]
    assert grad.strides != param.strides
    fastopt.SGD(param, lr=1.0).step(grad)
    fastopt.SGD(other.reshape(4, 3)[:, None, :], lr=1.0).step(grad.copy())
    assert same_bits(param, 0.0 - grad)
    assert same_bits(other, 0.0 - grad)


def test_accumulated_gradients_have_the_layout_of_their_parameter():
    param = np.asfortranarray(np.zeros((3, 5)))
    optimizer, grad = fastopt.SGD(param, lr=1.0), np.arange(15.0).reshape(3, 5)
    for _ in range(2):
        optimizer.accumulate(np.asfortranarray(grad))
    optimizer.step()
    assert same_bits(param, 0.0 - grad)


def test_nonfinite_element_is_found_in_any_order():
    param = laid_out(np.ones((2, 3, 4)), (2, 0, 1))
    grad = np.ones_like(param)
    grad[1, 2, 3] = np.inf
    with pytest.raises(FloatingPointError, match=r"^grads must be finite, got inf at index \(1, 2, 3\)$"):
        fastopt.SGD(param, nonfinite="raise").step(grad)


# Converted gradients


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("real", [np.float32, np.float64], ids=str)
def test_gradients_are_converted_to_their_parameters(real, fortran):
    values = np.arange(12).reshape(3, 4)
    gradients = {
        "float64": values.astype(np.float64),
        "float32": values.astype(np.float32),
        "float16": values.astype(np.float16),
        "longdouble": values.astype(np.longdouble),
        "int64": values,
        "uint8": values.astype(np.uint8),
        "Fortran": np.asfortranarray(values.astype(real)),
        "strided": np.repeat(values.astype(real), 2, axis=1)[:, ::2],
        "reversed": values.astype(real)[::-1, ::-1][::-1, ::-1],
        "swapped": values.astype(np.dtype(real).newbyteorder()),
        "list": values.tolist(),
        "read-only": np.broadcast_to(values, (3, 4)),
    }
    for name, grad in gradients.items():
        param = np.zeros((3, 4), real, order="F" if fortran else "C")
        optimizer = fastopt.SGD([param], lr=1.0, convert_grads=True)
        for _ in range(2):
            optimizer.step([grad])
        optimizer.accumulate([grad])
        optimizer.step()
        assert (param == -3 * values).all(), name


def test_converted_gradients_are_set_to_zero_and_checked():
    param, grad = np.zeros(3, np.float32), np.full(3, 1e300)
    optimizer = fastopt.SGD(param, convert_grads=True, zero_grads=True, nonfinite="skip")
    optimizer.step(grad)  # beyond float32
    assert (optimizer.skipped, *grad, *param) == (1, 0, 0, 0, 0, 0, 0)
    grad[:] = 0.5
    optimizer.step(grad)
    assert (optimizer.steps, *grad) == (1, 0, 0, 0)
    grad[:] = 0.5
    optimizer.accumulate(grad)
    assert (grad == 0).all()


def test_gradient_that_fits_is_not_copied():
    param, grad = np.zeros(3), np.ones(3)
    optimizer = fastopt.SGD(param, lr=1.0, convert_grads=True, zero_grads=True)
    optimizer.step(grad)
    assert (grad == 0).all()
    assert (param == -1).all()
    with pytest.raises(ValueError, match=r"^grads and params overlap in memory$"):
        optimizer.step(param)


# Containers that change

REPLACED = r"\['w'\] must be the object that the optimizer was made with, got another one: write into the array "


class Named(dict):
    """A subclass, for which look-ups take another way."""


class Arrays(list):
    """A subclass, for which look-ups take another way."""


KINDS = {
    "dict": (lambda: {"w": np.ones(2), "b": np.ones(1)}, lambda p: p, "params"),
    "dict subclass": (lambda: Named(w=np.ones(2), b=np.ones(1)), lambda p: p, "params"),
    "OrderedDict": (lambda: OrderedDict(w=np.ones(2), b=np.ones(1)), lambda p: p, "params"),
    "nested": (lambda: {"layers": ({"w": np.ones(2)},)}, lambda p: p["layers"][0], r"params\['layers'\]\[0\]"),
    "group": (lambda: [{"params": {"w": np.ones(2)}}], lambda p: p[0]["params"], r"params\[0\]"),
}


@pytest.mark.parametrize("call", [fastopt.SGD.step, fastopt.SGD.accumulate])
@pytest.mark.parametrize("kind", KINDS)
def test_replaced_array_raises(kind, call):
    """Otherwise the optimizer goes on with an array that the model no longer has."""
    make, inner, name = KINDS[kind]
    params, grads = make(), make()
    if kind == "group":
        grads = [grads[0]["params"]]
    optimizer, container = fastopt.SGD(params, lr=1.0), inner(params)
    call(optimizer, grads)
    kept, before = container["w"], container["w"].copy()
    container["w"] = 2 * container["w"]
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{name}{REPLACED}"):
            call(optimizer, grads)
    assert same_bits(kept, before)
    container["w"] = kept
    call(optimizer, grads)


def test_other_changes_of_containers_raise():
    arrays, named = [np.ones(2), np.ones(2)], {"w": np.ones(2)}
    groups = [{"params": arrays}, {"params": MappingProxyType(named), "lr": 0.5}]
    optimizer = fastopt.SGD(groups, lr=1.0)
    grads = [[np.ones(2), np.ones(2)], {"w": np.ones(2)}]
    optimizer.step(grads)
    kept = arrays.pop()
    fewer = r"^params\[0\] must have the 2 items that the optimizer was made with, got 1: make a new optimizer$"
    with pytest.raises(ValueError, match=fewer):
        optimizer.step(grads)
    arrays.append(kept)
    named["new"] = np.ones(1)
    with pytest.raises(ValueError, match=r"^params\[1\] must have the 1 items that .* or use add_param_group$"):
        optimizer.step(grads)
    del named["new"]
    named["w"] = np.ones(2)
    with pytest.raises(ValueError, match=r"^params\[1\]\['w'\] must be the object"):
        optimizer.step(grads)
    named["new"] = named.pop("w")
    with pytest.raises(ValueError, match=r"^params\[1\]\['w'\] must be the object .*, got nothing: write into"):
        optimizer.step(grads)
    groups[0]["params"] = list(arrays)
    with pytest.raises(
        ValueError, match=r"^params\[0\]\['params'\] must be the object .*, got another one: make a new optimizer$"
    ):
        optimizer.step(grads)


def test_subclass_of_list_is_accepted_and_watched():
    params, grads = Arrays([np.ones(2), np.ones(1)]), [np.ones(2), np.ones(1)]
    optimizer = fastopt.SGD(params, lr=1.0)
    optimizer.step(grads)
    assert (params[0] == 0).all()
    params[1] = np.ones(1)
    with pytest.raises(ValueError, match=r"^params\[1\] must be the object"):
        optimizer.step(grads)


def test_arrays_that_change_in_place_are_not_stale():
    params = {"w": np.ones(2)}
    optimizer = fastopt.SGD(params, lr=1.0)
    params["w"] *= 2
    params["w"][:] = params["w"] + 1
    optimizer.step({"w": np.ones(2)})
    assert params["w"].tolist() == [2.0, 2.0]


def test_memory_order_of_an_array_is_that_of_its_strides():
    array = laid_out(np.arange(24).reshape(2, 3, 4), (2, 0, 1))
    assert in_memory_order(array).shape == (4, 2, 3)
    assert in_memory_order(array).flags.c_contiguous
