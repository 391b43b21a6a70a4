"""Signals that come while something runs."""

from __future__ import annotations

import signal
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastopt

# What is interrupted while it opens a file leaves that to the garbage collection, which says so.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


PACKAGE = str(Path(fastopt.__file__).parent)
SOON = 2e-5


@contextmanager
def interrupts(seconds, again=0):
    """Send a signal that raises KeyboardInterrupt, as Ctrl-C does, after some time, and perhaps again and again.

    It waits until fastopt is at work: the test itself goes on to its end. Python loses it where it comes within a
    ``__del__``, so what waits for it must end by itself.
    """

    def handler(_, frame):
        at_work = any(frame.f_code.co_filename.startswith(PACKAGE) for frame, _ in traceback.walk_stack(frame))
        signal.setitimer(signal.ITIMER_REAL, again if at_work else SOON)  # 0 is never
        if at_work:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def for_a_while(seconds=0.1):
    """Count up as long as that."""
    end, i = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield i
        i += 1
