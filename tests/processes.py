"""Run Python in another process."""

from __future__ import annotations

import os
import subprocess
import sys

HANGS = 3600  # seconds: against a process that never ends; a busy machine must not reach it


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
