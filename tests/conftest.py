from __future__ import annotations

import pytest

import fastopt
from fastopt import runtime


@pytest.fixture(autouse=True)
def same_machine():
    """Restore the instruction set, the threading layer and the number of threads after each test."""
    isa, layer = fastopt.isa(), fastopt.threading_layer()
    yield
    fastopt.set_threading_layer(layer)
    fastopt.set_isa(isa)
    runtime._read_environment()


@pytest.fixture(params=[".npz", ".safetensors"])
def file(request, tmp_path):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"run{request.param}"
