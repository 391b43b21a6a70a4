from __future__ import annotations

import os

import pytest

import fastopt
from fastopt import runtime

# Old objects must not hide a warning, and a lone BLAS setting must not change what a test sees.
os.environ.pop("PYTHONWARNINGS", None)


@pytest.fixture(autouse=True)
def same_machine():
    """Leave instruction set and threads as they were."""
    isa, threads = fastopt.isa(), runtime._threads
    yield
    fastopt.set_isa(isa)
    fastopt.set_num_threads(threads)
