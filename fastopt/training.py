"""What surrounds the steps of an epoch: mini-batches, and when to stop.

>>> import numpy as np
>>> x, y = np.arange(10.0), np.arange(10) % 2
>>> stopper = EarlyStopping(patience=2)
>>> w = np.zeros(1)
>>> for epoch in range(100):
...     for inputs, labels in batches(x, y, batch_size=4, epoch=epoch):
...         w += inputs.sum() / 45  # a step of an optimizer
...     if stopper.update(abs(w[0] - 3.0), w):
...         break
>>> stopper.restore(w)
>>> epoch, w.round(6)
(4, array([3.]))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import numpy as np

from fastopt import _kernels, randomness
from fastopt.buffers import Array
from fastopt.hyperparameters import (
    any_number,
    choice,
    count,
    flag,
    non_negative,
    not_nan,
    or_none,
    positive_count,
    same_names,
)
from fastopt.structures import Changes, checked_arrays, pairs, plain

__all__ = ["EarlyStopping", "batches"]


# Mini-batches


def batches(
    *arrays: Array,
    batch_size: int | None,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    start: int = 0,
) -> Batches:
    """Go through the rows of arrays once, some at a time, in an order that depends on ``seed`` and ``epoch`` alone.

    ``arrays`` are NumPy arrays (memory maps too) of any dtype and layout, with the same number of rows, along the first
    axis. Of several arrays each batch is a tuple, of one array it is an array. ``batch_size`` is the number of rows:
    1 gives one at a time, None all of them. The last batch is smaller where the rows don't divide, or with
    ``drop_last`` left out. ``start`` batches of the epoch are done already: a run that is resumed goes on with the
    others. The result is an iterator, and its length is the number of batches that are left.

    The batches are new, C-contiguous arrays; with ``shuffle=False`` the rows come as they stand, in views without a
    copy. The order is that of the random 64-bit keys of the rows: the same on every platform and with every version of
    NumPy, whose own generators have no part in it.

    Raises ``TypeError`` for what is no array (or masked) and for numbers of another kind; ``ValueError`` for arrays of
    different lengths or without rows, for ``start`` beyond the epoch, and where ``drop_last`` would leave nothing.

    >>> for x, y in batches(np.arange(5), np.arange(5) * 10, batch_size=2, seed=0, epoch=1):
    ...     print(x, y)
    [1 3] [10 30]
    [4 0] [40  0]
    [2] [20]
    >>> [x.tolist() for x in batches(np.arange(5), batch_size=2, seed=0, epoch=1, start=1)]
    [[4, 0], [2]]
    """
    checked = [_rows_of(f"arrays[{i}]", array) for i, array in enumerate(arrays)]
    if not checked:
        raise TypeError("arrays is empty; wants at least one array")
    rows = len(checked[0])
    for i, array in enumerate(checked):
        if len(array) != rows:
            raise ValueError(f"arrays[{i}] has {len(array)} rows; wants {rows}, as arrays[0]")
    if rows == 0:
        raise ValueError(f"arrays[0] has shape {checked[0].shape}; wants at least one row")
    size = rows if batch_size is None else positive_count("batch_size", batch_size)
    if flag("drop_last", drop_last) and size > rows:
        raise ValueError(f"batch_size is {size} with drop_last, which leaves no batch; wants at most {rows}, the rows")
    end = rows // size if drop_last else -(-rows // size)
    if count("start", start) > end:
        raise ValueError(f"start is {start}; wants at most {end}, the batches of an epoch")
    key = randomness.of_bits(64, "seed", seed), randomness.of_bits(53, "epoch", epoch)
    return Batches(checked, _order(*key, rows) if flag("shuffle", shuffle) else None, size, int(start), end)


class Batches(Iterator[Any]):
    """What `batches` gives."""

    def __init__(self, arrays: list[Array], order: Array | None, size: int, done: int, end: int) -> None:
        self._arrays = arrays
        self._order = order
        self._size = size
        self._done = done
        self._end = end

    def __len__(self) -> int:
        return self._end - self._done

    def __next__(self) -> Any:
        if self._done == self._end:
            raise StopIteration
        part = slice(self._done * self._size, (self._done + 1) * self._size)
        self._done += 1
        if self._order is None:
            batch = tuple(array[part] for array in self._arrays)
        else:
            batch = tuple(_gather(array, self._order[part]) for array in self._arrays)
        return batch if len(batch) > 1 else batch[0]


def _rows_of(name: str, array: Any) -> Array:
    """Give an array as NumPy's own kind, a view of a memory map, say, or raise what is wrong with it."""
    _kernels.refuse_mask(array, name)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__!r}; wants a NumPy array")
    if array.ndim == 0:
        raise ValueError(f"{name} has no dimensions; wants rows along the first axis")
    return np.asarray(array)


def _order(seed: int, epoch: int, rows: int) -> Array:
    """Sort the rows by random keys, of two words each: the first is the lower half on every processor."""
    words = randomness.words(seed, epoch, randomness.ORDER, 2 * rows)
    return words.astype("<u4", copy=False).view("<u8").argsort(kind="stable")


def _gather(array: Array, rows: Array) -> Array:
    """Copy some rows.

    ``take`` is up to twice as fast as an index where rows are short (128 rows of 64 float32: 0.8 against 2.1 us; of
    784: 6.0 and 6.8), but it copies the whole of an array that isn't contiguous first.
    """
    if array.flags.c_contiguous and array.flags.aligned:
        return array.take(rows, axis=0)
    return np.ascontiguousarray(array[rows])


# Early stopping


