"""A separate process for each benchmark candidate.

The worker threads of OpenMP and BLAS busy-wait for milliseconds after their work, and a process configures an OpenMP
library only once. Candidates that share a process would therefore slow each other down. Each candidate runs in a
process with its own environment, which imports only NumPy, fastopt (which starts no thread before its first call) and
the libraries of the candidate, and is idle while others are timed.
"""

from __future__ import annotations

import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class NotInstalledError(Exception):
    """A package that the candidate needs is not installed."""


class Worker:
    """A process that builds a workload, checks it and times its iterations."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only the caller, which then closes its workers
        )
        assert self.process.stdin
        assert self.process.stdout
        self.requests, self.answers = self.process.stdin, self.process.stdout

    def call(self, command: str, *arguments: Any) -> Any:
        """Run a command of `Commands` in the process and return its result."""
        try:
            pickle.dump((command, arguments), self.requests)
            self.requests.flush()
            answer = pickle.load(self.answers)
        except (EOFError, OSError):
            raise RuntimeError(f"the worker exited with code {self.process.wait()} during {command!r}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Kill the process and any compiler it may have started."""
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.answers.close()
        with suppress(OSError):
            self.requests.close()


class Commands:
    """The commands that a worker accepts."""

    workload: Any  # a `fastopt._bench.workloads.Workload`

    def build(self, workload: str, *arguments: Any) -> None:
        """Create a workload from ``"module:Class"``."""
        self.workload = None  # release the memory of the previous workload first
        self.workload = pkgutil.resolve_name(workload)(*arguments)

    def check(self) -> Any:
        """Run a few steps and return the argument of `formulas.deviation` that validates them."""
        return self.workload.check()

    def time(self, seconds: float, min_iterations: int, max_iterations: int) -> list[float]:
        """Iterate for the given time and number of iterations; return the seconds of each iteration."""
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < min_iterations or (len(times) < max_iterations and time.perf_counter() < end):
            self.workload.prepare()
            start = time.perf_counter()
            self.workload.iterate()
            times.append(time.perf_counter() - start)
        return times

    def finish(self) -> dict[str, Any]:
        """Release the memory of the workload and return facts about it, such as the number of threads."""
        info: dict[str, Any] = self.workload.info()
        self.workload = None
        return info


def main() -> None:
    """Answer requests until the other end closes the pipe."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keep the output of libraries out of the answers
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # keep compilers from reading the requests
    commands = Commands()
    while True:
        try:
            command, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = getattr(commands, command)(*arguments)
        except ImportError as error:
            answer = NotInstalledError(str(error).partition("\n")[0])
        except Exception as error:
            traceback.print_exc()
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()
