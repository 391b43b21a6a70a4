"""A kernel on arrays that stay in cache, on one thread, and the formula of its rule in plain C (``bare_rules.c``)."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
from c_programs import CSRC, flags

from fastopt import _core
from fastopt._bench.workloads import Workload
from fastopt._util.arrays import aligned_zeros
from fastopt.reference._common import FLUSH_PERIOD

TARGETS = {"baseline": [], "avx2": ["-mavx2"], "avx512": ["-mavx512f", "-mprefer-vector-width=512"]}
KERNELS = {"adamw": "adam"}  # of rules with another name
COEFFICIENTS = {
    "scale": 1, "l2": 0, "param_decay": 1, "flush": 0, "step_size": 1e-3, "buffer_decay": 0.9, "grad_weight": 1,
    "nesterov": 0, "nesterov_buffer": 0, "nesterov_grad": 0, "alpha": 0.999, "one_minus_alpha": 0.001, "eps_root": 0,
    "eps": 1e-8, "momentum": 0, "beta1": 0.9, "one_minus_beta1": 0.1, "beta2": 0.999, "one_minus_beta2": 0.001,
    "inv_sqrt_bias2": 1.25,
}  # fmt: skip
DECAY = {"adamw": {"param_decay": 1 - 1e-5}}


def build(folder, isa):
    """Compile the kernels of an instruction set and the bare rules of both types with the flags of the library."""
    kernels = Path(folder, f"{isa}.o")
    command = ["cc", *flags(), "-fPIC", f"-I{CSRC}", *TARGETS[isa]]
    subprocess.run([*command, "-c", CSRC / f"isa_{isa}.c", "-o", kernels], check=True)
    for real in ("float", "double"):
        names = [f"-DNUMBER={real}", f"-DTABLE=fastopt_table_{isa}"]
        source, library = Path(__file__).with_name("bare_rules.c"), Path(folder, f"{isa}_{real}.so")
        subprocess.run([*command, *names, "-shared", source, kernels, "-o", library], check=True)


class KernelLoop(Workload):
    """Thousands of steps on the same arrays, one of `FLUSH_PERIOD` of which flushes tiny values."""

    def __init__(self, name, folder, rule, isa, real, size):
        self.library = ctypes.CDLL(str(Path(folder, f"{isa}_{'float' if real == 'float32' else 'double'}.so")))
        self.name, self.rule = name, "division_and_root" if name == "division and root" else rule
        self.times = FLUSH_PERIOD * max(1, 200_000 // (size * FLUSH_PERIOD))
        self.size, self.real = ctypes.c_int64(size), np.dtype(real)
        kernel = _core.KERNELS[KERNELS.get(rule, rule)]
        self.index = ctypes.c_int(kernel.index)
        values = {**COEFFICIENTS, **DECAY.get(rule, {})}
        self.coefficients, self.flushing = (
            np.array([{**values, "flush": flush}[name] for name in kernel.coefficients], real) for flush in (0, 1)
        )
        self.iterate = self.run_kernel if name == "fastopt" else self.run_bare
        self.restart()

    def restart(self):
        """Make the operands: param, grad and states, of magnitudes that no rule flushes."""
        rng = np.random.default_rng(0)
        self.arrays = [aligned_zeros((self.size.value,), self.real) for _ in range(5)]
        for array in self.arrays:
            array[...] = rng.uniform(0.5, 1.0, array.size)
        self.operands = (ctypes.c_void_p * 5)(*(array.ctypes.data for array in self.arrays))

    def run_kernel(self):
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (self.coefficients, self.flushing)]
        self.library.run_kernel(self.index, self.operands, *pointers, self.size, ctypes.c_int64(self.times))

    def run_bare(self):
        getattr(self.library, f"bare_{self.rule}")(self.operands, self.size, ctypes.c_int64(self.times))

    def check(self):
        """Return whether the kernel and the bare formula compute the same bits."""
        if self.name == "division and root":
            return True
        results = []
        for run in (self.run_kernel, self.run_bare):
            self.restart()
            run()
            results.append(self.arrays)
        self.restart()
        return all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
