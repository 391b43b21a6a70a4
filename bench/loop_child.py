"""Run a program, time its optimizer, and stop it after some steps.

    python loop_child.py RESULT STEPS CALL SCRIPT [ARGUMENT...]

The program's lines call ``loop_clock.start()`` and ``stop()`` around the optimizer and ``record(value)`` once a step;
with CALL, ``module:Class.method``, that function is timed instead. RESULT is a JSON file with the seconds at which the
optimizer started and stopped, and the recorded values.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import json
import random
import runpy
import sys
import time
from pathlib import Path

import numpy as np


class Finished(BaseException):
    """The program has run for enough steps; not an Exception, which a program may catch."""


class Clock:
    """Times of the optimizer and values of the program."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.started: list[float] = []
        self.stopped: list[float] = []
        self.values: list[float] = []

    def start(self) -> None:
        """Note the time before the optimizer, unless that was the last step."""
        self.started.append(time.perf_counter())
        if len(self.stopped) == self.steps:
            raise Finished

    def stop(self) -> None:
        """Note the time after the optimizer."""
        self.stopped.append(time.perf_counter())

    def record(self, value: float) -> None:
        """Note a value that the program computed, such as its loss."""
        self.values.append(float(value))

    def wrap(self, call: str) -> None:
        """Time every call of a function of a library."""
        module, _, path = call.partition(":")
        *parents, name = path.split(".")
        owner = functools.reduce(getattr, parents, importlib.import_module(module))
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: object, **kwargs: object) -> object:
            self.start()
            try:
                return function(*args, **kwargs)
            finally:
                self.stop()

        setattr(owner, name, timed)


def main(result: str, steps: str, call: str, script: str, *arguments: str) -> None:
    """Run the script as ``python SCRIPT ARGUMENT...`` would."""
    clock = builtins.loop_clock = Clock(int(steps))
    if call:
        clock.wrap(call)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the programs use it)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    with contextlib.suppress(Finished):
        runpy.run_path(script, run_name="__main__")
    values = {"started": clock.started, "stopped": clock.stopped, "values": clock.values}
    Path(result).write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
