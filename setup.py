"""Build the extensions: the C kernels with their Cython core, and the optional OpenMP layer."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Exactness rests on these: no contraction to fused multiply-add, and never -ffast-math (linking it would switch the
# whole process to flush-to-zero). gcc vectorizes sqrt and division only with -O3 and without errno and traps.
EXACT_AND_FAST = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fopenmp-simd"]
# gcc unrolls loops of up to 16 iterations, such as the ends of vectorized loops, and merges iterations of outer loops,
# where that gains nothing; the wheel is 60 kB smaller without. (Ends that are not vectorized save 75 kB more, but a
# step of small arrays takes 13 % longer.) clang warns that it does not use the parameters.
LESS_CODE = [
    "--param=max-completely-peel-times=4",
    "--param=unroll-jam-max-unroll=1",
    "-Wno-unused-command-line-argument",
]
SANITIZERS = os.environ.get("FASTOPT_SANITIZE")
SANITIZE = [f"-fsanitize={SANITIZERS}", "-g"] if SANITIZERS else []
# Python's own flags ask for debug symbols, which make the library three times as large. CFLAGS=-g keeps them.
SMALL = [] if SANITIZE or "-g" in os.environ.get("CFLAGS", "").split() else ["-g0"]


def extension(name, *sources, flags=()):
    """Describe the extension ``fastopt._core.<name>``: its Cython module and C sources."""
    return Extension(
        f"fastopt._core.{name}",
        sources=[f"fastopt/_core/{name}.pyx", *map(str, sources)],
        depends=sorted(str(path) for path in Path("csrc").rglob("*") if path.suffix in {".h", ".def"}),
        include_dirs=["csrc"],
        extra_compile_args=[*EXACT_AND_FAST, *LESS_CODE, "-fvisibility=hidden", "-pthread", *flags, *SMALL, *SANITIZE],
        extra_link_args=["-pthread", *flags, *(["-Wl,-s"] if SMALL and sys.platform == "linux" else []), *SANITIZE],
    )


KERNELS = sorted(path for path in Path("csrc").glob("*.c") if path.stem != "step")
EXTENSIONS = [
    extension("kernels", *KERNELS),
    extension("buffers", flags=["-O2"]),
    extension("step", "csrc/step.c", flags=["-O2"]),
    extension("tensors", flags=["-O2"]),
    extension("gradients", flags=["-O2"]),
    extension("plan", "csrc/step.c", flags=["-O2"]),
    extension("openmp", flags=["-fopenmp"]),
]


class ParallelBuild(build_ext):
    """Compile all sources side by side: one after the other they take a minute."""

    def finalize_options(self):
        """Choose the compiler on Windows: clang of the package ziglang.

        MSVC has no GNU C, and gcc does not align AVX registers on the stack of Windows (its bug 54412). "mingw32" is
        setuptools' name for compilers with gcc's options. Without a target, zig compiles for this processor only.
        """
        super().finalize_options()
        if sys.platform == "win32":
            import ziglang  # noqa: PLC0415  a build requirement on Windows only

            zig = Path(ziglang.__file__).with_name("zig.exe").as_posix()
            os.environ["CC"] = f'"{zig}" cc -target x86_64-windows-gnu -fno-sanitize=undefined'
            self.compiler = "mingw32"

    def build_extensions(self):
        """Build the extensions on all processors."""
        self.parallel = self.parallel or os.cpu_count()
        compile_serially = self.compiler.compile

        def compile_in_parallel(sources, **options):
            with ThreadPoolExecutor(self.parallel) as pool:
                objects = pool.map(lambda source: compile_serially([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_in_parallel
        super().build_extensions()


# Functions without the attributes of Python functions make each module 8 kB smaller.
modules = cythonize(EXTENSIONS, build_dir="build", compiler_directives={"binding": False})
modules[-1].optional = True  # skipped where the compiler has no OpenMP; cythonize ignores the argument of Extension
setup(ext_modules=modules, cmdclass={"build_ext": ParallelBuild})
