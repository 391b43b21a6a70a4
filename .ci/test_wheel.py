"""Test the installed fastopt: python .ci/test_wheel.py [arguments of pytest].

Run it in a folder that has tests/ and pyproject.toml but not the sources. It runs the report, the main example and the
fast tests, which cover every instruction set and threading layer in one process where results could depend on them, and
then the steps, losses, layers and examples once more with each of them forced by the environment, as a user does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

from fastopt import runtime

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
FORCED = [f"tests/test_{name}.py" for name in ("exact", "kernels", "optimizers", "losses", "layers", "examples")]


def run(*arguments: str, **environment: str) -> None:
    """Run Python, print the command, and exit with its status if that is not 0."""
    print("==", *(f"{name}={value}" for name, value in environment.items()), "python", *arguments, flush=True)
    status = subprocess.run([sys.executable, *arguments], env=os.environ | environment, check=False).returncode
    if status:
        sys.exit(status)


def layers() -> list[str]:
    """Return the threading layers that this wheel has on this machine."""
    try:
        runtime.set_threading_layer("openmp")
    except ImportError as error:
        print(f"== {error}")
        return ["pool"]
    return ["pool", "openmp"]


def main(*options: str) -> None:
    """Run everything; the options go to pytest."""
    run("-m", "fastopt")
    run("-m", "fastopt.examples.digits")
    run(*PYTEST, *options)
    for isa, layer in product(runtime.available_isas(), layers()):
        run(*PYTEST, *options, *FORCED, FASTOPT_ISA=isa, FASTOPT_THREADING_LAYER=layer)


if __name__ == "__main__":
    main(*sys.argv[1:])
