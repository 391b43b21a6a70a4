"""The fixture that compares, and the table at the end."""

from __future__ import annotations

import numpy as np
import pytest
from turns import Turns, ratio

ROWS = pytest.StashKey[list]()


class Clock:
    """A timer for pytest-benchmark that goes forward by what a room has measured."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="session")
def turns(request):
    turns = Turns()
    yield turns
    turns.close()
    request.config.stash.setdefault(ROWS, []).extend(
        f"skipped: {name}: {reason}" for name, reason in turns.absent.items()
    )


@pytest.fixture
def compare(benchmark, turns, request):
    """``compare(row, job, arguments, candidates, elements, environment)``: the first candidate against the others."""
    clock = Clock()
    benchmark._timer = clock

    def run(row, job, arguments, candidates, elements, environment=None):
        seconds, infos = turns.compare(job, arguments, candidates, elements, environment or {})
        mine = iter(seconds[candidates[0]][0])

        def replay():
            clock.now += next(mine)

        benchmark.pedantic(replay, rounds=len(seconds[candidates[0]][0]))
        result = {
            name: {"seconds": float(np.median(theirs)), "ratio": ratio(theirs, first), **infos[name]}
            for name, (theirs, first) in sorted(seconds.items(), key=lambda item: candidates.index(item[0]))
        }
        benchmark.extra_info.update(row=row, elements=elements, candidates=result)
        request.config.stash.setdefault(ROWS, []).append((row, result))
        return result

    return run


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("microseconds, and the ratio to the first (quartiles)")
    for row in rows:
        if isinstance(row, str):
            terminalreporter.line(row)
            continue
        name, result = row
        terminalreporter.line(", ".join(f"{key} {value}" for key, value in name.items()))
        for candidate, figures in result.items():
            low, middle, high = figures["ratio"]
            terminalreporter.line(
                f"    {candidate:14}{figures['seconds'] * 1e6:14.1f}{middle:10.2f}  ({low:.2f} - {high:.2f})"
            )
