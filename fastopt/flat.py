"""``Flat``: named arrays in one aligned buffer, so that an optimizer step is one call on one array."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastopt import _core
from fastopt._util.arrays import Array, Shape, aligned_zeros, check_array
from fastopt._util.validation import is_int

Layout: TypeAlias = Mapping[str, Shape]

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Flat(Mapping[str, Array]):
    """Ordered mapping from names to arrays that are views into one buffer.

    The views lie in the buffer in the order of the mapping, without gaps. The buffer is one-dimensional and starts at
    a multiple of 64 bytes. ``flat[name]`` returns a view and ``flat[name] = values`` writes into it; names can be
    neither added nor removed.

    Parameters
    ----------
    shapes_or_arrays : mapping of str to int, sequence of int, or ndarray
        A shape (an int is a shape with one dimension) makes an array of zeros. The values of an array, in any memory
        order, are copied and cast to ``dtype``.
    dtype : dtype, default numpy.float32
        Dtype of all arrays: float32 or float64.

    Raises
    ------
    TypeError
        If a name is not a string, a value is neither a shape nor an array, an array can't be cast to ``dtype``
        (complex numbers, masked arrays), or ``dtype`` is not float32 or float64.
    ValueError
        If a dimension is negative.

    See Also
    --------
    Flat.from_buffer : Make a ``Flat`` of an existing buffer.

    Notes
    -----
    Optimizers, ``save`` and ``EarlyStopping`` accept a ``Flat`` wherever they accept arrays. Two ``Flat`` objects are
    equal only if they are the same object.

    Examples
    --------
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
        layout = _layout("shapes_or_arrays", shapes_or_arrays)
        if dtype is None or np.dtype(dtype) not in DTYPES:
            raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
        self._set_buffer(layout, aligned_zeros((_size(layout),), dtype))
        for name, value in shapes_or_arrays.items():
            if _is_array(value):
                self._write(name, value, f"shapes_or_arrays[{name!r}]")

    def _set_buffer(self, layout: Layout, buffer: Array) -> None:
        self._layout = layout
        self._buffer = buffer
        self._views: dict[str, Array] = {}
        start = 0
        for name, shape in layout.items():
            end = start + math.prod(shape)
            self._views[name] = buffer[start:end].reshape(shape)
            start = end

    @classmethod
    def from_buffer(cls, layout: Layout, buffer: Array) -> Flat:
        """Return a ``Flat`` of views into an existing buffer, for example a memory map.

        Parameters
        ----------
        layout : mapping of str to int or tuple of int
            Shape of each array, by name, as in ``Flat.layout``.
        buffer : ndarray of float32 or float64
            One-dimensional and contiguous, with as many elements as the layout. It is not copied.

        Returns
        -------
        Flat
            Its ``buffer`` is the given array.

        Raises
        ------
        TypeError
            If ``buffer`` is not an array of float32 or float64, or ``layout`` is not a mapping of strings to shapes.
        ValueError
            If ``buffer`` has another shape or is not contiguous, or a dimension is negative.

        Examples
        --------
        >>> Flat.from_buffer({"w": (2,), "b": (1,)}, np.arange(3.0))["b"]
        array([2.])
        """
        check_array("buffer", buffer, writable=False)
        layout = _layout("layout", layout)
        expected = (_size(layout),)
        if buffer.shape != expected:
            raise ValueError(f"buffer must have shape {expected} like the layout, got {buffer.shape}")
        return cls._from_checked(layout, buffer)

    @classmethod
    def _from_checked(cls, layout: Layout, buffer: Array) -> Flat:
        """Return a ``Flat`` with the same layout object, which optimizers recognize faster than an equal one."""
        flat = cls.__new__(cls)
        flat._set_buffer(layout, buffer)
        return flat

    @property
    def buffer(self) -> Array:
        """The one-dimensional array that the views share."""
        return self._buffer

    @property
    def layout(self) -> Layout:
        """The shape of each array, by name (read-only)."""
        return self._layout

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the buffer."""
        return self.buffer.dtype

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __setitem__(self, name: str, values: npt.ArrayLike) -> None:
        self._write(name, values, name)

    def _write(self, name: str, values: Any, argument: str) -> None:
        _core.check_no_mask(values, argument)
        try:
            np.copyto(self._views[name], values, casting="same_kind")
        except TypeError as error:
            raise TypeError(f"{argument} must be castable to {self.dtype}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    # Mapping compares values, and an array of comparisons has no truth value.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name!r}: {shape}" for name, shape in self.layout.items())
        return f"Flat({{{arrays}}}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Views pickled one by one would no longer share a buffer.
        return _restore, (dict(self.layout), np.array(self.buffer))

    def zeros_like(self) -> Flat:
        """Return a new ``Flat`` of the same layout and dtype, filled with zeros.

        Returns
        -------
        Flat
            It can take the gradients of these parameters, or their average.

        Examples
        --------
        >>> Flat({"w": np.ones(2)}).zeros_like().buffer
        array([0., 0.], dtype=float32)
        """
        return Flat._from_checked(self.layout, aligned_zeros(self.buffer.shape, self.dtype))

    def copy(self) -> Flat:
        """Return a new ``Flat`` of the same layout, dtype and values.

        Returns
        -------
        Flat
            It shares no memory with this one.

        Examples
        --------
        >>> params = Flat({"w": np.ones(2)})
        >>> kept = params.copy()
        >>> params["w"][:] = 5
        >>> kept["w"]
        array([1., 1.], dtype=float32)
        """
        flat = self.zeros_like()
        flat.buffer[:] = self.buffer
        return flat

    def select(self, pattern: str) -> dict[str, Array]:
        """Return the views whose names match a shell pattern, for example for a parameter group.

        Parameters
        ----------
        pattern : str
            A pattern of ``fnmatch``, case-sensitive: ``*`` matches everything, ``?`` one character, ``[12]`` either.

        Returns
        -------
        dict of str to ndarray
            Names and views in the order of the ``Flat``.

        Raises
        ------
        TypeError
            If ``pattern`` is not a string.
        KeyError
            If no name matches.

        Examples
        --------
        >>> Flat({"w1": 2, "w2": 2, "b": 1}).select("w*").keys()
        dict_keys(['w1', 'w2'])
        """
        if not isinstance(pattern, str):
            raise TypeError(f"pattern must be a string, got {pattern!r}")
        selected = {name: view for name, view in self.items() if fnmatchcase(name, pattern)}
        if not selected:
            raise KeyError(f"pattern must match one of {list(self)}, got {pattern!r}")
        return selected


def _restore(layout: Layout, values: Array) -> Flat:
    return Flat.from_buffer(layout, values).copy()  # in aligned memory


def _is_array(value: object) -> bool:
    # A NumPy integer has this interface, too, but it is a dimension.
    return hasattr(value, "__array_interface__") and not isinstance(value, np.integer)


def _size(layout: Layout) -> int:
    return sum(math.prod(shape) for shape in layout.values())


def _layout(argument: str, shapes_or_arrays: Any) -> Layout:
    if not isinstance(shapes_or_arrays, Mapping):
        raise TypeError(
            f"{argument} must be a mapping of names to shapes or arrays, got {type(shapes_or_arrays).__name__!r}"
        )
    return MappingProxyType({name: _shape(argument, name, value) for name, value in shapes_or_arrays.items()})


def _shape(argument: str, name: object, value: Any) -> Shape:
    if not isinstance(name, str):
        raise TypeError(f"{argument} must have strings as names, got {name!r}")
    if _is_array(value):
        return tuple(np.shape(value))
    shape = value if isinstance(value, (tuple, list)) else (value,)
    if not all(is_int(n) for n in shape):
        raise TypeError(f"{argument}[{name!r}] must be a shape, of ints, or a NumPy array, got {value!r}")
    if any(n < 0 for n in shape):
        raise ValueError(f"{argument}[{name!r}] must have dimensions >= 0, got {value!r}")
    return tuple(int(n) for n in shape)
