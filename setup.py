"""Build the one extension: the Cython core and the C kernels, with OpenMP where the compiler has it."""

import os
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

# Exactness rests on these: no contraction to fused multiply-add, and never -ffast-math (linking it would switch the
# whole process to flush-to-zero). gcc vectorises sqrt and division only with -O3 and without errno and traps.
EXACT_AND_FAST = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fopenmp-simd"]
HIDDEN = ["-fvisibility=hidden"]

# gcc; clang with LLVM's runtime beside it; Apple's clang with libomp installed.
OPENMP_FLAGS = [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]

OPENMP_PROGRAM = """
#include <omp.h>
int main(void) { int n = 0;
#pragma omp parallel reduction(+:n)
n += omp_get_num_threads() > 0;
return n == 0; }
"""


class BuildExt(build_ext):
    """build_ext that asks the compiler for OpenMP first."""

    def build_extensions(self):
        """Add the first set of OpenMP flags that works; without one the same source is serial."""
        wanted = not os.environ.get("FASTOPT_NO_OPENMP")
        found = next((flags for flags in OPENMP_FLAGS if wanted and self.builds(*flags)), None)
        print("fastopt: building", f"with OpenMP ({' '.join(found[0])})" if found else "without OpenMP: serial")
        for extension in self.extensions:
            extension.extra_compile_args += found[0] if found else []
            extension.extra_link_args += found[1] if found else []
        super().build_extensions()

    def builds(self, compile_args, link_args):
        """Whether the OpenMP program compiles and links, in the way of the real build, with these arguments."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "openmp.c")
            source.write_text(OPENMP_PROGRAM)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_args)
                self.compiler.link_shared_object(objects, str(Path(folder, "openmp.so")), extra_postargs=link_args)
            except (CompileError, LinkError):
                return False
        return True


if sys.platform == "win32":
    raise SystemExit("fastopt builds with gcc or clang; on Windows use WSL")

CORE = Extension(
    "fastopt._kernels",
    sources=["fastopt/_kernels.pyx", *map(str, sorted(Path("csrc").glob("*.c")))],
    depends=[*map(str, sorted([*Path("csrc").glob("*.h"), *Path("fastopt").glob("*.pxi")])), "csrc/kernels.def"],
    include_dirs=["csrc"],
    extra_compile_args=[*EXACT_AND_FAST, *HIDDEN],
    extra_link_args=[],
)

setup(ext_modules=cythonize([CORE], build_dir="build"), cmdclass={"build_ext": BuildExt})
