"""Run Python in another process, also in a terminal; the threading layers that this build has."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

HANGS = 3600  # seconds: against a process that never ends; a busy machine must not reach it

needs_posix = pytest.mark.skipif(
    os.name != "posix", reason="needs POSIX: signals, permissions, symbolic links for all users, limits of resources"
)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc")


def run_python(*arguments, **environment):
    """Run Python with warnings as errors, and without settings of threads or instruction sets but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FASTOPT_", "OMP_", "GOMP_"))}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**kept, "PYTHONWARNINGS": "error", **environment},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )


# Another process loads it, because its runtime must not be loaded into this one before a test asks for it.
needs_openmp = pytest.mark.skipif(
    run_python("-c", "import fastopt._core.openmp").returncode != 0,
    reason="needs a build with OpenMP, and its runtime",
)
LAYERS = ["pool", pytest.param("openmp", marks=needs_openmp)]


def run_in_terminal(*arguments):
    """Run Python in a terminal of 120 columns, and return its status and all that it has shown."""
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))
    try:
        mine, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"needs a pseudo-terminal: {error}")
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen([sys.executable, *arguments], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while chunk := read_or_end(mine):
            shown += chunk
        os.close(mine)
        return process.wait(), shown


def read_or_end(file):
    try:
        return os.read(file, 65536)
    except OSError:  # raised on Linux when the other side is closed
        return b""
