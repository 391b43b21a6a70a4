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
# Python drops exceptions in these: finalizers, which the garbage collector may call at any time, the callback of a
# thread that ended, and pytest's function for exceptions that were dropped.
DROPPING = {"__del__", "_remove", "unraisable_hook"}


@contextmanager
def interrupts(seconds, repeat=1.0):
    """Send a signal that raises KeyboardInterrupt, as Ctrl-C does, after some seconds, and repeat it.

    It is raised only inside of fastopt, so that the test itself is not interrupted, and not where Python would drop it.
    """

    if not hasattr(signal, "setitimer"):
        pytest.skip("the system has no interval timers")
    done = False

    def handler(_, frame):
        if done:
            return
        codes = [frame.f_code for frame, _ in traceback.walk_stack(frame)]
        dropped = any(code.co_name in DROPPING for code in codes)
        at_work = not dropped and any(code.co_filename.startswith(PACKAGE) for code in codes)
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
