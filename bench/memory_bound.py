"""The lower bound set by memory: Adam's reads and writes with trivial arithmetic, compiled from ``memory_bound.c``."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from fastopt._bench.peers import Peer

MEMORY_BOUND = ["memory bound 1 thread", "memory bound 2 threads"]


class MemoryBound(Peer):
    def __init__(self, params, grads):
        super().__init__(params, grads)
        source = Path(__file__).with_name("memory_bound.c")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "memory_bound.so")
            command = ["cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", str(library), str(source)]
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise ImportError(f"needs a C compiler with OpenMP: {error}") from None
            os.environ["OMP_WAIT_POLICY"] = "passive"  # its threads sleep, as fastopt's do; read when OpenMP is loaded
            self.function = ctypes.CDLL(str(library)).memory_bound
        self.states = [[np.zeros_like(param) for param in params] for _ in range(2)]
        lists = [(ctypes.c_void_p * len(params))(*(a.ctypes.data for a in x)) for x in (params, grads, *self.states)]
        sizes = (ctypes.c_int64 * len(params))(*(param.size for param in params))
        self.arguments = [*lists, sizes, ctypes.c_int64(len(params)), int(os.environ["FASTOPT_NUM_THREADS"])]

    def step(self):
        self.function(*self.arguments)

    def formula(self):
        """Return None: nothing to validate."""
