"""Replay recorded calls of the C kernels on other processors, and under tools that check memory accesses."""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import vectors

import fastopt
from fastopt import runtime

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
NO_AVX = "Nehalem"  # Intel's processors of 2008, the oldest that NumPy's wheels support
EMULATED = {NO_AVX: ["baseline"], "Haswell,-xsave": ["baseline"], "Haswell": ["avx2", "baseline"]}
ARM64 = ("aarch64-linux-gnu-gcc", "qemu-aarch64")


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors"
    return path, vectors.record(path)


def built(folder, compiler, *options):
    """Build the program that replays vectors, with the flags of the library."""
    if not CSRC.exists():
        pytest.skip("needs the sources")
    flags = re.search(r"^EXACT_AND_FAST = (\[.*\])$", (HERE.parent / "setup.py").read_text(), re.MULTILINE)
    sources = [HERE / "vectors.c", *(path for path in CSRC.glob("*.c") if path.stem != "pool")]
    program = folder / "vectors"
    command = [compiler, *ast.literal_eval(flags[1]), "-g", "-Wall", "-Werror", f"-I{CSRC}", *options, *sources]
    subprocess.run([*command, "-o", program, "-lm"], check=True)
    return program


LEVELS = ["-O0", pytest.param("-O3", marks=pytest.mark.slow)]  # the flags of the library come with the latter


@pytest.fixture(scope="module", params=LEVELS)
def program(request, tmp_path_factory):
    """Build the program for this machine."""
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    return built(tmp_path_factory.mktemp("program"), "cc", request.param)


def replayed(*command):
    """Return the output of a program and its exit code."""
    # A choice of OpenBLAS' kernels for this processor can need instructions that the emulated one lacks.
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.stdout + done.stderr, done.returncode


def test_replay_matches_on_this_machine(recorded, program):
    path, calls = recorded
    lines = "".join(f"{isa}: {calls} calls\n" for isa in runtime.available_isas())
    assert replayed(program, path) == (lines, 0)


def test_replay_reports_a_wrong_vector(recorded, program, tmp_path):
    data = bytearray(recorded[0].read_bytes())
    data[-1] ^= 1  # of the last array, after the last call
    (tmp_path / "wrong").write_bytes(data)
    said, code = replayed(program, tmp_path / "wrong")
    assert code == 1
    assert f"count_labels of float64 on {fastopt.isa()}: array 0 differs" in said


@pytest.mark.slow
@needs("valgrind")
def test_kernels_stay_within_their_arrays(recorded, program):
    """Every array is a block of the heap, whose bounds valgrind checks by the byte."""
    said, code = replayed("valgrind", "--quiet", "--error-exitcode=9", program, recorded[0])
    assert code == 0, said


@pytest.mark.parametrize("level", LEVELS)
@needs(*ARM64)
def test_replay_matches_on_arm64(level, recorded, tmp_path):
    path, calls = recorded
    program = built(tmp_path, ARM64[0], "-static", level)
    assert replayed(ARM64[1], program, path) == (f"baseline: {calls} calls\n", 0)


@pytest.mark.slow
@needs(*ARM64)
def test_replay_reports_contraction_on_arm64(recorded, tmp_path):
    """Fused multiply-add changes bits, which the vectors detect."""
    program = built(tmp_path, ARM64[0], "-static", "-ffp-contract=fast")
    said, code = replayed(ARM64[1], program, recorded[0])
    assert code == 1
    assert "adam of float32 on baseline: array 0 differs" in said


def emulated(cpu, *arguments):
    return replayed("qemu-x86_64", "-cpu", cpu, sys.executable, *arguments)


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
