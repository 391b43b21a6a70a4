"""Run every kernel and op between inaccessible pages: reading or writing one element too far is a fault."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import signal

import numpy as np
import pytest
from cases import CASES, REALS, calls_on_rows, same_bits, start_values

import fastopt
from fastopt import runtime
from fastopt.augment import affine
from fastopt.optimizers import _build
from fastopt.reference._common import FLUSH_PERIOD

PAGE = mmap.PAGESIZE
SIZES = [*range(1, 70), 127, 128, 129, 1023, 1025, 4095, 4096, 4097, 8193]
if os.name != "posix":
    pytest.skip("needs mprotect and fork", allow_module_level=True)
LIBC = ctypes.CDLL(None, use_errno=True)
kept = []


def guarded(array, at_end):
    """Copy an array to the end (or the beginning) of memory that has an inaccessible page on both sides."""
    pages = -(-max(array.nbytes, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    kept.append(memory)
    whole = np.frombuffer(memory, np.uint8)
    address = whole.ctypes.data
    for page in (0, pages + 1):
        assert LIBC.mprotect(ctypes.c_void_p(address + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
    start = PAGE + (pages * PAGE - array.nbytes if at_end else 0)
    result = whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


@pytest.fixture(autouse=True)
def free():
    yield
    kept.clear()


def test_guard_pages_fault():
    """A child process that touches one is killed."""
    array = guarded(np.ones(5), at_end=True)
    child = os.fork()
    if not child:
        faulthandler.disable()
        ctypes.string_at(array.ctypes.data + array.nbytes, 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) in {signal.SIGSEGV, signal.SIGBUS}


@pytest.mark.parametrize("real", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_stay_within_their_arrays(case, real, monkeypatch):
    """Parameters, gradients and states have guard pages."""
    for isa in runtime.available_isas():
        fastopt.set_isa(isa)
        for size in SIZES:
            start = start_values(size, real)
            for at_end in (True, False):
                params, grads = guarded(start, at_end), guarded(start, at_end)
                plain = start.copy()
                other = case.make(plain)
                with monkeypatch.context() as patch:
                    patch.setattr(_build, "aligned_zeros", lambda *a, end=at_end: guarded(np.zeros(*a), end))
                    optimizer = case.make(params)
                for steps in (0, FLUSH_PERIOD - 1):  # a step that flushes states has its own loops
                    grads[...] = start[::-1]
                    for stepped, grad in ((optimizer, grads), (other, start[::-1].copy())):
                        stepped.load_state_dict({**stepped.state_dict(), "steps": steps})
                        stepped.step(grad)
                assert same_bits(params, plain)
        kept.clear()


SHAPES = [(2, 1), (3, 5), (16, 15), (17, 16), (33, 17), (5, 63), (19, 64), (18, 65), (3, 1025), (4097, 2), (70, 70)]


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_and_layers_stay_within_their_arrays(shape, real):
    rng = np.random.default_rng(0)
    x, target, grad = (rng.uniform(0, 1, shape).astype(real) for _ in range(3))
    columns = [rng.uniform(0.5, 1, shape[1]).astype(real) for _ in range(4)]
    labels = rng.integers(0, shape[1], shape[0])
    for isa in runtime.available_isas():
        fastopt.set_isa(isa)
        for at_end in (True, False):
            plain = calls_on_rows(x.copy(), target, labels, [*(c.copy() for c in columns), grad.copy()])
            fenced = [guarded(a, at_end) for a in (x, target, labels, *columns, grad)]
            for name, call in calls_on_rows(*fenced[:3], fenced[3:]).items():
                for got, wanted in zip(call(), plain[name](), strict=True):
                    assert np.array_equal(got, wanted), name
            kept.clear()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 6), (17, 33), (5, 6, 3), (9, 8, 4), (3, 3, 5)], ids=str)
def test_images_stay_within_their_arrays(shape, interpolation, border, dtype):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (6, *shape)).astype(dtype)
    matrices = rng.normal(0, 3, (6, 2, 3)) * 10.0 ** rng.integers(-1, 4, (6, 1, 1))
    options = {"interpolation": interpolation, "border": border}
    for isa in runtime.available_isas():
        fastopt.set_isa(isa)
        wanted = affine(images, matrices, **options)
        for at_end in (True, False):
            out = guarded(np.zeros_like(images), at_end)
            affine(guarded(images, at_end), matrices, out=out, **options)
            assert np.array_equal(out, wanted)
