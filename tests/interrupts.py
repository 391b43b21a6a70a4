"""Signals that arrive while fastopt is at work."""

from __future__ import annotations

import signal
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastopt

# A call that is interrupted while it opens a file leaves closing it to the garbage collection, which warns.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
PACKAGE = str(Path(fastopt.__file__).parent)
SOON = 2e-5  # seconds


@contextmanager
def interrupts(seconds, again=1.0):
    """Raise KeyboardInterrupt, as Ctrl-C does, after some time, but only while a function of fastopt runs.

    It is raised again after ``again`` seconds, because Python drops an exception that is raised in a ``__del__``: so a
    loop of calls can wait for it without a limit.
    """

    def handler(_, frame):
        at_work = any(frame.f_code.co_filename.startswith(PACKAGE) for frame, _ in traceback.walk_stack(frame))
        signal.setitimer(signal.ITIMER_REAL, again if at_work else SOON)
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
