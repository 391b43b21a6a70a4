"""The yardstick: the seven streams of Adam with trivial arithmetic, compiled from ``wall.c`` for this machine."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from peers import Peer


class Wall(Peer):
    """On one thread."""

    threads = 1

    def __init__(self, params, grads):
        super().__init__(params, grads)
        source = Path(__file__).with_name("wall.c")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "wall.so")
            command = ["cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", str(library), str(source)]
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise ImportError(f"the wall needs a C compiler with OpenMP: {error}") from None
            self.pass_over = ctypes.CDLL(str(library)).wall
        self.states = [[np.zeros_like(param) for param in params] for _ in range(2)]
        lists = [(ctypes.c_void_p * len(params))(*(a.ctypes.data for a in x)) for x in (params, grads, *self.states)]
        sizes = (ctypes.c_int64 * len(params))(*(param.size for param in params))
        self.arguments = [*lists, sizes, ctypes.c_int64(len(params)), self.threads]

    def step(self):
        self.pass_over(*self.arguments)


class Wall2(Wall):
    """On two threads."""

    threads = 2


WALLS = {"wall 1": Wall, "wall 2": Wall2}
