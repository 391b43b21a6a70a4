"""A process of its own for everything that is timed.

The workers of OpenMP and of BLAS spin for milliseconds after their work, and an OpenMP library is set up once for a
process. So what is compared can't share one: each candidate has a room, with its own environment, which imports only
what it needs. The rooms stand idle while one of them is timed.

This file is both ends: imported, it gives ``Room``; run, it is the process behind one.
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


class AbsentError(Exception):
    """What a candidate needs is not installed."""


class Room:
    """A process that builds a job, checks it, and times its iterations."""

    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the other side, which closes the rooms
        )

    def call(self, command, *arguments):
        """Let the room do something, and wait for the answer."""
        try:
            pickle.dump((command, arguments), self.process.stdin)
            self.process.stdin.flush()
            answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"the room ended with code {self.process.wait()} during {command}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        """End the process, whatever it is doing, and the compiler that it may have started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        with suppress(BrokenPipeError):
            self.process.stdin.close()


class Inside:
    """What a room can be told to do. A job has ``iterate()``, ``prepare()``, which is not timed, and ``check()``."""

    def build(self, module, name, *arguments):
        """Make a job."""
        self.job = None  # the memory of the old one first
        self.job = getattr(__import__(module), name)(*arguments)

    def check(self):
        """Compare the first steps with the formula; give the largest deviation."""
        return self.job.check()

    def time(self, seconds, at_least, at_most):
        """Iterate for so long, and at least and at most so often; give the seconds of each iteration."""
        took, end = [], time.perf_counter() + seconds
        while len(took) < at_least or (len(took) < at_most and time.perf_counter() < end):
            self.job.prepare()
            start = time.perf_counter()
            self.job.iterate()
            took.append(time.perf_counter() - start)
        return took

    def info(self):
        """What the job tells about itself."""
        return self.job.info()

    def drop(self):
        """Free the memory of the job."""
        self.job = None


def main():
    """Answer until the other side closes."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    sys.modules["rooms"] = sys.modules["__main__"]
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nor may a compiler read the requests
    inside = Inside()
    while True:
        try:
            command, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = getattr(inside, command)(*arguments)
        except ImportError as error:
            answer = AbsentError(str(error))
        except Exception as error:
            traceback.print_exc()
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    AbsentError.__module__ = Room.__module__ = "rooms"
    main()
