"""Tests in processes of their own, and the threading layers that this build has."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

HANG = 600  # seconds after which a subprocess counts as hanging; none needs a tenth of that, even on a busy machine
needs_openmp = pytest.mark.skipif(
    importlib.util.find_spec("fastopt._core.openmp") is None, reason="fastopt was built without OpenMP"
)
has_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system has no /proc")
LAYERS = ["pool", pytest.param("openmp", marks=needs_openmp)]


def run(code, **environment):
    """Run code in a process of its own, with only these of fastopt's and OpenMP's variables."""
    names = ("FASTOPT_ISA", "FASTOPT_NUM_THREADS", "FASTOPT_THREADING_LAYER", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
