"""Signals that arrive while fastopt runs."""

from __future__ import annotations

import signal
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastopt

# A call interrupted while it opens a file leaves it to the garbage collector, which warns.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
PACKAGE = str(Path(fastopt.__file__).parent)
SOON = 2e-5  # seconds


@contextmanager
def interrupts(seconds, repeat=1.0):
    """Send a signal that raises KeyboardInterrupt, as Ctrl-C does, after some seconds, and repeat it.

    It is raised only inside of fastopt, so that the test itself is not interrupted. Python drops an exception raised in
    ``__del__``: because of the repetition, a loop can wait for it without a limit.
    """

    done = False

    def handler(_, frame):
        if done:
            return
        in_callback = frame.f_code.co_filename.endswith("_weakrefset.py")  # of a thread that ended: it would be dropped
        stack = traceback.walk_stack(frame)
        at_work = not in_callback and any(frame.f_code.co_filename.startswith(PACKAGE) for frame, _ in stack)
        signal.setitimer(signal.ITIMER_REAL, repeat if at_work else SOON)
        if at_work:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        done = True  # from here on the handler neither raises nor sets the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)  # runs the handler first if a signal is pending
