"""Run Python in another process; the threading layers that this build has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HANGS = 3600  # seconds: against a process that never ends; a busy machine must not reach it

needs_posix = pytest.mark.skipif(
    os.name != "posix", reason="needs POSIX: signals, permissions, symbolic links for all users, limits of resources"
)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc")


def run_python(*arguments, **environment):
    """Run Python with warnings as errors, and without settings of threads or instruction sets but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FASTOPT_", "OMP_", "GOMP_"))}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**kept, "PYTHONWARNINGS": "error", **environment},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )


# Another process loads it, because its runtime must not be loaded into this one before a test asks for it.
needs_openmp = pytest.mark.skipif(
    run_python("-c", "import fastopt._core.openmp").returncode != 0,
    reason="needs a build with OpenMP, and its runtime",
)
LAYERS = ["pool", pytest.param("openmp", marks=needs_openmp)]
