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


@pytest.fixture(params=[".npz", ".safetensors"])
def file(request, tmp_path):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"run{request.param}"
