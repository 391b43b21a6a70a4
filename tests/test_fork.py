"""A process may fork after parallel steps: child and parent continue with the same bits, under both threading layers.

Each case runs in a process of its own with a timeout, so that a hang is a failure.
"""

from __future__ import annotations

import os

import pytest
from processes import needs_openmp, needs_proc, run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")

WARN = {"PYTHONWARNINGS": "default"}  # Python >= 3.12 warns of a fork beside threads, which is what is tested here

SETUP = """
import multiprocessing, os, threading
import numpy as np
import fastopt

param, grad = np.ones(50_000, np.float32), np.linspace(-1, 1, 50_000, dtype=np.float32)
expected = param.copy()
fastopt.set_num_threads(1)
optimizer = fastopt.Adam(expected, max_grad_norm=1.0)
for _ in range(9):
    optimizer.step(grad)
optimizer = fastopt.Adam(param, max_grad_norm=1.0)

def advance(threads=(1, 2, 4)):
    for n in threads:
        fastopt.set_num_threads(n)
        optimizer.step(grad)

def finish():
    advance()
    assert optimizer.steps == 9 and (param == expected).all()

def forked(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

def in_a_thread(work):
    failed = []
    def run():
        try:
            work()
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed, failed

def pooled(i):
    if optimizer.steps < 9:  # a child may get more than one task
        finish()
    return i
"""

CASES = {
    "main thread": "advance(); advance(); forked(finish); finish()",
    "twice": "advance(); forked(lambda: None); advance(); forked(finish); forked(finish); finish()",
    "nested": "advance(); forked(lambda: (advance(), forked(finish), finish())); advance(); finish()",
    "another thread": "advance(); advance(); in_a_thread(lambda: forked(finish)); finish()",
    "a thread that stepped": "in_a_thread(lambda: (advance(), advance(), forked(finish))); finish()",
    "child's other thread": "advance(); advance(); forked(lambda: in_a_thread(finish)); finish()",
    "pool": """
advance(); advance()
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(pooled, range(3), chunksize=1) == [0, 1, 2]
finish()
""",
}


def rows():
    """Return all cases under the pool, and under OpenMP; most of the latter are slow tests."""
    for case in CASES:
        yield pytest.param(case, "pool", id=f"{case}-pool")
        marks = [needs_openmp] if case in {"main thread", "pool"} else [needs_openmp, pytest.mark.slow]
        yield pytest.param(case, "openmp", id=f"{case}-openmp", marks=marks)


@pytest.mark.parametrize(("case", "layer"), list(rows()))
def test_child_and_parent_continue(case, layer):
    done = run_python("-c", SETUP + CASES[case], FASTOPT_THREADING_LAYER=layer, **WARN)
    assert done.returncode == 0, done.stderr


COUNT_THREADS = """
def count():
    advance()
    assert len(os.listdir("/proc/self/task")) == EXPECTED
    finish()

advance()
assert len(os.listdir("/proc/self/task")) >= 4
forked(count)
"""


@needs_proc
@needs_openmp
def test_forked_child_runs_on_one_thread_under_openmp():
    done = run_python("-c", SETUP + COUNT_THREADS.replace("EXPECTED", "1"), FASTOPT_THREADING_LAYER="openmp", **WARN)
    assert done.returncode == 0, done.stderr


@needs_proc
def test_forked_child_starts_its_own_workers_in_the_pool():
    done = run_python("-c", SETUP + COUNT_THREADS.replace("EXPECTED", "4"), FASTOPT_THREADING_LAYER="pool", **WARN)
    assert done.returncode == 0, done.stderr


@needs_openmp
def test_forked_child_may_leave_openmp_for_the_pool():
    code = """
def use_pool():
    fastopt.set_threading_layer("pool")
    advance()
    finish()

advance()
forked(use_pool)
advance()
finish()
"""
    done = run_python("-c", SETUP + code, FASTOPT_THREADING_LAYER="openmp", **WARN)
    assert done.returncode == 0, done.stderr
