"""Each candidate is a benchmark of pytest-benchmark; the candidates of a row are timed in turns.

A test in ``bench_*.py`` is parametrised by ``candidate`` and calls the fixture `measure`. The tests that differ only
in ``candidate`` form a *row*. pytest-benchmark runs one benchmark after the other, which does not suit a ratio of two
times on a machine whose speed drifts. Therefore:

1. The first test of a row that runs measures all selected candidates of the row, in turns, a process each
   (`fastopt._bench.interleave` and ``workers``).
2. Each test of the row passes its own recorded times to ``benchmark.pedantic``, one per round. The clock is set with
   the documented marker ``@pytest.mark.benchmark(timer=...)``: `Replay` advances by the recorded time.

The statistics of a benchmark are therefore those of its real times (a round is a turn, whose time is the median of its
iterations), and every option of pytest-benchmark has its documented meaning: ``--benchmark-compare``,
``--benchmark-compare-fail``, ``--benchmark-json``, ``--benchmark-save``, ``--benchmark-group-by=param:candidate``.
The default group is the row. ``--benchmark-disable`` validates the candidates without timing them.
``extra_info`` holds the quartiles of the ratios to the first candidate, taken within a round.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastopt._bench.interleave import STEADY, Interleaver
from fastopt._bench.workers import NotInstalledError

CANDIDATES = pytest.StashKey[dict]()  # the selected candidates of each row
RESULTS = pytest.StashKey[dict]()  # the results of each row, by candidate
QUICK_ELEMENTS = 2**20


class Replay:
    """A timer that a call to `play` advances by a recorded time."""

    __name__ = "replay"  # as pytest-benchmark's files name it
    now = 0.0

    def __call__(self):
        return self.now

    def play(self, seconds):
        self.now += seconds


replay = Replay()


def row_of(item):
    """Return the test's name and parameters without the candidate."""
    params = [f"{name}={value}" for name, value in item.callspec.params.items() if name != "candidate"]
    return " ".join([item.path.stem, item.originalname, *params])


def pytest_addoption(parser):
    parser.addoption(
        "--quick",
        action="store_true",
        help=f"check the benchmarks: very short turns, no rows of more than {QUICK_ELEMENTS:,} elements",
    )


def pytest_collection_finish(session):
    rows, session.config.stash[RESULTS] = {}, {}
    session.config.stash[CANDIDATES] = rows
    for item in session.items:
        if "measure" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.benchmark(timer=replay, group=row_of(item)))
            rows.setdefault(row_of(item), []).append(item.callspec.params["candidate"])


@pytest.fixture(scope="session")
def interleaver():
    interleaver = Interleaver()
    yield interleaver
    interleaver.close()


@pytest.fixture
def measure(benchmark, interleaver, request):
    """Return a function that measures a candidate beside the others of its row.

    ``row`` names the row in the tables, ``elements`` is the number of parameters or inputs, ``workload`` the
    ``"module:Class"`` that a worker builds from the candidate's name and ``arguments``.
    """

    def run(candidate, workload, *arguments, row, elements, environment=None, protocol=STEADY):
        quick = request.config.getoption("quick")
        if quick and elements > QUICK_ELEMENTS:
            pytest.skip(f"more than {QUICK_ELEMENTS:,} elements (--quick)")
        if not benchmark.enabled:
            protocol = replace(protocol, builds=1, rounds=1, seconds=0, warmup=0)
        elif quick:
            protocol = replace(protocol, builds=1, rounds=2, seconds=min(protocol.seconds, 0.01), warmup=0)
        name, rows = row_of(request.node), request.config.stash[RESULTS]
        if name not in rows:
            candidates = request.config.stash[CANDIDATES][name]
            rows[name] = interleaver.measure(candidates, workload, arguments, elements, environment or {}, protocol)
        result = rows[name][candidate]
        if isinstance(result, NotInstalledError):
            pytest.skip(f"{candidate}: {result}")

        def next_time():
            if isinstance(result, Exception):
                raise result
            return (next(times),), {}

        times = iter(getattr(result, "times", ()))
        benchmark.pedantic(replay.play, setup=next_time, rounds=protocol.builds * protocol.rounds)
        benchmark.extra_info.update(row=row, elements=elements, ratio=result.ratio(), **result.info)

    return run


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("benchmark_disable"):
        return
    for row, results in config.stash.get(RESULTS, {}).items():
        terminalreporter.section(f"{row}: ratio to the first, median (quartiles)", sep="-")
        for candidate, result in results.items():
            if not isinstance(result, Exception) and (ratio := result.ratio()):
                low, median, high = ratio
                terminalreporter.line(f"    {candidate:24}{median:8.2f}  ({low:.2f}-{high:.2f})")
