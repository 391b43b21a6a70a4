r"""Checkpoints: parameters, optimizer, early stopping, schedules and what else a run needs, in one file.

A file is ``.npz`` (NumPy's, which ``numpy.load`` opens too) or ``.safetensors`` (with that package), by its suffix.
Nothing in it is ever run: there is no pickle. A save is written beside the old file, flushed to the disk and renamed,
so a crash at any byte leaves the old one whole. A load compares names, shapes, dtypes and SHA-256 of all contents
before it changes anything: it happens whole or not at all.

>>> import tempfile
>>> import numpy as np
>>> import fastopt
>>> path = tempfile.mkdtemp() + "/run.npz"
>>> params = {"w": np.ones(3)}
>>> optimizer = fastopt.Adam(params, lr=0.5)
>>> optimizer.step({"w": np.ones(3)})
>>> fastopt.save(path, params=params, optimizer=optimizer, values={"epoch": 1})
>>> again = {"w": np.zeros(3)}
>>> other = fastopt.Adam(again, lr=0.1)
>>> fastopt.load(path, params=again, optimizer=other).values
{'epoch': 1}
>>> again["w"], other.steps, other.lr
(array([0.5, 0.5, 0.5]), 1, 0.5)
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np

from fastopt._util.arrays import Array
from fastopt._util.atomic_file import CONTAINERS, Container, Contents, named, replace
from fastopt._util.validation import FunctionOfStep, function_of_step, positive_count
from fastopt.early_stopping import EarlyStopping
from fastopt.optimizers import Optimizer, _state
from fastopt.optimizers._param_tree import check_arrays, pairs, plain
from fastopt.optimizers._state import Changes, checked_schedule
from fastopt.schedules import Plateau, memories

__all__ = ["Checkpoint", "load", "save"]

FORMAT = 1  # raised when an older version could not read what a newer one writes
REFERENCE = "__array__"  # stands for an array in the tree
LONGEST_NAME = 1000  # of an array in the file, in bytes
DTYPES = {np.dtype(char).newbyteorder("<").str: np.dtype(char) for char in "?bhiqlBHIQLefd"}


@dataclass(frozen=True)
class Checkpoint:
    """What `load` gives besides what it writes in place: the extra ``arrays`` by name, and the JSON ``values``.

    >>> Checkpoint({"order": np.arange(3)}, {"epoch": 1}).values["epoch"]
    1
    """

    arrays: dict[str, Array]
    values: Any


def save(
    path: str | os.PathLike[str],
    *,
    params: Any = None,
    optimizer: Optimizer | None = None,
    early_stopping: EarlyStopping | None = None,
    schedule: FunctionOfStep | None = None,
    arrays: Mapping[str, Array] | None = None,
    values: Any = None,
    keep: int = 1,
) -> None:
    """Save all that a run needs to go on, to the bit; what is None is left out.

    ``params`` is what an optimizer takes (without groups): a ``Flat``, one array, a list or tuple, or a mapping of
    arrays; ``schedule`` is one with a memory (a `Plateau`, also inside of others) that no optimizer has, for that of an
    optimizer is saved with it; ``arrays`` are extra ones of numbers or booleans, by name; ``values`` anything that JSON
    has. ``keep`` files stay, this one included: the one before run.npz is run.1.npz.

    Raises ``OSError`` where the file can't be written, ``TypeError`` or ``ValueError`` for what can't be saved, and
    ``RuntimeError`` where another thread steps, or has changed what was saved meanwhile: the old file then is as it
    was. A ``.safetensors`` file is put together in memory first.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/run.npz"
    >>> for epoch in range(3):
    ...     save(path, arrays={"order": np.arange(epoch)}, values={"epoch": epoch}, keep=2)
    >>> load(path).values, load(path.replace(".npz", ".1.npz")).values
    ({'epoch': 2}, {'epoch': 1})
    """
    target, container = _container(path)
    positive_count("keep", keep)
    text_of_values = _json(values)
    if optimizer is not None:
        _of_kind("optimizer", optimizer, Optimizer)
    with nullcontext() if optimizer is None else optimizer._plan:
        tree: dict[str, Any] = {}
        if params is not None:
            check_arrays("params", params, written=False)
            tree["params"] = plain(params, np.asarray)
        if optimizer is not None:
            tree["optimizer"] = _state.snapshot(optimizer, np.asarray)
        if early_stopping is not None:
            _of_kind("early_stopping", early_stopping, EarlyStopping)
            tree["early_stopping"] = early_stopping._state_dict(np.asarray)
        if schedule is not None:
            tree["schedule"] = [memory.state_dict() for memory in _with_memory(schedule)]
        if arrays is not None:
            tree["arrays"] = _named_arrays(arrays)
        found: dict[str, Array] = {}
        header = {"format": FORMAT, "tree": _without_arrays(tree, [], found)}
        header["arrays"] = [[name, a.dtype.str, a.shape, _digest(a)] for name, a in found.items()]
        text = f'{json.dumps(header)[:-1]}, "values": {text_of_values}}}'

        def write(file: IO[bytes]) -> None:
            container.write(file, found, f"{_digest(text)} {text}")
            for name, _, _, digest in header["arrays"]:
                if _digest(found[name]) != digest:
                    raise RuntimeError(f"{name} has changed while it was saved, so {target} is as it was before")

        replace(target, keep, write)


def load(
    path: str | os.PathLike[str],
    *,
    params: Any = None,
    optimizer: Optimizer | None = None,
    early_stopping: EarlyStopping | None = None,
    schedule: FunctionOfStep | None = None,
) -> Checkpoint:
    """Write what ``save`` saved into these, in place, and give the rest.

    What is not given is left in the file; what is given must be in it, and fit: of the same names, shapes and dtypes.
    Raises ``OSError`` where the file can't be read, and ``ValueError``, which names the file, where it is no whole
    checkpoint or does not fit. Nothing has changed then. It takes memory like the file.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/weights.npz"
    >>> save(path, params=[np.ones(2), np.zeros(1)])
    >>> params = [np.zeros(2), np.ones(1)]
    >>> load(path, params=params).arrays, params
    ({}, [array([1., 1.]), array([0.])])
    """
    source, container = _container(path)
    if params is not None:
        check_arrays("params", params)
    for name, thing, kind in (("optimizer", optimizer, Optimizer), ("early_stopping", early_stopping, EarlyStopping)):
        if thing is not None:
            _of_kind(name, thing, kind)
    wants: dict[str, Callable[[Any], Changes]] = {}
    if params is not None:
        wants["params"] = lambda saved: Changes(pairs(params, saved, "params"), [])
    if optimizer is not None:
        wants["optimizer"] = lambda saved: _state.checked(optimizer, "optimizer", saved)
    if early_stopping is not None:
        wants["early_stopping"] = lambda saved: early_stopping._checked_state("early_stopping", saved)
    if schedule is not None:
        _with_memory(schedule)
        wants["schedule"] = lambda saved: Changes([], checked_schedule(schedule, "schedule", saved))
    try:
        tree, values = _read(source, container)
        extra = _named_arrays(tree.get("arrays", {}))
        for name in wants:
            if name not in tree:
                raise ValueError(f"it has no {name}, only {', '.join(tree)}")
        changes = [take(tree[name]) for name, take in wants.items()]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} can't be loaded: {error}") from error
    except OSError as error:
        raise named(error, source) from error
    _state.apply(optimizer, Changes.together(changes))
    return Checkpoint(extra, values)


# The tree: dictionaries, lists and numbers as JSON has them, and references to arrays


def _without_arrays(thing: Any, path: list[str], found: dict[str, Array]) -> Any:
    """Replace each array by a reference, and collect them by a name that tells where they stand."""
    if isinstance(thing, np.ndarray):
        name = "/".join(quote(part, safe="", errors="surrogatepass") for part in path)
        name = name if len(name) < LONGEST_NAME else f"{path[0]}/#{len(found)}"  # a # in a part is quoted
        found[name] = _plain_array("/".join(path), thing)
        return {REFERENCE: len(found) - 1}
    if isinstance(thing, dict):
        for key in thing:
            if not isinstance(key, str):
                raise TypeError(f"{'/'.join(path)} has the name {key!r}; wants strings for names in a file")
        return {key: _without_arrays(own, [*path, key], found) for key, own in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_without_arrays(own, [*path, str(i)], found) for i, own in enumerate(thing)]
    return thing


def _with_arrays(thing: Any, found: list[Array]) -> Any:
    if isinstance(thing, dict):
        if list(thing) == [REFERENCE] and isinstance(thing[REFERENCE], int):
            return found[thing[REFERENCE]]
        return {key: _with_arrays(own, found) for key, own in thing.items()}
    return [_with_arrays(own, found) for own in thing] if isinstance(thing, list) else thing


def _plain_array(where: str, array: Array) -> Array:
    stored = array.dtype.newbyteorder("<")
    if stored.str not in DTYPES:
        raise TypeError(f"{where} has dtype {array.dtype}; wants booleans, integers, or floats of at most 64 bits")
    return np.ascontiguousarray(array, stored).reshape(array.shape)


def _read(source: Path, container: Container) -> tuple[dict[str, Any], Any]:
    """Read the tree and the values of a file, all of it compared with the digests."""
    with container.open(source) as contents:
        digest, _, text = contents.text.partition(" ")
        if digest != _digest(text):
            raise ValueError("its header is damaged")
        try:
            header = json.loads(text)
            if header["format"] not in range(1, FORMAT + 1):
                raise ValueError(
                    f"it has the format {header['format']!r}; this version of fastopt reads up to {FORMAT}"
                )
            names = [name for name, *_ in header["arrays"]]
            odd = sorted(contents.names.symmetric_difference(names))
            if odd or len(names) != len(contents.names):  # or an array would be read again and again
                raise ValueError(
                    f"the arrays of the file are not those of its header: {', '.join(odd[:3]) or names[:3]}"
                )
            arrays = [_read_array(contents, *row) for row in header["arrays"]]
            return dict(_with_arrays(header["tree"], arrays)), header["values"]
        except (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"its header is of another form ({type(error).__name__}: {error})") from None


def _read_array(contents: Contents, name: str, dtype: str, shape: list[int], digest: str) -> Array:
    if dtype not in DTYPES or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{name!r} is said to be {dtype!r} of shape {shape}")
    array = contents.array(name, np.dtype(dtype), tuple(shape))
    if _digest(array) != digest:
        raise ValueError(f"{name!r} is damaged")
    return array.astype(DTYPES[dtype], copy=False)


def _digest(thing: Array | str) -> str:
    if isinstance(thing, str):
        return hashlib.sha256(thing.encode(errors="surrogatepass")).hexdigest()
    return hashlib.sha256(thing.reshape(-1).view(np.uint8).data).hexdigest()


# What is asked of arguments


def _container(path: str | os.PathLike[str]) -> tuple[Path, Container]:
    """Give the file itself, which a link may lead to, and its format."""
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        raise TypeError(f"path is {path!r}; wants a string or a path of strings")
    container = CONTAINERS.get(Path(name).suffix)
    if container is None:
        raise ValueError(f"path is {name!r}; wants a name that ends in {' or '.join(CONTAINERS)}")
    return Path(os.path.realpath(name)), container


def _json(values: Any) -> str:
    """Give what JSON makes of values, which must be what it has."""
    try:
        _refuse_other_names(values)
        return json.dumps(values)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"values is {reprlib.repr(values)}; wants what JSON has ({error})") from None


def _refuse_other_names(values: Any) -> None:
    """Raise for names that are no strings, which json would make strings of."""
    if isinstance(values, dict):
        for name, own in values.items():
            if not isinstance(name, str):
                raise TypeError(f"it has the name {name!r}, which is no string")
            _refuse_other_names(own)
    elif isinstance(values, (list, tuple)):
        for own in values:
            _refuse_other_names(own)


def _with_memory(schedule: FunctionOfStep) -> list[Plateau]:
    found = memories(function_of_step("schedule", schedule))
    if not found:
        raise ValueError(f"schedule is {schedule!r}, which has no Plateau; wants one with a memory to save")
    return found


def _of_kind(name: str, thing: Any, kind: type) -> None:
    if not isinstance(thing, kind):
        raise TypeError(f"{name} is a {type(thing).__name__!r}; wants a fastopt {kind.__name__}")


def _named_arrays(arrays: Any) -> dict[str, Array]:
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays is a {type(arrays).__name__!r}; wants a mapping of names to arrays")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"arrays[{name!r}] is a {type(array).__name__!r}; wants an array without a mask")
    return {name: np.asarray(array) for name, array in arrays.items()}
