"""``Flat``: named views of one aligned buffer."""

from __future__ import annotations

import copy
import pickle
from types import MappingProxyType

import numpy as np
import pytest

from fastopt import Flat


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_share_one_aligned_buffer(dtype):
    flat = Flat({"w": (3, 4), "none": (0, 2), "s": (), "b": 5}, dtype)
    assert flat.buffer.shape == (18,)
    assert flat.buffer.ctypes.data % 64 == 0
    assert flat.dtype == flat.buffer.dtype == dtype
    assert {name: view.shape for name, view in flat.items()} == {"w": (3, 4), "none": (0, 2), "s": (), "b": (5,)}
    for value, view in enumerate(flat.values()):
        view[...] = value
    assert flat.buffer.tolist() == [0] * 12 + [2] + [3] * 5
    assert all(np.shares_memory(view, flat.buffer) for view in flat.values() if view.size)


def test_values_are_copied_in_and_written_to_the_buffer():
    source = np.arange(4.0).reshape(2, 2)
    flat = Flat({"w": source, "x": np.float64(7), "n": np.int64(2)})
    source[:] = -1
    assert flat.buffer.tolist() == [0, 1, 2, 3, 7, 0, 0]
    flat["w"] *= 2
    flat["n"] = 5
    assert flat.buffer.tolist() == [0, 2, 4, 6, 7, 5, 5]
    with pytest.raises(KeyError):
        flat["new"] = 1
    with pytest.raises(ValueError, match="broadcast"):
        flat["w"] = np.ones(3)
    for value in (np.ones((2, 2), complex), "3.5", np.ma.ones((2, 2))):
        with pytest.raises(TypeError, match=r"^w (must be castable to float32|.*mask)"):
            flat["w"] = value
    assert flat.buffer.tolist() == [0, 2, 4, 6, 7, 5, 5]


@pytest.mark.parametrize("dtype", ["u1", "?", "i4", "f8", ">f4"])
def test_arrays_are_cast_from_any_memory_order(dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    for array in (values, np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
        array.flags.writeable = False
        assert Flat({"w": array}).buffer.tolist() == [0, 1, 1, 1, 0, 1]


def test_buffer_and_layout_are_read_only():
    flat = Flat({"w": 2})
    with pytest.raises(AttributeError):
        flat.buffer = np.ones(2)
    with pytest.raises(AttributeError):
        flat.layout = {}
    with pytest.raises(TypeError):
        flat.layout["x"] = (3,)
    for layout in ({"w": 2}, MappingProxyType({"w": 2}), flat.layout):
        assert Flat.from_buffer(layout, np.ones(2))["w"].tolist() == [1, 1]


def test_copies_share_no_memory():
    flat = Flat({"w": np.ones((2, 2)), "b": 3})
    for other in (flat.copy(), copy.copy(flat), copy.deepcopy(flat), pickle.loads(pickle.dumps(flat))):
        assert other.layout == flat.layout
        assert other.buffer.tolist() == flat.buffer.tolist()
        assert other.buffer.ctypes.data % 64 == 0
        other["w"][:] = 9
        assert other.buffer[0] == 9
        assert flat["w"][0, 0] == 1
    zeros = flat.zeros_like()
    assert zeros.layout is flat.layout
    assert not zeros.buffer.any()
    assert flat != flat.copy()
    assert flat == flat  # noqa: PLR0124
    assert len({flat, flat.copy()}) == 2


def test_select_and_repr():
    flat = Flat({"w1": 2, "b1": 1, "w2": 2})
    assert list(flat.select("w*")) == ["w1", "w2"]
    assert flat.select("b?")["b1"] is flat["b1"]
    assert repr(flat) == "Flat({'w1': (2,), 'b1': (1,), 'w2': (2,)}, dtype=float32)"
