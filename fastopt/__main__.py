"""Print a report of the build and the machine: ``python -m fastopt``."""

from __future__ import annotations

import platform

import numpy as np

import fastopt
from fastopt import _core, runtime


def report() -> str:
    """Return the version, compiler, instruction sets and threads, one per line."""
    lines = {
        "fastopt": fastopt.__version__,
        "Python, NumPy": f"{platform.python_version()}, {np.__version__}",
        "machine": f"{platform.machine()}, {platform.system()}",
        "compiler": _core.COMPILER,
        "instruction sets": f"{', '.join(runtime.available_isas())}; in use: {fastopt.isa()}",
        "threads": f"at most {fastopt.num_threads()}; processors: {runtime.available_threads()}",
        "threading layer": fastopt.threading_layer(),
    }
    return "\n".join(f"{name + ':':18}{text}" for name, text in lines.items())


if __name__ == "__main__":
    print(report())
