"""Build the C programs of the tests from the sources of the library, and run them here or in emulators."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
CC = ["cc"]
ARM64, EMULATED_ARM64 = ["aarch64-linux-gnu-gcc", "-static"], "qemu-aarch64"
WINDOWS = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-fno-sanitize=undefined"]


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


needs_cc = needs("cc")
needs_arm64 = needs(ARM64[0], EMULATED_ARM64)


def needs_wine(test):
    needs_zig = pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="needs ziglang")
    return needs("wine")(needs_zig(test))


def flags():
    """Return the flags of the library."""
    text = (HERE.parent / "setup.py").read_text()
    lists = re.findall(r"^(?:EXACT_AND_FAST|LESS_CODE) = (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    return [flag for part in lists for flag in ast.literal_eval(part)]


def built(folder, name, compiler, *options):
    """Build a program of the tests with the flags of the library, to which options are added."""
    if not CSRC.exists():
        pytest.skip("needs the sources")
    sources = [path for path in CSRC.glob("*.c") if (path.stem == "pool") == (name == "pool")]
    program = folder / name
    command = [*compiler, *flags(), "-g", "-Wall", "-Werror", f"-I{CSRC}", *options]
    subprocess.run([*command, HERE / f"{name}.c", *sources, "-o", program, "-lm", "-pthread"], check=True)
    return program


def run(*command, **environment):
    """Return the output of a program, and its exit code."""
    # A choice of OpenBLAS' kernels for this processor can need instructions that the emulated one lacks.
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=kept | environment)
    return done.stdout + done.stderr, done.returncode


def run_in_wine(folder, *command):
    said, code = run("wine", *command, WINEPREFIX=str(folder), WINEDEBUG="-all")
    return [line for line in said.splitlines() if "wine" not in line], code
