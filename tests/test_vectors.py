"""Replay recorded calls of the C kernels on other processors, and under tools that check memory accesses."""

from __future__ import annotations

import platform
import shutil
import sys

import pytest
import vectors
from c_programs import (
    ARM64,
    CC,
    EMULATED_ARM64,
    HERE,
    WINDOWS,
    built,
    needs,
    needs_arm64,
    needs_wine,
    run,
    run_in_wine,
)

import fastopt
from fastopt import runtime

NO_AVX = "Nehalem"  # Intel's processors of 2008, the oldest that NumPy's wheels support
EMULATED = {NO_AVX: ["baseline"], "Haswell,-xsave": ["baseline"], "Haswell": ["avx2", "baseline"]}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors"
    return path, vectors.record(path)


LEVELS = ["-O0", pytest.param("-O3", marks=pytest.mark.slow)]  # the flags of the library come with the latter


@pytest.fixture(scope="module", params=LEVELS)
def program(request, tmp_path_factory):
    """Build the program for this machine."""
    if not shutil.which(CC[0]):
        pytest.skip("needs cc")
    return built(tmp_path_factory.mktemp("program"), "vectors", CC, request.param)


def test_replay_matches_on_this_machine(recorded, program):
    path, calls = recorded
    lines = "".join(f"{isa}: {calls} calls\n" for isa in runtime.available_isas())
    assert run(program, path) == (lines, 0)


def test_replay_reports_a_wrong_vector(recorded, program, tmp_path):
    data = bytearray(recorded[0].read_bytes())
    data[-1] ^= 1  # of the last array, after the last call
    (tmp_path / "wrong").write_bytes(data)
    said, code = run(program, tmp_path / "wrong")
    assert code == 1
    assert f"count_labels of float64 on {fastopt.isa()}: array 0 differs" in said


@pytest.mark.slow
@needs("valgrind")
def test_kernels_stay_within_their_arrays(recorded, program):
    """Every array is a block of the heap, whose bounds valgrind checks by the byte."""
    said, code = run("valgrind", "--quiet", "--error-exitcode=9", program, recorded[0])
    assert code == 0, said


@pytest.mark.parametrize("level", LEVELS)
@needs_arm64
def test_replay_matches_on_arm64(level, recorded, tmp_path):
    path, calls = recorded
    program = built(tmp_path, "vectors", ARM64, level)
    assert run(EMULATED_ARM64, program, path) == (f"baseline: {calls} calls\n", 0)


@pytest.mark.slow
@needs_wine
def test_replay_matches_on_windows(recorded, tmp_path):
    path, calls = recorded
    lines = [f"{isa}: {calls} calls" for isa in runtime.available_isas()]
    assert run_in_wine(tmp_path / "wine", built(tmp_path, "vectors", WINDOWS), path) == (lines, 0)


@pytest.mark.slow
@needs_arm64
def test_replay_reports_contraction_on_arm64(recorded, tmp_path):
    """Fused multiply-add changes bits, which the vectors detect."""
    program = built(tmp_path, "vectors", ARM64, "-ffp-contract=fast")
    said, code = run(EMULATED_ARM64, program, recorded[0])
    assert code == 1
    assert "adam of float32 on baseline: array 0 differs" in said


def emulated(cpu, *arguments):
    return run("qemu-x86_64", "-cpu", cpu, sys.executable, *arguments)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
@needs("qemu-x86_64")
@pytest.mark.parametrize(("cpu", "isas"), EMULATED.items(), ids=EMULATED)
def test_instruction_sets_are_those_of_the_processor_and_system(cpu, isas):
    """Without XSAVE, the operating system cannot save the registers of AVX."""
    said, code = emulated(cpu, "-c", "import fastopt; print(fastopt.runtime.available_isas())")
    assert (said.splitlines()[0], code) == (str(isas), 0)  # the emulator's warnings follow


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
@needs("qemu-x86_64")
def test_kernels_run_without_avx():
    said, code = emulated(NO_AVX, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "test_kernels.py")
    assert code == 0, said
