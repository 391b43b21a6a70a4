"""Parameter trees: nested containers of arrays, flattened for the core and built again for the user.

A tree is built from the parameters: an array, a ``Flat``, a list, tuple or mapping of trees, or parameter groups. Its
``arrays`` are the parameters in order, and ``paths`` name them (``['w1']``). ``flatten`` returns the arrays of a
structure of the same kind, gradients for example, in the same order; ``unflatten`` builds such a structure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array, in_memory_order, memory_axes
from fastopt.flat import Flat

if TYPE_CHECKING:
    from fastopt.optimizers._param_groups import Group

Watched: TypeAlias = tuple[Any, tuple[Any, ...], tuple[Any, ...], int, str]


class ParamTree:
    """The interface of all trees."""

    arrays: list[Any]  # anything with the buffer protocol or __array_interface__
    paths: list[str]
    sizes: list[list[int] | None]  # of the segments of each array, which steps can leave out; None for one segment
    segment_paths: list[str]
    watched: list[Watched]  # the user's containers, as ``_core.check_current`` takes them

    def flatten(self, values: Any, name: str) -> list[Any]:
        """Return the arrays of a structure like the parameters, or raise an error that calls it ``name``.

        None in place of an array or a container stands for arrays that are left out.
        """
        raise NotImplementedError

    def unflatten(self, arrays: list[Any]) -> Any:
        """Return a structure like the parameters with these arrays."""
        raise NotImplementedError

    def left_out(self, skip: Any, name: str) -> list[bool]:
        """Return for each segment whether ``skip`` names it, or raise an error that calls it ``name``."""
        if isinstance(skip, (list, tuple)) and not skip:
            return [False] * len(self.segment_paths)
        raise TypeError(
            f"{name} must be empty unless the parameters are a Flat, got {skip!r}: pass None in place of a gradient"
        )

    def locate(self, i: int, element: int) -> tuple[str, tuple[int, ...]]:
        """Return the path of the array, and the index in it, of an element of the i-th of ``arrays``."""
        return self.paths[i], _index(np.asarray(self.arrays[i]), element)


class SingleArray(ParamTree):
    """One array; the core checks that it is one."""

    def __init__(self, array: Any) -> None:
        self.arrays = [array]
        self.paths = self.segment_paths = [""]
        self.sizes, self.watched = [None], []

    def flatten(self, values: Any, name: str) -> list[Any]:
        if values is None:
            raise TypeError(f"{name} must be an array like the parameters, got None")
        return [values]

    def unflatten(self, arrays: list[Any]) -> Any:
        return arrays[0]


class FlatBuffer(ParamTree):
    """A ``Flat``: to the core its buffer is one array, and each of its arrays a segment."""

    def __init__(self, flat: Flat) -> None:
        self.layout = flat.layout
        self.equal_layout = flat.layout  # the last one that compared equal: comparing takes longer than a small step
        self.arrays = [flat.buffer]
        self.paths = [""]
        self.sizes = [[math.prod(shape) for shape in flat.layout.values()]]
        self.segment_paths = [f"[{name!r}]" for name in flat.layout]
        self.watched = []

    def flatten(self, values: Any, name: str) -> list[Any]:
        if not isinstance(values, Flat):
            raise TypeError(
                f"{name} must be a Flat with the layout of the parameters (params.zeros_like()), "
                f"got {type(values).__name__!r}"
            )
        if values._layout is not self.equal_layout:
            if list(values.layout.items()) != list(self.layout.items()):
                raise ValueError(f"{name} must have the layout {dict(self.layout)}, got {dict(values.layout)}")
            self.equal_layout = values.layout
        return [values._buffer]

    def unflatten(self, arrays: list[Any]) -> Flat:
        return Flat._from_checked(self.layout, arrays[0])

    def left_out(self, skip: Any, name: str) -> list[bool]:
        if isinstance(skip, str) or not isinstance(skip, Iterable):
            raise TypeError(f"{name} must be a list of names of the Flat, got {skip!r}")
        names = list(skip)
        for own in names:
            if not isinstance(own, str) or own not in self.layout:
                raise ValueError(f"{name} must contain names of {list(self.layout)}, got {own!r}")
        return [own in names for own in self.layout]

    def locate(self, i: int, element: int) -> tuple[str, tuple[int, ...]]:
        for name, view in self.unflatten(self.arrays).items():
            if element < view.size:
                return f"[{name!r}]", _index(view, element)
            element -= view.size
        raise IndexError(element)


class Container(ParamTree):
    """Base class of lists, mappings and groups of trees."""

    def __init__(self, keys: Sequence[Any], children: list[ParamTree], watched: list[Watched]) -> None:
        self.keys = keys
        self.children = children
        self.is_shallow = all(isinstance(child, SingleArray) for child in children)
        self.arrays = [array for child in children for array in child.arrays]
        self.sizes = [sizes for child in children for sizes in child.sizes]
        labelled = [(f"[{key!r}]", child) for key, child in zip(keys, children, strict=True)]
        self.paths = [label + path for label, child in labelled for path in child.paths]
        self.segment_paths = [label + path for label, child in labelled for path in child.segment_paths]
        self.watched = watched + [(*rest, label + path) for label, child in labelled for *rest, path in child.watched]

    def items(self, values: Any, name: str) -> list[Any]:
        """Return the items of a structure in the order of the children, or raise."""
        raise NotImplementedError

    def build(self, items: list[Any]) -> Any:
        """Return a container of items."""
        raise NotImplementedError

    def flatten(self, values: Any, name: str) -> list[Any]:
        items = self.items(values, name)
        if self.is_shallow:
            return items
        return [
            array
            for key, child, item in zip(self.keys, self.children, items, strict=True)
            for array in ([None] * len(child.arrays) if item is None else child.flatten(item, f"{name}[{key!r}]"))
        ]

    def unflatten(self, arrays: list[Any]) -> Any:
        rest = iter(arrays)
        return self.build([child.unflatten([next(rest) for _ in child.arrays]) for child in self.children])

    def locate(self, i: int, element: int) -> tuple[str, tuple[int, ...]]:
        for key, child in zip(self.keys, self.children, strict=True):
            if i < len(child.arrays):
                path, index = child.locate(i, element)
                return f"[{key!r}]{path}", index
            i -= len(child.arrays)
        raise IndexError(i)


class ArrayList(Container):
    """A list or tuple."""

    expected_type, expected_items = "a list or tuple like the parameters", "items like the parameters"

    def __init__(self, params: Sequence[Any]) -> None:
        items, keys = tuple(params), tuple(range(len(params)))
        watched = [(params, keys, items, len(items), "")] if isinstance(params, list) else []
        super().__init__(keys, [param_tree(param) for param in items], watched)

    def items(self, values: Any, name: str) -> list[Any]:
        if not isinstance(values, (list, tuple)):
            got = f"{type(values).__name__!r}{_core.remedy(values)}"
            raise TypeError(f"{name} must be {self.expected_type}, got {got}")
        if len(values) != len(self.children):
            raise ValueError(f"{name} must have {len(self.children)} {self.expected_items}, got {len(values)}")
        return list(values)

    def build(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(items)  # its arrays can be written to, but not replaced


class ArrayDict(Container):
    """A mapping, whose order counts in the parameters only."""

    def __init__(self, params: Mapping[Any, Any]) -> None:
        children = {key: params[key] for key in params}
        for key, param in children.items():
            if params[key] is not param:
                raise TypeError(
                    f"params must be a mapping that keeps its arrays, got {type(params).__name__!r}, which returns a "
                    f"new array for {key!r} each time: pass dict(...) of it"
                )
        watched = [(params, tuple(children), tuple(children.values()), len(children), "")]
        super().__init__(list(children), [param_tree(param) for param in children.values()], watched)

    def items(self, values: Any, name: str) -> list[Any]:
        if not isinstance(values, (dict, Mapping)):  # dict first, which saves 0.1 us
            raise TypeError(f"{name} must be a mapping with the names {self.keys}, got {type(values).__name__!r}")
        if len(values) != len(self.keys) or not all(map(values.__contains__, self.keys)):
            missing = [key for key in self.keys if key not in values]
            extra = [key for key in values if key not in self.keys]
            raise ValueError(f"{name} must have the names {self.keys}, got {missing} missing and {extra} extra")
        return [values[key] for key in self.keys]

    def build(self, items: list[Any]) -> Mapping[Any, Any]:
        return MappingProxyType(dict(zip(self.keys, items, strict=True)))


class ParamGroups(ArrayList):
    """The trees of parameter groups."""

    expected_type, expected_items = "a list with an item for each group", "items, one for each group"

    def __init__(self, groups: Sequence[Group]) -> None:
        watched = [
            (group.source, ("params",), (group.source["params"],), -1, f"[{i}]") for i, group in enumerate(groups)
        ]
        Container.__init__(self, range(len(groups)), [group.tree for group in groups], watched)

    def left_out(self, skip: Any, name: str) -> list[bool]:
        if isinstance(skip, (list, tuple)) and not skip:
            return [False] * len(self.segment_paths)
        return [
            segment
            for i, (tree, own) in enumerate(zip(self.children, self.items(skip, name), strict=True))
            for segment in tree.left_out(() if own is None else own, f"{name}[{i}]")
        ]


def param_tree(params: Any) -> ParamTree:
    """Return the tree of parameters without groups; anything that is not a container counts as an array."""
    if isinstance(params, Flat):
        return FlatBuffer(params)
    if isinstance(params, Mapping):
        return ArrayDict(params)
    if isinstance(params, (list, tuple)):
        return ArrayList(params)
    return SingleArray(params)


def check_arrays(name: str, params: Any, writable: bool = True) -> list[Any]:
    """Return the arrays of parameters, or raise if an optimizer could not use them."""
    tree = param_tree(params)
    for array, path in zip(tree.arrays, tree.paths, strict=True):
        _core.inspect_array(array, name, path, writable, any_order=True)
    _core.check_no_overlap(tree.arrays, [name + path for path in tree.paths])
    return tree.arrays


def plain(params: Any, array: Callable[[Any], Array] = np.array) -> Any:
    """Return the arrays in plain dictionaries and lists: copies, or with ``np.asarray`` the arrays themselves."""
    if isinstance(params, Mapping):
        return {key: plain(item, array) for key, item in params.items()}
    if isinstance(params, (list, tuple)):
        return [plain(item, array) for item in params]
    return array(params)


def pairs(state: Any, saved: Any, where: str) -> list[tuple[Array, Array]]:
    """Pair each array of a state with the saved one, as C-contiguous views, or raise if they do not fit."""
    tree = param_tree(plain(state, np.asarray))  # what is saved has a dictionary for each Flat
    result = []
    for own, source, path in zip(tree.arrays, tree.flatten(saved, where), tree.paths, strict=True):
        _core.check_no_mask(source, f"{where}{path}")
        if isinstance(source, (list, tuple)):  # NumPy would make a new array of it
            raise TypeError(f"{where}{path} must be an array, got {type(source).__name__!r}")
        target, values = np.asarray(own), np.asarray(source)
        if values.dtype != target.dtype or values.shape != target.shape:
            raise ValueError(
                f"{where}{path} must be {target.dtype} of shape {target.shape}, got {values.dtype} of {values.shape}"
            )
        result.append((in_memory_order(target), np.ascontiguousarray(values.transpose(memory_axes(target)))))
    return result


def _index(array: Array, element: int) -> tuple[int, ...]:
    """Return the index of an element that is counted in the order of memory."""
    axes = memory_axes(array)
    index = np.unravel_index(element, in_memory_order(array).shape)
    return tuple(int(index[axes.index(axis)]) for axis in range(array.ndim))
