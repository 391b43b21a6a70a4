"""How parameters are handed over, and how gradients of the same kind are taken and states of the same kind given back.

A structure is made from the parameters of one group: an array, a sequence, a mapping or a ``Flat``. Its
``arrays`` are the parameters in order and ``suffixes`` say what each is called (``['w1']``); ``take`` gives the arrays
of another thing of that kind in the same order, or says how it differs; ``give`` builds a thing of that kind, and
``named`` gives the arrays with the names that a user knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt.flat import Flat

Arrays: TypeAlias = "list[Any]"  # whatever offers a buffer or __array_interface__


class Structure:
    """What all kinds have."""

    arrays: Arrays
    suffixes: list[str]

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the arrays of a thing of the same kind, or raise how it differs."""
        raise NotImplementedError

    def give(self, arrays: Arrays) -> Any:
        """Build a thing of this kind."""
        raise NotImplementedError

    def named(self, arrays: Arrays) -> list[tuple[str, Any]]:
        """Pair the arrays with their names."""
        return list(zip(self.suffixes, arrays, strict=True))


class One(Structure):
    """One array."""

    def __init__(self, array: Any) -> None:
        self.arrays = [array]
        self.suffixes = [""]

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the one array; the core looks whether it is one."""
        return [thing]

    def give(self, arrays: Arrays) -> Any:
        """Give the one array."""
        return arrays[0]


class Many(Structure):
    """A list or tuple of arrays."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = list(arrays)
        self.suffixes = [f"[{i}]" for i in range(len(arrays))]

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the arrays of a list or tuple of the same length."""
        if not isinstance(thing, (list, tuple)):
            raise TypeError(f"{name} is a {type(thing).__name__!r}; wants a list or tuple of arrays, as the parameters")
        if len(thing) != len(self.arrays):
            raise ValueError(f"{name} has {len(thing)} arrays; wants {len(self.arrays)}, one for each parameter")
        return list(thing)

    def give(self, arrays: Arrays) -> tuple[Any, ...]:
        """Give a tuple: the arrays can be written to, but not replaced."""
        return tuple(arrays)


class Named(Structure):
    """A mapping of names to arrays."""

    def __init__(self, arrays: Mapping[Any, Any]) -> None:
        self.names = list(arrays)
        self.arrays = [arrays[name] for name in self.names]
        self.suffixes = [f"[{name!r}]" for name in self.names]
        for name, array in zip(self.names, self.arrays, strict=True):
            if arrays[name] is not array:
                raise TypeError(
                    f"params is a {type(arrays).__name__!r}, which makes a new array whenever asked for {name!r}; "
                    "wants a mapping that keeps its arrays, such as dict(...) of this one"
                )

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the arrays of a mapping with the same names, in any order."""
        if not isinstance(thing, Mapping):
            raise TypeError(f"{name} is a {type(thing).__name__!r}; wants a mapping with the names {self.names}")
        if len(thing) != len(self.names) or any(key not in thing for key in self.names):
            missing = [key for key in self.names if key not in thing]
            surplus = [key for key in thing if key not in self.names]
            raise ValueError(f"{name} lacks {missing} and has {surplus} beyond; wants the names {self.names}")
        return [thing[key] for key in self.names]

    def give(self, arrays: Arrays) -> Mapping[Any, Any]:
        """Give a read-only mapping: the arrays can be written to, but not replaced."""
        return MappingProxyType(dict(zip(self.names, arrays, strict=True)))


