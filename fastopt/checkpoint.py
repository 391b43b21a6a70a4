r"""Save a training run to a file and resume it with bit-identical results.

`save` writes parameters, an optimizer, early stopping, a schedule, further arrays and metadata to one file; `load`
restores them in place, in the same process or another one.

Resuming
--------
A script that can be stopped at any time, and continues from the last epoch that was saved:

>>> import os, tempfile
>>> import numpy as np
>>> import fastopt
>>> path = os.path.join(tempfile.mkdtemp(), "run.npz")
>>> def train(epochs):
...     rng = np.random.default_rng(0)
...     params = {"w": np.zeros(3)}
...     optimizer = fastopt.Adam(params, lr=fastopt.schedules.Cosine(0.1, 10))
...     start = 0
...     if os.path.exists(path):
...         checkpoint = fastopt.load(path, params=params, optimizer=optimizer)
...         start = checkpoint.metadata["epoch"] + 1
...         rng.bit_generator.state = checkpoint.metadata["rng"]
...     for epoch in range(start, epochs):
...         optimizer.step({"w": rng.normal(size=3)})
...         metadata = {"epoch": epoch, "rng": rng.bit_generator.state}
...         fastopt.save(path, params=params, optimizer=optimizer, metadata=metadata, keep=2)
...     return params["w"]
>>> whole = train(4)
>>> os.remove(path)
>>> _ = train(2)  # stopped after two epochs
>>> np.array_equal(train(4), whole)
True

Build the same objects with the same arguments before `load`: a file stores what changes during training. For an
optimizer these are the step count, the numeric hyperparameters, the state arrays and the state of every
`fastopt.schedules.Plateau` among its schedules; for `fastopt.EarlyStopping` its counters and the best parameters. Other
schedules are functions of the step and have no state.

Further arrays and metadata
---------------------------
``arrays`` stores arrays by name, for example the running statistics of batch norm. ``metadata`` stores anything that
JSON can express: the epoch, settings, the state of a NumPy generator as above, or ``loss_scale.state_dict()`` of a
`fastopt.DynamicLossScale`. `load` returns both in a `Checkpoint`.

Crash safety
------------
The new file is written under a temporary name in the same directory (``.run.npz.tmp``), flushed to the disk and
renamed. If the process is killed, the disk is full or the power fails, either the old or the new file exists, complete.
Processes and threads that save to the same path wait for each other; meanwhile there is a file ``.run.npz.lock``. On
Windows, a file that is open or mapped cannot be replaced. ``keep=3`` keeps the two files before this one as
``run.1.npz`` and ``run.2.npz``. Permissions are kept. If the path is a symbolic link, the file that it points to is
replaced.

`load` checks everything before it changes the first byte. If it raises, nothing has changed.

Do not call `save` in a signal handler: it may interrupt a step or another save, and then raises `RuntimeError` (or,
without an optimizer, waits forever for the save that it interrupted). Set a flag, and save after the step.

Formats
-------
The suffix selects the format: ``.npz`` (also read by `numpy.load`) or ``.safetensors`` (requires the package
``safetensors``). Both hold one array per parameter and state, with names like ``params/w`` and
``optimizer/param_groups/0/state/exp_avg/w``, and a text ``fastopt`` (in an .npz file as an array of bytes; in a
.safetensors file as metadata). The text is the SHA-256 of a JSON header, a space, and the header:

    {"format": 1,
     "tree": {"params": {"w": {"__array__": 0}}, "optimizer": {...}},
     "arrays": [["params/w", "<f4", [2, 3], "<SHA-256>"], ...],
     "metadata": ...}

``{"__array__": 0}`` is replaced by the first of the ``arrays``. Equal runs give equal files.

Security
--------
Files may come from strangers. They contain no pickles and no executable code. All contents are compared with their
SHA-256, and loading takes no more memory than the size of the file plus some overhead. The digests detect damage, not
forgery: whoever can write the file can also change the weights.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastopt._util.array_file import FORMATS, Format
from fastopt._util.array_tree import FORMAT, extract_arrays, python_scalars, read_tree, sha256
from fastopt._util.arrays import Array
from fastopt._util.atomic_file import replace
from fastopt._util.records import Frozen
from fastopt._util.validation import FunctionOfStep, check_instance, flag, function_of_step, positive_count
from fastopt.early_stopping import EarlyStopping
from fastopt.optimizers import Optimizer, _state
from fastopt.optimizers._param_tree import check_arrays, pairs, plain
from fastopt.optimizers._state import Changes
from fastopt.schedules._base import stateful_schedules

__all__ = ["Checkpoint", "load", "save"]


class Checkpoint(Frozen):
    """The arrays and the metadata of a file, which `load` returns.

    Parameters
    ----------
    arrays : dict of str to ndarray
        The ``arrays`` given to `save`, empty if there were none.
    metadata : object
        The ``metadata`` given to `save`, as JSON returns it: dicts with strings as keys, lists, and Python's numbers.

    Examples
    --------
    >>> Checkpoint({"order": np.arange(3)}, {"epoch": 1}).metadata["epoch"]
    1
    """

    def __init__(self, arrays: dict[str, Array], metadata: Any) -> None:
        self.arrays = arrays
        self.metadata = metadata


def save(
    path: str | os.PathLike[str],
    *,
    params: Any = None,
    optimizer: Optimizer | None = None,
    early_stopping: EarlyStopping | None = None,
    schedule: FunctionOfStep | None = None,
    arrays: Mapping[str, Array] | None = None,
    metadata: Any = None,
    keep: int = 1,
) -> None:
    """Save a run to a file, which is replaced atomically.

    Parameters
    ----------
    path : str or os.PathLike
        File to write. Its suffix, .npz or .safetensors, selects the format.
    params : Flat, ndarray, list, tuple or mapping of ndarray, optional
        Parameters. Names must be strings.
    optimizer : Optimizer, optional
        Optimizer to save, including the state of its schedules.
    early_stopping : EarlyStopping, optional
        Early stopping to save, including its copy of the best parameters.
    schedule : Schedule, optional
        A `fastopt.schedules.Plateau`, or a schedule that contains one, which no optimizer has.
    arrays : mapping of str to ndarray, optional
        Further arrays of booleans, integers, or floats of at most 64 bits.
    metadata : object, optional
        Anything that JSON can express; NumPy's scalars and arrays without dimensions count as the numbers that they
        hold. As with the `json` module, tuples become lists, and keys that are numbers, booleans or None become
        strings, which must be distinct.
    keep : int, default 1
        Number of files to keep, >= 1, including this one. The file before run.npz is run.1.npz.

    Raises
    ------
    OSError
        If the file can't be written.
    TypeError, ValueError
        If an argument can't be saved, or there is nothing to save.
    RuntimeError
        If the optimizer is in use by another thread, has accumulated gradients without a step, or an array changed
        while it was saved.

    See Also
    --------
    load : Restore what was saved.

    Notes
    -----
    An error leaves the old file unchanged; Ctrl-C leaves the old or the new file. An .npz file is written in blocks of
    16 MB; a .safetensors file is assembled in memory first. Ctrl-C while `zipfile` opens a member of an .npz file
    raises `ValueError` with the `KeyboardInterrupt` as its context.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/run.npz"
    >>> for epoch in range(3):
    ...     save(path, arrays={"order": np.arange(epoch)}, metadata={"epoch": epoch}, keep=2)
    >>> load(path).metadata, load(path.replace(".npz", ".1.npz")).metadata
    ({'epoch': 2}, {'epoch': 1})
    """
    target, file_format = _resolve(path)
    positive_count("keep", keep)
    _check_types(optimizer, early_stopping)
    if all(part is None for part in (params, optimizer, early_stopping, schedule, arrays, metadata)):
        raise TypeError("params, optimizer, early_stopping, schedule, arrays or metadata must be given, got none")
    with nullcontext() if optimizer is None else optimizer._plan:
        tree: dict[str, Any] = {}
        if params is not None:
            check_arrays("params", params, writable=False)
            tree["params"] = plain(params, np.asarray)
        if optimizer is not None:
            tree["optimizer"] = _state.snapshot(optimizer, np.asarray)
        if early_stopping is not None:
            tree["early_stopping"] = early_stopping._state_dict(np.asarray)
        if schedule is not None:
            _check_stateful(schedule)
            tree["schedule"] = [each.state_dict() for each in stateful_schedules(schedule)]
        if arrays is not None:
            tree["arrays"] = _checked_arrays(arrays)
        found: dict[str, Array] = {}
        header = {"format": FORMAT, "tree": extract_arrays(tree, [], found)}
        header["arrays"] = [[name, array.dtype.str, array.shape, sha256(array)] for name, array in found.items()]
        try:
            header["metadata"] = python_scalars(metadata)
            text = json.dumps(header)
        except (TypeError, ValueError, RecursionError) as error:
            got = reprlib.repr(metadata)
            raise TypeError(f"metadata and states must be JSON, got {got} ({error})") from None

        def write(file: IO[bytes]) -> None:
            file_format.write(file, found, f"{sha256(text)} {text}")
            for name, _, _, digest in header["arrays"]:
                if sha256(found[name]) != digest:
                    raise RuntimeError(f"{name} changed while it was saved; {target} was not written")

        try:
            replace(target, keep, write)
        except OSError as error:
            _add_file_name(error, target)
            raise


def load(
    path: str | os.PathLike[str],
    *,
    params: Any = None,
    optimizer: Optimizer | None = None,
    early_stopping: EarlyStopping | None = None,
    schedule: FunctionOfStep | None = None,
    keep_hyperparameters: bool = False,
) -> Checkpoint:
    """Restore what `save` saved, in place, and return the arrays and metadata.

    Parameters
    ----------
    path : str or os.PathLike
        File to read, .npz or .safetensors.
    params : Flat, ndarray, list, tuple or mapping of ndarray, optional
        Arrays to write to; names, shapes and dtypes must be those of the file.
    optimizer : Optimizer, optional
        Optimizer of the same class, groups and options as the saved one.
    early_stopping : EarlyStopping, optional
        Early stopping to restore.
    schedule : Schedule, optional
        Schedule to restore, with the same number of `fastopt.schedules.Plateau` as the saved one.
    keep_hyperparameters : bool, default False
        Keep all hyperparameters of the optimizer, to continue with others than the saved ones. Without it, those that
        are numbers are loaded, as in PyTorch, and those that are functions, here or in the saved optimizer, are kept.

    Returns
    -------
    Checkpoint
        The ``arrays`` and the ``metadata`` of the file.

    Raises
    ------
    OSError
        If the file can't be read.
    TypeError
        If an argument has the wrong type.
    ValueError
        If the file is damaged, was not written by `save`, or does not match the arguments. The error names the file.
    RuntimeError
        If the optimizer is in use by another thread.

    See Also
    --------
    save : Write such a file.

    Notes
    -----
    If `load` raises, nothing has changed. Parts of the file that are not asked for are ignored. The whole file is read
    into memory first.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/weights.npz"
    >>> save(path, params=[np.ones(2), np.zeros(1)])
    >>> params = [np.zeros(2), np.ones(1)]
    >>> load(path, params=params).arrays, params
    ({}, [array([1., 1.]), array([0.])])
    """
    source, file_format = _resolve(path)
    keep = flag("keep_hyperparameters", keep_hyperparameters)
    if params is not None:
        check_arrays("params", params)
    _check_types(optimizer, early_stopping)
    if schedule is not None:
        _check_stateful(schedule)
    targets = {"params": params, "optimizer": optimizer, "early_stopping": early_stopping, "schedule": schedule}
    try:
        with file_format.open(source) as file:
            tree, metadata = read_tree(file)
        arrays = _checked_arrays(tree.get("arrays", {}))
        for name, thing in targets.items():
            if thing is not None and name not in tree:
                raise ValueError(f"it has no {name}, only {', '.join(tree) or 'metadata'}")
        copies = [] if params is None else pairs(params, tree["params"], "params")
        changes = Changes([], [])
        if optimizer is not None:
            changes = _state.checked(optimizer, "optimizer", tree["optimizer"], keep)
        changes.copies.extend(copies)
        if early_stopping is not None:
            state = early_stopping._check_state("early_stopping", tree["early_stopping"])
            changes.updates.append((vars(early_stopping), state))
        if schedule is not None:
            changes.updates.extend(_state.checked_schedules(schedule, "schedule", tree["schedule"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot load {source}: {error}") from error
    except OSError as error:
        _add_file_name(error, source)
        raise
    _state.apply(optimizer, changes)
    return Checkpoint(arrays, metadata)


# Arguments


def _resolve(path: str | os.PathLike[str]) -> tuple[Path, Format]:
    """Return the file that a path leads to, through links, and the format that the suffix of the path selects."""
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        raise TypeError(f"path must be a string or a path of strings, got {path!r}")
    file_format = FORMATS.get(Path(name).suffix)
    if file_format is None:
        raise ValueError(f"path must end in {' or '.join(FORMATS)}, got {name!r}")
    return Path(os.path.realpath(name)), file_format


def _add_file_name(error: OSError, path: Path) -> None:
    """Add a file to an error that names none, such as a full disk. Errors of signal handlers have no number."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def _check_types(optimizer: Any, early_stopping: Any) -> None:
    for name, thing, cls in (("optimizer", optimizer, Optimizer), ("early_stopping", early_stopping, EarlyStopping)):
        if thing is not None:
            check_instance(name, thing, cls)


def _check_stateful(schedule: Any) -> None:
    if not stateful_schedules(function_of_step("schedule", schedule)):
        raise ValueError(f"schedule must be or contain a stateful one (a Plateau, for example), got {schedule!r}")


def _checked_arrays(arrays: Any) -> dict[str, Array]:
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays must be a mapping of names to arrays, got {type(arrays).__name__!r}")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"arrays[{name!r}] must be an array without a mask, got {type(array).__name__!r}")
    return {name: np.asarray(array) for name, array in arrays.items()}
