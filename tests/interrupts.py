"""Signals that arrive while fastopt runs."""

from __future__ import annotations

import signal
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastopt

# A call that is interrupted while it opens a file leaves it to the garbage collector, which warns.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


PACKAGE = str(Path(fastopt.__file__).parent)
SOON = 2e-5


@contextmanager
def interrupts(seconds, again=0):
    """Send a signal that raises KeyboardInterrupt, as Ctrl-C does, after some time, and with ``again`` repeatedly.

    The signal waits until a function of fastopt is on the stack, so that it never interrupts the test itself. Python
    ignores the exception inside a ``__del__``, so a loop that waits for it must end by itself.
    """
    done = False

    def handler(_, frame):
        if done:
            return
        at_work = any(frame.f_code.co_filename.startswith(PACKAGE) for frame, _ in traceback.walk_stack(frame))
        signal.setitimer(signal.ITIMER_REAL, again if at_work else SOON)  # 0 is never
        if at_work:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        done = True  # before anything else: the handler must neither raise nor set the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)  # runs the handler first if a signal is pending


def for_a_while(seconds=0.1):
    """Yield 0, 1, 2, ... for some seconds."""
    end, i = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield i
        i += 1
