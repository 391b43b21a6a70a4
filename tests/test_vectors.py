"""The same C sources elsewhere: on other processors, and under tools that see what no test of results can."""

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
NO_AVX = "Nehalem"  # Intel's processors of 2008, the last that NumPy's wheels still run on
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
    """The program for this machine."""
    if not shutil.which("cc"):
        pytest.skip("needs cc")
    return built(tmp_path_factory.mktemp("program"), "cc", request.param)


def replayed(*command):
    """Give what a program says, and its exit code."""
    # Where somebody has chosen OpenBLAS' kernels for this processor, another one would not have those instructions.
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.stdout + done.stderr, done.returncode


def test_here(recorded, program):
    path, calls = recorded
    lines = "".join(f"{isa}: {calls} calls\n" for isa in runtime.available_isas())
    assert replayed(program, path) == (lines, 0)


def test_a_vector_that_is_wrong_is_found(recorded, program, tmp_path):
    data = bytearray(recorded[0].read_bytes())
    data[-1] ^= 1  # of the last array, as it was behind the last call
    (tmp_path / "wrong").write_bytes(data)
    said, code = replayed(program, tmp_path / "wrong")
    assert code == 1
    assert f"count_labels of float64 on {fastopt.isa()}: array 0 differs" in said


@pytest.mark.slow
@needs("valgrind")
def test_memory_that_is_not_theirs_is_not_read(recorded, program):
    """Every array is a block of the heap, whose ends valgrind guards by the byte."""
    said, code = replayed("valgrind", "--quiet", "--error-exitcode=9", program, recorded[0])
    assert code == 0, said


@pytest.mark.parametrize("level", LEVELS)
@needs(*ARM64)
def test_arm64(level, recorded, tmp_path):
    path, calls = recorded
    program = built(tmp_path, ARM64[0], "-static", level)
    assert replayed(ARM64[1], program, path) == (f"baseline: {calls} calls\n", 0)


@pytest.mark.slow
@needs(*ARM64)
def test_arm64_with_contraction_is_found(recorded, tmp_path):
    """With fused multiply-add the bits are others, and the vectors see it."""
    program = built(tmp_path, ARM64[0], "-static", "-ffp-contract=fast")
    said, code = replayed(ARM64[1], program, recorded[0])
    assert code == 1
    assert "adam of float32 on baseline: array 0 differs" in said


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
@needs("qemu-x86_64")
def test_without_avx(tmp_path):
    emulated = ["qemu-x86_64", "-cpu", NO_AVX, sys.executable]
    said, code = replayed(*emulated, "-c", "import fastopt; print(fastopt.runtime.available_isas())")
    assert (said, code) == ("['baseline']\n", 0)
    said, code = replayed(*emulated, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "test_kernels.py")
    assert code == 0, said
