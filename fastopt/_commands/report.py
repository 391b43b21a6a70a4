"""The report of the build, the machine and the libraries that fastopt can work with."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np

import fastopt
from fastopt import _core, runtime

EXTRAS = ["torch", "scikit-learn", "thinc", "spacy", "autograd", "jax", "optax", "numba", "deepspeed", "mpi4py"]
EXTRAS += ["safetensors", "threadpoolctl", "matplotlib", "tqdm"]


def report() -> str:
    """Return versions, compiler, instruction sets, threads and the extras that are installed, one topic per line."""
    found = versions(EXTRAS)
    lines = {
        "fastopt": fastopt.__version__,
        "Python, NumPy": f"{platform.python_version()}, {np.__version__}",
        "machine": f"{platform.machine()}, {platform.system()}; {processor()}",
        "compiler": _core.COMPILER,
        "instruction sets": f"{', '.join(runtime.available_isas())}; in use: {fastopt.isa()}",
        "threads": f"at most {fastopt.num_threads()}; processors: {runtime.available_threads()}",
        "threading layer": fastopt.threading_layer(),
        "extras found": ", ".join(f"{name} {version}" for name, version in found.items()) or "none",
        "not installed": ", ".join(name for name in EXTRAS if name not in found) or "none",
    }
    return "\n".join(f"{name + ':':18}{text}" for name, text in lines.items())


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed. None of them is imported."""
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def processor() -> str:
    """Return the name of the processor's model, or "unknown processor"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
