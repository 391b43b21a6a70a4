"""``Flat``: many named arrays in one aligned buffer, so that a step is one call on one array."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastopt import _core
from fastopt._util.arrays import Array, Shape, aligned_zeros
from fastopt._util.validation import is_int

Layout: TypeAlias = "Mapping[str, Shape]"

REALS = (np.dtype(np.float32), np.dtype(np.float64))


class Flat(Mapping[str, Array]):
    """An ordered mapping of names to arrays that are views into one 64-byte aligned, one-dimensional buffer.

    ``shapes_or_arrays`` maps each name to a shape (an int or a sequence of ints; the array starts as zeros) or to an
    array (its values are copied, and cast to ``dtype``). ``dtype`` is float32 (default) or float64. The arrays lie in
    the buffer in the order of the mapping, without gaps. ``flat[name] = values`` writes into the view, where ``layout``
    tells its shape.

    Raises ``TypeError`` for a name that is no string, for what is neither shape nor array, for values that don't
    cast to ``dtype`` (complex numbers, masked arrays), and for another dtype; ``ValueError`` for a negative dimension.

    >>> params = Flat({"w": (2, 3), "b": np.ones(3)})
    >>> params["w"][:] = 2
    >>> params.buffer
    array([2., 2., 2., 2., 2., 2., 1., 1., 1.], dtype=float32)
    >>> grads = params.zeros_like()
    >>> {name: view.shape for name, view in grads.items()}
    {'w': (2, 3), 'b': (3,)}
    """

    def __init__(
        self, shapes_or_arrays: Mapping[str, int | Sequence[int] | npt.ArrayLike], dtype: npt.DTypeLike = np.float32
    ) -> None:
        if not isinstance(shapes_or_arrays, Mapping):
            raise TypeError(
                f"shapes_or_arrays is a {type(shapes_or_arrays).__name__!r}; "
                "wants a mapping of names to shapes or arrays"
            )
        if dtype is None or np.dtype(dtype) not in REALS:
            raise TypeError(f"dtype is {dtype!r}; wants float32 or float64")
        layout = {name: _shape(name, thing) for name, thing in shapes_or_arrays.items()}
        size = sum(math.prod(shape) for shape in layout.values())
        self._lay_out(layout, aligned_zeros((size,), dtype))
        for name, thing in shapes_or_arrays.items():
            if _is_array(thing):
                self._write(name, thing, f"shapes_or_arrays[{name!r}]")

    def _lay_out(self, layout: Layout, buffer: Array) -> None:
        self._layout = layout if isinstance(layout, MappingProxyType) else MappingProxyType(dict(layout))
        self._buffer = buffer
        self._views: dict[str, Array] = {}
        start = 0
        for name, shape in layout.items():
            end = start + math.prod(shape)
            self._views[name] = buffer[start:end].reshape(shape)
            start = end

    @classmethod
    def from_buffer(cls, layout: Layout, buffer: Array) -> Flat:
        """Make a ``Flat`` of views into a one-dimensional buffer that is there already, a memory map, say.

        >>> Flat.from_buffer({"w": (2,), "b": (1,)}, np.arange(3.0))["b"]
        array([2.])
        """
        _core.check_no_mask(buffer, "buffer")
        if not isinstance(layout, MappingProxyType):
            layout = {name: _shape(name, shape) for name, shape in layout.items()}
        size = sum(math.prod(shape) for shape in layout.values())
        if not isinstance(buffer, np.ndarray):
            raise TypeError(f"buffer is a {type(buffer).__name__!r}; wants a NumPy array")
        if buffer.shape != (size,) or buffer.dtype not in REALS:
            raise ValueError(
                f"buffer is {buffer.dtype} of shape {buffer.shape}; "
                f"wants float32 or float64 of shape {(size,)}, as the layout"
            )
        flat = cls.__new__(cls)
        flat._lay_out(layout, buffer)
        return flat

    @property
    def buffer(self) -> Array:
        """The one-dimensional array that all views are parts of."""
        return self._buffer

    @property
    def layout(self) -> Layout:
        """The shape of each array, by name."""
        return self._layout

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of all arrays."""
        return self.buffer.dtype

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __setitem__(self, name: str, values: npt.ArrayLike) -> None:
        self._write(name, values, name)

    def _write(self, name: str, values: Any, what: str) -> None:
        _core.check_no_mask(values, what)
        try:
            np.copyto(self._views[name], values, casting="same_kind")
        except TypeError as error:
            raise TypeError(f"{what} doesn't cast to {self.dtype}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    # Two mappings of arrays have no truth value of equality; a Flat is itself and nothing else.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name!r}: {shape}" for name, shape in self.layout.items())
        return f"Flat({{{arrays}}}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The views must stay views of one buffer, in a copy and in another process.
        return _restore, (dict(self.layout), np.array(self.buffer))

    def zeros_like(self) -> Flat:
        """Give a ``Flat`` of the same layout, filled with zeros."""
        return Flat.from_buffer(self.layout, aligned_zeros(self.buffer.shape, self.dtype))

    def copy(self) -> Flat:
        """Give a ``Flat`` of the same layout with a copy of the values."""
        return _restore(self.layout, self.buffer)

    def select(self, pattern: str) -> dict[str, Array]:
        """Give the views whose names match a shell pattern, for parameter groups.

        Raises ``KeyError`` if none does.

        >>> Flat({"w1": 2, "w2": 2, "b": 1}).select("w*").keys()
        dict_keys(['w1', 'w2'])
        """
        found = {name: view for name, view in self.items() if fnmatchcase(name, pattern)}
        if not found:
            raise KeyError(f"pattern is {pattern!r}, which matches none of {list(self)}")
        return found


def _restore(layout: Layout, values: Array) -> Flat:
    buffer = aligned_zeros(values.shape, values.dtype)
    buffer[:] = values
    return Flat.from_buffer(layout, buffer)


def _is_array(thing: object) -> bool:
    # A NumPy integer is a dimension, as an int is.
    return hasattr(thing, "__array_interface__") and not isinstance(thing, np.integer)


def _shape(name: object, thing: Any) -> Shape:
    if not isinstance(name, str):
        raise TypeError(f"shapes_or_arrays has the name {name!r}; wants strings")
    if _is_array(thing):
        return tuple(np.shape(thing))
    shape = thing if isinstance(thing, (tuple, list)) else (thing,)
    if not all(is_int(n) for n in shape):
        raise TypeError(f"shapes_or_arrays[{name!r}] is {thing!r}; wants a shape or an array")
    if any(n < 0 for n in shape):
        raise ValueError(f"shapes_or_arrays[{name!r}] is {thing!r}; wants dimensions >= 0")
    return tuple(int(n) for n in shape)
