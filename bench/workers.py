"""A separate process for each benchmark candidate.

The worker threads of OpenMP and BLAS busy-wait for milliseconds after their work, and a process configures an OpenMP
library only once. Candidates that share a process would therefore slow each other down. Each candidate runs in a
process with its own environment, which imports only what the candidate needs and is idle while others are timed.

Imported, this file provides `Worker`. Run as a script, it is the process on the other end of a `Worker`.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path


class NotInstalledError(Exception):
    """A package that the candidate needs is not installed."""


class Worker:
    """A process that builds a workload, checks it and times its iterations."""

    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only pytest, which then closes its workers
        )

    def call(self, command, *arguments):
        """Run a command of `Commands` in the process and return its result."""
        try:
            pickle.dump((command, arguments), self.process.stdin)
            self.process.stdin.flush()
            answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"the worker exited with code {self.process.wait()} during {command!r}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        """Kill the process and any compiler it may have started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        with suppress(BrokenPipeError):
            self.process.stdin.close()


class Commands:
    """The commands that a worker accepts.

    A workload has the methods ``iterate()``, ``prepare()`` (called before each iteration, not timed), ``check()`` and
    ``info()``.
    """

    def build(self, workload, *arguments):
        """Create a workload from ``"module.Class"``."""
        self.workload = None  # release the memory of the previous workload first
        module, name = workload.split(".")
        self.workload = getattr(__import__(module), name)(*arguments)

    def check(self):
        """Run a few steps and return the argument of `formulas.deviation` that validates them."""
        return self.workload.check()

    def time(self, seconds, min_iterations, max_iterations):
        """Iterate for the given time and number of iterations; return the seconds of each iteration."""
        times, end = [], time.perf_counter() + seconds
        while len(times) < min_iterations or (len(times) < max_iterations and time.perf_counter() < end):
            self.workload.prepare()
            start = time.perf_counter()
            self.workload.iterate()
            times.append(time.perf_counter() - start)
        return times

    def finish(self):
        """Release the memory of the workload and return facts about it, such as the number of threads."""
        info, self.workload = self.workload.info(), None
        return info


def main():
    """Answer requests until the other end closes the pipe."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    sys.modules["workers"] = sys.modules["__main__"]
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


if __name__ == "__main__":
    NotInstalledError.__module__ = "workers"
    main()
