"""Test the installed fastopt: python .ci/test_wheel.py [arguments of pytest].

Run it in a folder that has tests/ and pyproject.toml but not the sources. Where results could depend on them, the fast
tests compare all instruction sets and threading layers in one process. Then the environment forces each of them: the
main example must print the same losses, and the other tests of kernels must pass.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import product

from fastopt import runtime

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
FORCED = [f"tests/test_{name}.py" for name in ("optimizers", "kernels", "losses", "layers")]


def run(*arguments: str, **environment: str) -> None:
    """Run Python, and exit with its status if that is not 0."""
    print("==", *(f"{name}={value}" for name, value in environment.items()), "python", *arguments, flush=True)
    status = subprocess.run([sys.executable, *arguments], env=os.environ | environment, check=False).returncode
    if status:
        sys.exit(status)


def digits(**environment: str) -> str:
    """Train on the digits, and return what the example prints, without the times."""
    command = [sys.executable, "-m", "fastopt.examples.digits"]
    done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
    return re.sub(r" +\d+\.\d%$", "", done.stdout, flags=re.MULTILINE)


def layers() -> list[str]:
    """Return the threading layers that this wheel has on this machine."""
    try:
        runtime.set_threading_layer("openmp")
    except ImportError as error:
        print("==", error)
        return ["pool"]
    return ["pool", "openmp"]


def main(*options: str) -> None:
    """Run everything; the options go to pytest."""
    run("-m", "fastopt")
    expected = digits()
    print(expected)
    run(*PYTEST, *options)
    for isa, layer in product(runtime.available_isas(), layers()):
        forced = {"FASTOPT_ISA": isa, "FASTOPT_THREADING_LAYER": layer}
        if digits(**forced) != expected:
            sys.exit(f"the main example must print the same losses with {forced}")
        run(*PYTEST, *options, *FORCED, **forced)


if __name__ == "__main__":
    main(*sys.argv[1:])