@dataclass(eq=False)
class EarlyStopping:
    """Stop when a metric has not improved for ``patience`` epochs, and keep a copy of the best parameters.

    ``update(metric, params)`` after each epoch tells whether to stop. An epoch is good when its metric is below the
    best one by more than ``min_delta`` (above, with ``mode="max"``); a NaN never is. The first ``warmup`` epochs don't
    count: they are neither good nor bad, and nothing is copied. With as many bad epochs in a row as ``patience``, at
    least 1, it is time to stop. All this is as in Keras.

    ``best`` is the metric of the last good epoch and ``best_epoch`` its number, from 0 (None before there is one);
    ``epochs`` were seen, and the last ``bad_epochs`` of them were bad; ``stopped`` is what ``update`` told last.
    Parameters are what an optimizer takes without groups: a ``Flat``, one array, a list or tuple, a mapping of names to
    arrays. Source: Prechelt, "Early stopping - but when?", 1998.

    >>> stopper, w = EarlyStopping(patience=2), np.zeros(2)
    >>> for loss in [3.0, 2.0, 2.5, 2.0]:
    ...     w += 1
    ...     print(stopper.update(loss, w))
    False
    False
    False
    True
    >>> stopper.restore(w)
    >>> stopper.best, stopper.best_epoch, w
    (2.0, 1, array([2., 2.]))
    """

    patience: int = 10
    _: KW_ONLY
    min_delta: float = 0.0
    mode: Literal["min", "max"] = "min"
    warmup: int = 0
    best: float = field(init=False)
    best_epoch: int | None = field(init=False, default=None)
    epochs: int = field(init=False, default=0)
    bad_epochs: int = field(init=False, default=0)
    _params: Any = field(init=False, default=None, repr=False)  # the copy, in plain arrays

    def __post_init__(self) -> None:
        self.patience = positive_count("patience", self.patience)
        self.min_delta = non_negative("min_delta", self.min_delta)
        self.mode = choice("min", "max")("mode", self.mode)
        self.warmup = count("warmup", self.warmup)
        self.best = math.inf if self.mode == "min" else -math.inf

    @property
    def stopped(self) -> bool:
        """Whether it is time to stop."""
        return self.bad_epochs >= self.patience

    def update(self, metric: float, params: Any) -> bool:
        """Take note of an epoch, copy the parameters if it is the best, and tell whether to stop.

        Nothing changes if it raises: ``TypeError`` or ``ValueError`` for a metric that is no number, for parameters
        that an optimizer would not take, and for others than before.
        """
        metric = any_number("metric", metric)
        of_best, copies = self._paired(params, written=False), []
        news: dict[str, Any] = {"epochs": self.epochs + 1}
        if self.epochs >= self.warmup and self._is_better(metric):
            news |= {"best": metric, "best_epoch": self.epochs, "bad_epochs": 0}
            if self._params is None:
                news["_params"] = plain(params)
            copies = of_best
        elif self.epochs >= self.warmup:
            news["bad_epochs"] = self.bad_epochs + 1
        _kernels.put(copies, [(self, name, value) for name, value in news.items()])
        return self.stopped

    def restore(self, params: Any) -> None:
        """Write the best parameters into these, in place.

        Nothing is written if it raises: ``RuntimeError`` if there was no good epoch yet, ``TypeError`` or
        ``ValueError`` for parameters of another kind, shape or dtype, or which can't be written.
        """
        copies = self._paired(params, written=True)
        if self._params is None:
            raise RuntimeError(f"there are no best parameters after {self.epochs} epochs; wants a good epoch first")
        _kernels.put([(target, own) for own, target in copies], [])

    def _is_better(self, metric: float) -> bool:
        if self.mode == "min":
            return metric < self.best - self.min_delta
        return metric > self.best + self.min_delta

    def _paired(self, params: Any, written: bool) -> list[tuple[Array, Array]]:
        """Pair each array of the copy, if there is one, with that of the parameters; raises where these are wrong."""
        checked_arrays("params", params, written)
        return [] if self._params is None else pairs(self._params, params, "params")

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """Give a copy of all that ``update`` changes: plain numbers, and the best parameters in plain arrays, or None.

        The arguments are left out: make the new one with the same.
        """
        return self._state_dict(np.array)

    def _state_dict(self, array: Callable[[Any], Array]) -> dict[str, Any]:
        params = None if self._params is None else plain(self._params, array)
        return {**{name: check(name, getattr(self, name)) for name, check in _MEMORY.items()}, "params": params}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave; everything is checked before anything changes.

        Raises ``ValueError`` or ``TypeError`` for what is missing, unknown or out of range.
        """
        _kernels.put(*self._checked_state("state_dict", state_dict))

    def _checked_state(self, where: str, state_dict: Any) -> Changes:
        """Check what ``state_dict`` gave, which stands ``where``, and give what takes it over."""
        same_names(where, state_dict, [*_MEMORY, "params"])
        memory = {name: check(f"{where}[{name!r}]", state_dict[name]) for name, check in _MEMORY.items()}
        params = state_dict["params"]
        if (params is None) != (memory["best_epoch"] is None):
            raise ValueError(
                f"{where}['params'] is a {type(params).__name__!r} with best_epoch {memory['best_epoch']}; "
                "wants None where that is None, and nowhere else"
            )
        if params is not None and memory["best_epoch"] + 1 + memory["bad_epochs"] > memory["epochs"]:
            raise ValueError(f"{where} has {memory}; wants the best epoch before the bad ones, among the epochs")
        if params is not None:
            checked_arrays(f"{where}['params']", params, written=False)
            params = plain(params)

        return Changes([], [(self, name, value) for name, value in {**memory, "_params": params}.items()])


_MEMORY: dict[str, Callable[[str, Any], Any]] = {
    "best": not_nan,
    "best_epoch": or_none(count),
    "epochs": count,
    "bad_epochs": count,
}
