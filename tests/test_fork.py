"""A process may fork after parallel steps: child and parent continue, with one thread or more, with the same bits."""

from __future__ import annotations

import os

import pytest
from processes import run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

SETUP = """
import multiprocessing, os, threading
import numpy as np
import fastopt

param, grad = np.ones(50_000, np.float32), np.linspace(-1, 1, 50_000, dtype=np.float32)
wanted = param.copy()
fastopt.set_num_threads(1)
optimizer = fastopt.Adam(wanted, max_grad_norm=1.0)
for _ in range(9):
    optimizer.step(grad)
optimizer = fastopt.Adam(param, max_grad_norm=1.0)

def advance(threads=(1, 2, 4)):
    for n in threads:
        fastopt.set_num_threads(n)
        optimizer.step(grad)

def finish():
    advance()
    assert optimizer.steps == 9 and (param == wanted).all()

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

def in_thread(work):
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
    "another thread": "advance(); advance(); in_thread(lambda: forked(finish)); finish()",
    "a thread that stepped": "in_thread(lambda: (advance(), advance(), forked(finish))); finish()",
    "child's other thread": "advance(); advance(); forked(lambda: in_thread(finish)); finish()",
    "pool": """
advance(); advance()
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(pooled, range(3), chunksize=1) == [0, 1, 2]
finish()
""",
}


@pytest.mark.parametrize("case", CASES)
def test_child_and_parent_continue(case):
    code = SETUP + CASES[case]
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
