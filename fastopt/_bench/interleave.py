"""Time candidates in turns, each in its own worker process.

The speed of a machine drifts, and other programs share it. Every round therefore gives each candidate one turn, in
random order, and the ratio of two candidates is taken within a round. The time of a turn is the median of its
iterations. Everything is built again a few times, because the position of arrays in memory changes the time by some
percent and stays the same for their lifetime.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastopt._bench.formulas import deviation
from fastopt._bench.workers import Worker

T = TypeVar("T")

PAUSE = 0.03  # seconds between turns, in which the previous candidate's busy-waiting threads go to sleep

# Environment variables that a candidate's name implies. A number of threads is not part of the implementation's name.
THREADS = {" 1 thread": {"FASTOPT_NUM_THREADS": "1"}, " 2 threads": {"FASTOPT_NUM_THREADS": "2"}}
ENVIRONMENTS = {"DeepSpeed": {"DS_ACCELERATOR": "cpu"}}


@dataclass(frozen=True)
class Protocol:
    """How long and how often each candidate of a row is timed."""

    builds: int = 3
    rounds: int = 4  # per build
    seconds: float = 0.1  # per turn
    min_iterations: int = 3  # per turn
    max_iterations: int = 200
    warmup: float = 0.3  # seconds after a build
    fresh: bool = False  # a new process per build, timed from its first iteration


STEADY = Protocol()
FIRST_STEPS = Protocol(builds=5, rounds=1, seconds=0, min_iterations=10, max_iterations=10, warmup=0, fresh=True)


@dataclass
class Result:
    """The measurement of one candidate: seconds per turn, and the first candidate's seconds in the same rounds."""

    times: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def ratio(self) -> tuple[float, float, float] | None:
        """Return the quartiles of the ratios to the first candidate, or None if that could not be measured."""
        if len(self.first) < len(self.times):
            return None
        return quartiles(np.divide(self.times, self.first).tolist())


Results: TypeAlias = dict[str, Result | Exception]  # of each candidate


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return low, median, high


def resolve(candidate: str) -> tuple[str, dict[str, str]]:
    """Return the name of the implementation and the environment variables of a candidate."""
    suffix = next(filter(candidate.endswith, THREADS), "")
    name = candidate.removesuffix(suffix)
    return name, {**ENVIRONMENTS.get(name, {}), **THREADS.get(suffix, {})}


def available_memory() -> int:
    """Return the number of bytes that can be allocated without swapping, or 0 if the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except OSError:
        return 0


class Interleaver:
    """Measures rows of candidates. Its worker processes are kept for a session.

    ``progress`` is called with a candidate's name before each of its turns, and before it is prepared for them.
    """

    def __init__(self, progress: Callable[[str], None] = lambda name: None) -> None:
        self.progress, self.random = progress, random.Random(0)
        self.workers: dict[tuple[Any, ...], Worker] = {}

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()

    def measure(
        self,
        candidates: Sequence[str],
        workload: str,
        arguments: Sequence[Any],
        elements: int,
        environment: Mapping[str, str],
        protocol: Protocol,
    ) -> Results:
        """Return a `Result`, or the exception that prevented it, for each candidate.

        Candidates that do not fit into memory together are measured in groups; the first is part of each.
        """
        self.workload, self.environment, self.protocol = (workload, arguments), environment, protocol
        first, *others = candidates
        size = max(1, int(available_memory() * 0.8 / (32 * elements)) - 1)
        results: Results = {}
        try:
            for begin in range(0, max(1, len(others)), size):
                results = {**self.measure_group([first, *others[begin : begin + size]]), **results}
        except BaseException:
            self.close()
            raise
        return results

    def measure_group(self, candidates: Sequence[str]) -> Results:
        """Measure candidates that are in memory at the same time; the first is the base of the ratios."""
        self.failures: dict[str, Exception] = {}
        results = {name: Result() for name in candidates}
        for build in range(self.protocol.builds):
            ready = [name for name in candidates if self.attempt(self.prepare, name, build == 0)]
            for _ in range(self.protocol.rounds):
                times = {}
                for name in self.random.sample(ready, len(ready)):
                    time.sleep(PAUSE)
                    times[name] = self.attempt(self.turn, name) or 0.0  # its time does not count if it fails
                for name in ready:
                    results[name].times.append(times[name])
                    results[name].first += [base] if (base := times.get(candidates[0])) else []
            for name in ready:
                results[name].info = self.attempt(lambda name: self.worker(name).call("finish"), name) or {}
        return {**results, **self.failures}

    def attempt(self, method: Callable[..., T], name: str, *arguments: Any) -> T | None:
        """Return the method's result, or None if the candidate fails, now or earlier."""
        if name not in self.failures:
            try:
                return method(name, *arguments)
            except Exception as error:
                self.failures[name] = error
                self.discard(name)
        return None

    def key(self, name: str) -> tuple[Any, ...]:
        """Return what identifies the process of a candidate: its name and environment."""
        return (name, *{**self.environment, **resolve(name)[1]}.items())

    def worker(self, name: str) -> Worker:
        """Return the candidate's process, and start it if necessary."""
        key = self.key(name)
        if key not in self.workers:
            self.workers[key] = Worker(dict(key[1:]))
        return self.workers[key]

    def discard(self, name: str) -> None:
        """End the candidate's process, if there is one."""
        if worker := self.workers.pop(self.key(name), None):
            worker.close()

    def build(self, name: str) -> None:
        """Create the workload in the candidate's process."""
        workload, arguments = self.workload
        if self.protocol.fresh:
            self.discard(name)
        self.worker(name).call("build", workload, resolve(name)[0], *arguments)

    def prepare(self, name: str, validate: bool) -> bool:
        """Build the workload, compare its first steps with the formula, and warm up."""
        self.progress(name)
        self.build(name)
        if validate:
            off, limit = deviation(self.worker(name).call("check"))
            if not off <= limit:
                raise ArithmeticError(
                    f"{name} must match the formula within {limit} units in the last place, got {off:g}"
                )
            if self.protocol.fresh:
                self.build(name)
        if self.protocol.warmup:
            self.worker(name).call("time", self.protocol.warmup, 3, 10_000)
        return True

    def turn(self, name: str) -> float:
        """Return the median time of some iterations."""
        self.progress(name)
        limits = self.protocol.seconds, self.protocol.min_iterations, self.protocol.max_iterations
        times = self.worker(name).call("time", *limits)
        # In later turns, the first iteration brings the data back into the caches.
        return float(np.median(times if self.protocol.fresh else times[1:]))
