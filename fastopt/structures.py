"""How parameters are handed over, and how gradients of the same kind are taken and states of the same kind given back.

A structure is made from the parameters: one array, a sequence, a mapping, a ``Flat``, or a list of groups of these. Its
``arrays`` are the parameters in order and ``suffixes`` say what each is called (``['w1']``); ``take`` gives the arrays
of another thing of that kind in the same order, or says how it differs; ``give`` builds a thing of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from fastopt.buffers import Flat

Arrays: TypeAlias = "list[Any]"  # whatever offers a buffer or __array_interface__


class One:
    """One array."""

    wanted = "one array"

    def __init__(self, array: Any) -> None:
        self.arrays: Arrays = [array]
        self.suffixes = [""]

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the one array; the core looks whether it is one."""
        return [thing]

    def give(self, arrays: Arrays) -> Any:
        """Give the one array."""
        return arrays[0]


class Many:
    """A list or tuple of arrays."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays: Arrays = list(arrays)
        self.suffixes = [f"[{i}]" for i in range(len(arrays))]
        self.wanted = f"a list or tuple of {len(arrays)} arrays"

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the arrays of a list or tuple of the same length."""
        if not isinstance(thing, (list, tuple)):
            raise TypeError(f"{name} is a {type(thing).__name__!r}; wants {self.wanted}, as the parameters")
        if len(thing) != len(self.arrays):
            raise ValueError(f"{name} has {len(thing)} arrays; wants {len(self.arrays)}, one for each parameter")
        return list(thing)

    def give(self, arrays: Arrays) -> list[Any]:
        """Give a list."""
        return list(arrays)


class Named:
    """A mapping of names to arrays."""

    def __init__(self, arrays: Mapping[Any, Any]) -> None:
        self.names = list(arrays)
        self.arrays: Arrays = list(arrays.values())
        self.suffixes = [f"[{name!r}]" for name in self.names]
        self.wanted = f"a mapping with the names {self.names}"

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the arrays of a mapping with the same names, in any order."""
        if not isinstance(thing, Mapping):
            raise TypeError(f"{name} is a {type(thing).__name__!r}; wants {self.wanted}, as the parameters")
        if len(thing) != len(self.names) or any(key not in thing for key in self.names):
            missing = [key for key in self.names if key not in thing]
            surplus = [key for key in thing if key not in self.names]
            raise ValueError(f"{name} lacks {missing} and has {surplus} beyond; wants the names {self.names}")
        return [thing[key] for key in self.names]

    def give(self, arrays: Arrays) -> dict[Any, Any]:
        """Give a dictionary."""
        return dict(zip(self.names, arrays, strict=True))


class Whole:
    """A ``Flat``: to the core its buffer is one array."""

    def __init__(self, flat: Flat) -> None:
        self.layout = flat.layout
        self.arrays: Arrays = [flat.buffer]
        self.suffixes = [""]
        self.wanted = f"a Flat with the layout {self.layout}"

    def take(self, thing: Any, name: str) -> Arrays:
        """Give the buffer of a ``Flat`` of the same layout."""
        if not isinstance(thing, Flat):
            raise TypeError(
                f"{name} is a {type(thing).__name__!r}; wants a Flat of the parameters' layout (params.zeros_like())"
            )
        if thing.layout is not self.layout and list(thing.layout.items()) != list(self.layout.items()):
            raise ValueError(f"{name} has the layout {thing.layout}; wants {self.layout}, as the parameters")
        return [thing.buffer]

    def give(self, arrays: Arrays) -> Flat:
        """Give a ``Flat`` over the buffer."""
        return Flat.over(self.layout, arrays[0])


Structure: TypeAlias = "One | Many | Named | Whole"


def structure_of(params: Any) -> Structure:
    """Say what kind of thing the parameters are; what is no container is one array, and the core looks at it."""
    if isinstance(params, Flat):
        return Whole(params)
    if isinstance(params, Mapping):
        return Named(params)
    if isinstance(params, (list, tuple)):
        return Many(params)
    return One(params)
