from __future__ import annotations

import pytest

import fastopt
from fastopt import runtime


@pytest.fixture(autouse=True)
def same_machine():
    """Leave instruction set and threads as they were."""
    isa, threads = fastopt.isa(), runtime._setting
    yield
    fastopt.set_isa(isa)
    fastopt.set_num_threads(threads)
