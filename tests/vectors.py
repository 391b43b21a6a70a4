"""Record calls of every kernel and task, as the library makes them, in a file that vectors.c replays elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import numpy as np
from cases import CASES, REALS, calls_on_rows, hard_numbers, start_values

import fastopt
from fastopt import _core, kernels, reference
from fastopt._util import random
from fastopt.losses import cross_entropy

KERNEL_CALL, TASK_CALL, SUM_OF_SQUARES = range(3)
NULL = -1
SIZES = [1, 15, 64, 1001]
SHAPES = [(2, 1), (17, 3), (33, 17), (5, 65), (3, 1025)]
IMAGES = [(1, 7), (9, 8, 3), (17, 33)]


def words(*numbers):
    return np.array(numbers, "<i8").tobytes()


def doubles(*numbers):
    return np.array(numbers, "<f8").tobytes()


def padded(data):
    return data + bytes(-len(data) % 8)


class Recorder:
    """The records so far, and what they are of."""

    def __init__(self):
        self.records, self.calls, self.seen = [], 0, set()

    def add(self, kind, name, real, count, grain, numbers, before, after, total=0.0):
        """Add a call: of ``before`` and ``after``, the contents of its arrays, which are None where it gets NULL."""
        rows = {KERNEL_CALL: _core.KERNELS, TASK_CALL: _core.TASKS}.get(kind)
        row = (rows[name].index if kind == KERNEL_CALL else rows[name].row) if rows else 0
        self.calls += 1
        self.seen.add((kind, name, np.dtype(real).itemsize))
        self.records.append(words(kind, row, REALS.index(real), count, grain, len(numbers), len(before)))
        self.records.append(doubles(total, *numbers))
        for old, new in zip(before, after, strict=True):
            if old is None:
                self.records.append(words(NULL, 1))
            else:
                item = old.itemsize if old.dtype.kind == "f" else 1
                self.records += [words(old.nbytes, item), padded(old.tobytes()), padded(new.tobytes())]

    @contextmanager
    def listening(self):
        """Add all tasks that run meanwhile."""
        run = _core.run

        def recorded(name, arrays, numbers, count, grain, work):
            task = _core.TASKS[name]
            given = [arrays[own] for own in task.arrays]
            before = [None if array is None else array.copy() for array in given]
            total = run(name, arrays, numbers, count, grain, work)
            real = np.float64 if arrays["x"].itemsize == 8 else np.float32
            self.add(TASK_CALL, name, real, count, grain, [numbers[own] for own in task.numbers], before, given, total)
            return total

        with mock.patch.object(_core, "run", recorded):
            yield


def record_steps(recorder, case, real, size):
    """Two steps of a case, with coefficients as its class packs them, and the bits of the bare call."""
    param, states = start_values(size, real), case.make(np.zeros(0)).state
    streams = {"param": param, "grad": None, **{name: np.zeros(size, real) for name in states}}
    hyper = dict(case.make(np.zeros(0)).param_groups[0])
    kernel = case.cls._kernel(hyper)
    for step in (1, 2):
        streams["grad"] = hard_numbers(size, real, seed=step)
        before = {name: stream.copy() for name, stream in streams.items()}
        coefficients = case.cls._all_static_coefficients(hyper) | case.cls._all_step_coefficients([hyper], step - 1)[0]
        lr = hyper["lr"](step - 1) if callable(hyper["lr"]) else hyper["lr"]
        getattr(kernels, case.cls.rule)(**streams, step=step, **{**hyper, "lr": lr})
        row = _core.KERNELS[kernel]
        numbers = [coefficients[name] for name in row.coefficients]
        old, new = ([arrays[name] for name in row.operands] for arrays in (before, streams))
        recorder.add(KERNEL_CALL, kernel, real, size, 0, numbers, old, new)


def record_stages(recorder, real, size):
    ema, param = start_values(size, real), hard_numbers(size, real)
    for decay in (0.25, 0.999):
        averaged = ema.copy()
        with np.errstate(all="ignore"):
            reference.ema(averaged, param, decay=decay)
        recorder.add(KERNEL_CALL, "ema", real, size, 0, [decay, 1 - decay], [ema, param], [averaged, param])
    recorder.add(KERNEL_CALL, "zero_grad", real, size, 0, [0.0], [param], [np.zeros_like(param)])
    recorder.add(SUM_OF_SQUARES, "", real, size, 0, [], [param], [param], reference.sum_squares([param]))


def record_rows(real, shape):
    """All losses and layers on rows, and what only some of their options do."""
    rng = np.random.default_rng(0)
    x = (4 * rng.normal(0, 1, shape)).astype(real)
    target, grad = (rng.uniform(0, 1, shape).astype(real) for _ in range(2))
    columns = [rng.uniform(0.5, 1, shape[1]).astype(real) for _ in range(4)]
    labels = rng.integers(0, shape[1], shape[0])
    for call in calls_on_rows(x, target, labels, [*columns, grad]).values():
        call()
    fastopt.dice(x, labels)
    fastopt.dice(target, labels, squared=True, per_image=False)
    cross_entropy(x, np.where(labels, labels, -100), ignore_index=-100)
    for name in ("exponential", "logarithm"):
        numbers = hard_numbers(x.size, real)
        _core.run(name, {"x": numbers, "y": np.empty_like(numbers)}, {}, x.size, 16, x.size)
    _core.run("add", {"x": grad, "y": target}, {}, grad.size, _core.CHUNK, grad.size)


def record_images(dtype, shape):
    images = np.random.default_rng(0).uniform(0, 255, (3, *shape)).astype(dtype)
    for step, border in enumerate(["constant", "edge", "reflect"]):
        options = {"rotate": 30, "scale": (0.5, 2.0), "translate": 0.2, "flip": 0.5, "contrast": 0.3, "noise": 0.1}
        fastopt.augment(images, seed=1, step=step, border=border, **options)


def record_labels(recorder):
    labels = np.random.default_rng(0).integers(0, 10, 100)
    counted = float((labels != 3).sum())
    recorder.add(TASK_CALL, "count_labels", np.float64, 100, 100, [10, 3], [labels], [labels], counted)


def record(path):
    """Write the file, and give how many calls it has; all that there is to call is among them."""
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
    of_bytes, of_integers = {"affine_bytes", "random_words"}, {"count_labels"}
    both = [(KERNEL_CALL, name) for name in _core.KERNELS] + [(SUM_OF_SQUARES, "")]
    both += [(TASK_CALL, name) for name in _core.TASKS.keys() - of_bytes - of_integers]
    wanted = {(*call, size) for call in both for size in (4, 8)}
    wanted |= {(TASK_CALL, name, 4) for name in of_bytes} | {(TASK_CALL, name, 8) for name in of_integers}
    assert recorder.seen == wanted
    path.write_bytes(b"".join(recorder.records))
    return recorder.calls
