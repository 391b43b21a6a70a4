"""Record calls of every kernel and op, as the library makes them, in a file that vectors.c replays elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import numpy as np
from cases import CASES, REALS, calls_on_rows, hard_numbers, start_values

import fastopt
from fastopt import _core, kernels, reference
from fastopt._util import random
from fastopt.losses import cross_entropy
from fastopt.reference._common import FLUSH_PERIOD

KERNEL_CALL, OP_CALL, SUM_OF_SQUARES = range(3)
NULL = -1
SIZES = [1, 15, 64, 1001]
SHAPES = [(2, 1), (17, 3), (33, 17), (5, 65), (3, 1025)]
IMAGES = [(1, 7), (9, 8, 3), (17, 33)]


SCALARS = {"real": "<f8", "int": "<i8", "uint": "<u8"}


def words(*numbers):
    return np.array(numbers, "<i8").tobytes()


def doubles(*numbers):
    return np.array(numbers, "<f8").tobytes()


def padded(data):
    return data + bytes(-len(data) % 8)


class Recorder:
    """The records so far, and the kernels and ops that they cover."""

    def __init__(self):
        self.records, self.calls, self.seen = [], 0, set()

    def add(self, kind, name, real, count, chunk, scalars, before, after, total=0.0):
        """Add a call. ``scalars`` are 8 bytes each; ``before`` and ``after`` are its arrays, None for NULL."""
        entries = {KERNEL_CALL: _core.KERNELS, OP_CALL: _core.OPS}.get(kind)
        index = entries[name].index if entries else 0
        self.calls += 1
        self.seen.add((kind, name, np.dtype(real).itemsize))
        self.records.append(words(kind, index, REALS.index(real), count, chunk, len(scalars) // 8, len(before)))
        self.records.append(doubles(total) + scalars)
        for old, new in zip(before, after, strict=True):
            if old is None:
                self.records.append(words(NULL, 1))
            else:
                item = old.itemsize if old.dtype.kind == "f" else 1
                self.records += [words(old.nbytes, item), padded(old.tobytes()), padded(new.tobytes())]

    def add_kernel(self, name, real, count, step, hyperparameters, before, after):
        """Add the call of a kernel, whose coefficients vectors.c computes."""
        scalars = words(step) + doubles(*_core.numbers_of(hyperparameters))
        self.add(KERNEL_CALL, name, real, count, 0, scalars, before, after)

    def add_op(self, name, real, arguments, count, chunk, call):
        """Add the call of an op, which ``call()`` makes. Outputs are recorded as zeros before the call."""
        kinds = _core.OPS[name].arguments
        arrays = {own: arguments[own] for own, kind in kinds.items() if kind not in SCALARS}
        before = [
            None if array is None else np.zeros_like(array) if kinds[own] == "out" else array.copy()
            for own, array in arrays.items()
        ]
        scalars = [np.array(arguments[own], SCALARS[kinds[own]]).tobytes() for own in kinds if own not in arrays]
        total = call()
        self.add(OP_CALL, name, real, count, chunk, b"".join(scalars), before, list(arrays.values()), total)
        return total

    @contextmanager
    def listening(self):
        """Add all ops that run in this context."""
        run = _core.run

        def recorded(name, arguments, count, chunk, work):
            real = np.float64 if arguments["x"].itemsize == 8 else np.float32
            return self.add_op(name, real, arguments, count, chunk, lambda: run(name, arguments, count, chunk, work))

        with mock.patch.object(_core, "run", recorded):
            yield


def record_steps(recorder, case, real, size):
    """Record three steps of a case, the last of which flushes, and the results of the plain function."""
    param, states = start_values(size, real), case.make(np.zeros(0)).state
    operands = {"param": param, "grad": None, **{name: np.zeros(size, real) for name in states}}
    hyper = dict(case.make(np.zeros(0)).param_groups[0])
    kernel = case.cls._kernel(hyper)
    for step in (1, 2, FLUSH_PERIOD):
        operands["grad"] = hard_numbers(size, real, seed=step)
        before = {name: operand.copy() for name, operand in operands.items()}
        lr = hyper["lr"](step - 1) if callable(hyper["lr"]) else hyper["lr"]
        getattr(kernels, case.cls.rule)(**operands, step=step, **{**hyper, "lr": lr})
        old, new = ([arrays[name] for name in _core.KERNELS[kernel].operands] for arrays in (before, operands))
        recorder.add_kernel(kernel, real, size, step, {**hyper, "lr": lr}, old, new)


def record_stages(recorder, real, size):
    ema, param = start_values(size, real), hard_numbers(size, real)
    for decay in (0.25, 0.999):
        averaged = ema.copy()
        with np.errstate(all="ignore"):
            reference.ema(averaged, param, decay=decay)
        recorder.add_kernel("ema", real, size, 1, {"ema_decay": decay}, [ema, param], [averaged, param])
    recorder.add_kernel("zero_grad", real, size, 1, {}, [param], [np.zeros_like(param)])
    recorder.add(SUM_OF_SQUARES, "", real, size, 0, b"", [param], [param], reference.sum_squares([param]))


def record_rows(real, shape):
    """Call all losses and layers on rows, and options that change what an op does."""
    rng = np.random.default_rng(0)
    x = (4 * rng.normal(0, 1, shape)).astype(real)
    target, grad = (rng.uniform(0, 1, shape).astype(real) for _ in range(2))
    columns = [rng.uniform(0.5, 1, shape[1]).astype(real) for _ in range(4)]
    labels = rng.integers(0, shape[1], shape[0])
    for call in calls_on_rows(x, target, labels, [*columns, grad]).values():
        call()
    fastopt.dice(target, labels, from_logits=None, squared=True, per_image=False, ignore_index=0)
    fastopt.dice(x[:, :1], labels == 0, from_logits="sigmoid", ignore_index=255)
    fastopt.dice(x, target, from_logits=None, out=x.copy())
    cross_entropy(x, np.where(labels, labels, -100), ignore_index=-100)
    large = x * real(1e30 if real == np.float32 else 1e200)
    _, cache = fastopt.batch_norm(large, *columns)
    fastopt.batch_norm_backward(large, cache)
    for name in ("exp", "log"):
        numbers = hard_numbers(x.size, real)
        _core.run(name, {"x": numbers, "y": np.empty_like(numbers)}, x.size, 16, x.size)
    _core.run("add", {"x": grad, "y": target}, grad.size, _core.CHUNK, grad.size)


def record_images(dtype, shape):
    images = np.random.default_rng(0).uniform(0, 255, (3, *shape)).astype(dtype)
    for step, border in enumerate(["constant", "edge", "reflect"]):
        options = {"rotate": 30, "scale": (0.5, 2.0), "translate": 0.2, "flip": 0.5, "contrast": 0.3, "noise": 0.1}
        masks = images > 128 if dtype == np.uint8 else images
        fastopt.augment(images, masks=masks, seed=1, step=step, border=border, mask_fill=1, **options)


def record_labels(recorder):
    labels = np.random.default_rng(0).integers(0, 10, 100)
    arguments = {"label": labels, "classes": 10, "ignore_index": 3}
    recorder.add_op("count_labels", np.float64, arguments, 100, 100, lambda: float((labels != 3).sum()))


def record(path):
    """Write the file and return the number of calls in it. Every kernel and op is among them, for both types."""
    recorder = Recorder()
    with recorder.listening():
        for real in REALS:
            for size in SIZES:
                for case in (case for case in CASES if not case.common):
                    record_steps(recorder, case, real, size)
                record_stages(recorder, real, size)
            for shape in SHAPES:
                record_rows(real, shape)
        for dtype in (*REALS, np.uint8):
            for shape in IMAGES:
                record_images(dtype, shape)
        random.random_uint32(7, 3, 1, 100)
        record_labels(recorder)
    one_type = {("random_words", 4), ("count_labels", 8)}
    wanted = {(KERNEL_CALL, name, size) for name in _core.KERNELS for size in (4, 8)}
    wanted |= {(OP_CALL, name, size) for name in _core.OPS.keys() - dict(one_type).keys() for size in (4, 8)}
    wanted |= {(OP_CALL, *pair) for pair in one_type} | {(SUM_OF_SQUARES, "", size) for size in (4, 8)}
    assert recorder.seen == wanted
    path.write_bytes(b"".join(recorder.records))
    return recorder.calls