class Whole(Structure):
    """A ``Flat``: to the core its buffer is one array."""

    def __init__(self, flat: Flat) -> None:
        self.layout = flat.layout
        self.equal = flat.layout  # the one that was found to be equal last
        self.arrays = [flat.buffer]
        self.suffixes = [""]

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the buffer of a ``Flat`` of the same layout."""
        if not isinstance(thing, Flat):
            raise TypeError(
                f"{name} is a {type(thing).__name__!r}; wants a Flat of the parameters' layout (params.zeros_like())"
            )
        if thing._layout is not self.equal:
            if list(thing.layout.items()) != list(self.layout.items()):
                raise ValueError(f"{name} has the layout {thing.layout}; wants {self.layout}, as the parameters")
            self.equal = thing.layout
        return [thing._buffer]

    def give(self, arrays: Arrays) -> Flat:
        """Give a ``Flat`` over the buffer."""
        return Flat.from_buffer(self.layout, arrays[0])

    def named(self, arrays: Arrays) -> list[tuple[str, Any]]:
        """Pair the views with their names."""
        return [(f"[{name!r}]", view) for name, view in self.give(arrays).items()]


class Grouped(Structure):
    """A list of things of these kinds, one for each parameter group."""

    def __init__(self, groups: list[Structure]) -> None:
        self.groups = groups
        self.arrays = [array for group in groups for array in group.arrays]
        self.suffixes = [f"[{i}]{suffix}" for i, group in enumerate(groups) for suffix in group.suffixes]

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the arrays of all groups in a row."""
        if not isinstance(thing, (list, tuple)) or len(thing) != len(self.groups):
            got = f"{len(thing)} items" if isinstance(thing, (list, tuple)) else repr(type(thing).__name__)
            raise TypeError(f"{name} is {got}; wants a list of {len(self.groups)}, one item for each group")
        return [
            array
            for i, (group, part) in enumerate(zip(self.groups, thing, strict=True))
            for array in group.take(part, f"{name}[{i}]")
        ]

    def give(self, arrays: Arrays) -> list[Any]:
        """Build a list of the groups' things."""
        rest = iter(arrays)
        return [group.give([next(rest) for _ in group.arrays]) for group in self.groups]

    def named(self, arrays: Arrays) -> list[tuple[str, Any]]:
        """Pair the arrays with their names, which begin with the number of the group."""
        rest = iter(arrays)
        return [
            (f"[{i}]{suffix}", array)
            for i, group in enumerate(self.groups)
            for suffix, array in group.named([next(rest) for _ in group.arrays])
        ]


class Changes(NamedTuple):
    """What has been checked, and ``_core.put`` does at once: arrays to copy, as (target, source), and attributes."""

    copies: list[tuple[Array, Array]]
    attributes: list[tuple[Any, str, Any]]

    @classmethod
    def together(cls, parts: Sequence[Changes]) -> Changes:
        """Join changes that are to happen all or none."""
        return cls(
            [copy for part in parts for copy in part.copies],
            [attribute for part in parts for attribute in part.attributes],
        )


def param_tree(params: Any) -> Structure:
    """Say what kind of thing the parameters are; what is no container is one array, and the core looks at it."""
    if isinstance(params, Flat):
        return Whole(params)
    if isinstance(params, Mapping):
        return Named(params)
    if isinstance(params, (list, tuple)):
        return Many(params)
    return One(params)


def check_arrays(name: str, thing: Any, written: bool = True) -> Arrays:
    """Give the arrays of a thing that an optimizer could have as parameters, or raise what is wrong with it."""
    structure = param_tree(thing)
    for array, suffix in zip(structure.arrays, structure.suffixes, strict=True):
        _core.inspect_array(array, name, suffix, written)
    _core.check_no_overlap(structure.arrays, [name + suffix for suffix in structure.suffixes])
    return structure.arrays


def plain(thing: Any, array: Callable[[Any], Array] = np.array) -> Any:
    """Copy a thing of arrays to plain ones, in a dictionary, a list, or one alone; ``np.asarray`` makes no copies."""
    if isinstance(thing, Mapping):
        return {name: array(own) for name, own in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [array(own) for own in thing]
    return array(thing)


def pairs(state: Any, saved: Any, where: str) -> list[tuple[Array, Array]]:
    """Pair each array of a state with the saved one; raises where they don't fit."""
    like = param_tree(dict(state) if isinstance(state, Flat) else state)
    taken = like.take(saved, where)
    for source, suffix in zip(taken, like.suffixes, strict=True):
        _core.check_no_mask(source, f"{where}{suffix}")
        if isinstance(source, (list, tuple)):  # NumPy would make a new array of it
            raise TypeError(f"{where}{suffix} is a {type(source).__name__!r}; wants an array")
    targets = map(np.asarray, like.arrays)  # a parameter may be anything with a buffer, and stays where it is
    sources = [np.asarray(source, order="C") for source in taken]
    result = list(zip(targets, sources, strict=True))
    for (target, source), suffix in zip(result, like.suffixes, strict=True):
        if source.dtype != target.dtype or source.shape != target.shape:
            raise ValueError(
                f"{where}{suffix} is {source.dtype} of shape {source.shape}; wants {target.dtype} of {target.shape}"
            )
    return result
