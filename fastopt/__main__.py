"""``python -m fastopt``: what this build is and what it found on this machine."""

from __future__ import annotations

import platform

import numpy as np

import fastopt
from fastopt import _kernels, runtime


def report() -> str:
    """Describe version, compiler, OpenMP, instruction sets and threads, a line each."""
    date = str(_kernels.OPENMP)
    openmp = f"{date[:4]}-{date[4:]}" if _kernels.OPENMP else "none: built without it, steps are serial"
    lines = {
        "fastopt": fastopt.__version__,
        "Python, NumPy": f"{platform.python_version()}, {np.__version__}",
        "machine": f"{platform.machine()}, {platform.system()}",
        "compiler": _kernels.COMPILER,
        "OpenMP": openmp,
        "instruction sets": f"{', '.join(runtime.available_isas())}; in use: {fastopt.isa()}",
        "threads": f"{fastopt.num_threads()} in large steps; processors: {runtime.available_threads()}",
    }
    return "\n".join(f"{name + ':':18}{text}" for name, text in lines.items())


if __name__ == "__main__":
    print(report())
