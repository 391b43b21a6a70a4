"""Build the one extension: the Cython core and the C kernels."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Exactness rests on these: no contraction to fused multiply-add, and never -ffast-math (linking it would switch the
# whole process to flush-to-zero). gcc vectorises sqrt and division only with -O3 and without errno and traps.
EXACT_AND_FAST = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fopenmp-simd"]
HIDDEN = ["-fvisibility=hidden"]
THREADS = ["-pthread"]
SANITIZE = [f"-fsanitize={os.environ['FASTOPT_SANITIZE']}", "-g"] if os.environ.get("FASTOPT_SANITIZE") else []

if sys.platform == "win32":
    raise SystemExit("fastopt builds with gcc or clang; on Windows use WSL")

CORE = Extension(
    "fastopt._core._kernels",
    sources=["fastopt/_core/_kernels.pyx", *map(str, sorted(Path("csrc").glob("*.c")))],
    depends=[
        *map(
            str, sorted([*Path("csrc").rglob("*.h"), *Path("csrc").glob("*.def"), *Path("fastopt/_core").glob("*.pxi")])
        )
    ],
    include_dirs=["csrc"],
    extra_compile_args=[*EXACT_AND_FAST, *HIDDEN, *THREADS, *SANITIZE],
    extra_link_args=[*THREADS, *SANITIZE],
)

setup(ext_modules=cythonize([CORE], build_dir="build"))
