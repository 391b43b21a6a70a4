"""Timing in turn, and the table of ratios at the end.

Machines drift and are shared, so a candidate and what it is compared with run one after the other in every round, and
what counts is the ratio of their medians, with the quartiles of the rounds' own ratios.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

ROWS = pytest.StashKey[list]()


def timed(function):
    """Call a function; give the seconds it took."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.fixture
def compare(benchmark, request):
    """Time a candidate against others, in turn: ``compare(row, rounds, candidate, {name: other})``."""

    def run(row, rounds, candidate, others):
        seconds = {name: [] for name in others}
        mine = []

        def run_others():
            for name, other in others.items():
                seconds[name].append(timed(other))

        benchmark.pedantic(lambda: mine.append(timed(candidate)), setup=run_others, rounds=rounds, warmup_rounds=2)
        for name, theirs in seconds.items():
            low, high = np.quantile(np.divide(theirs, mine), [0.25, 0.75])
            ratio = np.median(theirs) / np.median(mine)
            benchmark.extra_info[f"{name} / fastopt"] = round(ratio, 2)
            rows = request.config.stash.setdefault(ROWS, [])
            rows.append((*row, name, np.median(mine) * 1e6, np.median(theirs) * 1e6, ratio, low, high))

    return run


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("how many times faster than")
    width = max(len(str(row[0])) for row in rows)
    terminalreporter.line(f"{'case':{width}}  elements  against       fastopt us     other us   ratio  (quartiles)")
    for case, size, name, mine, theirs, ratio, low, high in rows:
        terminalreporter.line(
            f"{case!s:{width}}  {size:>8}  {name:10}{mine:14.1f}{theirs:13.1f}{ratio:8.1f}  ({low:.1f} - {high:.1f})"
        )
