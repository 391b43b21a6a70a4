"""``Flat``: named views into one aligned buffer."""

from __future__ import annotations

import copy
import pickle

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


def test_values_are_copied_and_written_through():
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
        with pytest.raises(TypeError, match=r"^w (doesn't cast to float32|is a masked array)"):
            flat["w"] = value
    assert flat.buffer.tolist() == [0, 2, 4, 6, 7, 5, 5]


def test_what_the_views_hang_on_can_not_be_changed():
    flat = Flat({"w": 2})
    with pytest.raises(AttributeError):
        flat.buffer = np.ones(2)
    with pytest.raises(AttributeError):
        flat.layout = {}
    with pytest.raises(TypeError):
        flat.layout["x"] = (3,)
    with pytest.raises(
        ValueError, match=r"buffer is float64 of shape \(3,\); wants float32 or float64 of shape \(2,\)"
    ):
        Flat.from_buffer({"w": (2,)}, np.ones(3))
    with pytest.raises(TypeError, match=r"buffer is a 'list'; wants a NumPy array"):
        Flat.from_buffer({"w": 2}, [1.0, 2.0])
    assert Flat.from_buffer({"w": 2}, np.ones(2))["w"].tolist() == [1, 1]


def test_copies_are_apart():
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


def test_select_and_print():
    flat = Flat({"w1": 2, "b1": 1, "w2": 2})
    assert list(flat.select("w*")) == ["w1", "w2"]
    assert flat.select("b?")["b1"] is flat["b1"]
    with pytest.raises(KeyError, match="matches none of"):
        flat.select("x*")
    assert repr(flat) == "Flat({'w1': (2,), 'b1': (1,), 'w2': (2,)}, dtype=float32)"


@pytest.mark.parametrize(
    ("shapes", "dtype", "error", "says"),
    [
        ([(2, 2)], np.float32, TypeError, r"shapes_or_arrays is a 'list'; wants a mapping of names"),
        ({1: (2, 2)}, np.float32, TypeError, r"shapes_or_arrays has the name 1; wants strings"),
        ({"w": "abc"}, np.float32, TypeError, r"shapes_or_arrays\['w'\] is 'abc'; wants a shape or an array"),
        ({"w": (2, 2.0)}, np.float32, TypeError, r"shapes_or_arrays\['w'\] is \(2, 2.0\); wants a shape or an array"),
        ({"w": (2, -1)}, np.float32, ValueError, r"shapes_or_arrays\['w'\] is \(2, -1\); wants dimensions >= 0"),
        ({"w": np.ones(2, complex)}, np.float32, TypeError, r"shapes_or_arrays\['w'\] doesn't cast to float32"),
        ({"w": (2, True)}, np.float32, TypeError, r"shapes_or_arrays\['w'\] is \(2, True\); wants a shape"),
        ({"w": np.ma.ones(2)}, np.float32, TypeError, r"shapes_or_arrays\['w'\] is a masked array; wants one without"),
        ({"w": 2}, None, TypeError, r"dtype is None; wants float32 or float64"),
        ({"w": 2}, np.float16, TypeError, r"dtype is .*float16.*; wants float32 or float64"),
        ({"w": 2}, ">f4", TypeError, r"dtype is .>f4.; wants float32 or float64"),
    ],
)
def test_refusals(shapes, dtype, error, says):
    with pytest.raises(error, match=says):
        Flat(shapes, dtype)
