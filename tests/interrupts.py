"""Signals that come while something runs."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager

import pytest

# What is interrupted while it opens a file leaves that to the garbage collection, which says so.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@contextmanager
def interrupts(seconds, again=0.0):
    """Send a signal that raises KeyboardInterrupt, as Ctrl-C does, after some time, and perhaps again and again.

    Python loses it where it comes within a ``__del__``: what waits for it must end by itself.
    """
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def for_a_while(seconds=0.1):
    """Count up as long as that."""
    end, i = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield i
        i += 1
