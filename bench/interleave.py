"""Time candidates in turns, each in its own worker process.

The speed of a machine drifts, and other programs share it. Every round therefore gives each candidate one turn, in
random order, and the ratio of two candidates is taken within a round. The time of a turn is the median of its
iterations. Everything is built again a few times, because the position of arrays in memory changes the time by some
percent and stays the same for their lifetime.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import numpy as np
from formulas import deviation
from workers import Worker

PAUSE = 0.03  # seconds between turns, in which the previous candidate's busy-waiting threads go to sleep

# A suffix of a candidate's name sets its number of threads.
THREADS = {
    " 1 thread": {"FASTOPT_NUM_THREADS": "1"},
    " 2 threads": {"FASTOPT_NUM_THREADS": "2"},
}
ENVIRONMENTS = {
    "DeepSpeed": {"DS_ACCELERATOR": "cpu"},
    "memory bound": {"OMP_WAIT_POLICY": "passive"},  # its threads sleep, as fastopt's do
}


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
    info: dict = field(default_factory=dict)

    def ratio(self):
        """Return the quartiles of the ratios to the first candidate, or None if that could not be measured."""
        if len(self.first) < len(self.times):
            return None
        return np.quantile(np.divide(self.times, self.first), [0.25, 0.5, 0.75]).tolist()


def implementation(candidate):
    """Return the candidate's name without the number of threads."""
    return next((candidate.removesuffix(suffix) for suffix in THREADS if candidate.endswith(suffix)), candidate)


def environment_of(candidate):
    """Return the environment variables that the candidate's name implies."""
    threads = next((variables for suffix, variables in THREADS.items() if candidate.endswith(suffix)), {})
    return {**ENVIRONMENTS.get(implementation(candidate), {}), **threads}


def available_memory():
    """Return the number of bytes that can be allocated without swapping."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


class Interleaver:
    """Measures rows of candidates. Its worker processes are kept for a session."""

    def __init__(self):
        self.workers = {}
        self.random = random.Random(0)

    def close(self):
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()

    def measure(self, candidates, workload, arguments, elements, environment, protocol):
        """Return a `Result`, or the exception that prevented it, for each candidate.

        Candidates that do not fit into memory together are measured in groups; the first is part of each.
        """
        first, *others = candidates
        size = max(1, int(available_memory() * 0.8 / (32 * elements)) - 1)
        results = {}
        for begin in range(0, max(1, len(others)), size):
            group = Group(self, workload, arguments, environment, protocol)
            results = {**group.measure([first, *others[begin : begin + size]]), **results}
        return results


class Group:
    """Candidates that are in memory at the same time."""

    def __init__(self, interleaver, workload, arguments, environment, protocol):
        self.interleaver, self.protocol = interleaver, protocol
        self.workload, self.arguments, self.environment = workload, arguments, environment
        self.failures = {}

    def measure(self, candidates):
        """Return a `Result` or an exception for each candidate; the first is the base of the ratios."""
        results = {name: Result() for name in candidates}
        try:
            for build in range(self.protocol.builds):
                ready = [name for name in candidates if self.try_call(name, self.prepare, build == 0)]
                for _ in range(self.protocol.rounds):
                    times = {}
                    for name in self.interleaver.random.sample(ready, len(ready)):
                        time.sleep(PAUSE)
                        times[name] = self.try_call(name, self.turn)
                    for name, seconds in times.items():
                        if seconds and (base := times.get(candidates[0])):
                            results[name].first.append(base)
                        results[name].times.append(seconds)
                for name in ready:
                    results[name].info = self.try_call(name, self.finish)
        except BaseException:
            self.interleaver.close()
            raise
        return {**results, **self.failures}

    def try_call(self, name, function, *arguments):
        """Return the function's result, or None if the candidate fails, now or earlier."""
        if name not in self.failures:
            try:
                return function(name, *arguments)
            except Exception as error:
                self.failures[name] = error
                self.close_worker(name)
        return None

    def key(self, name):
        return name, *sorted({**self.environment, **environment_of(name)}.items())

    def worker(self, name):
        """Return the candidate's process; start it if necessary."""
        key = self.key(name)
        if key not in self.interleaver.workers:
            self.interleaver.workers[key] = Worker(dict(key[1:]))
        return self.interleaver.workers[key]

    def close_worker(self, name):
        if worker := self.interleaver.workers.pop(self.key(name), None):
            worker.close()

    def build(self, name):
        if self.protocol.fresh:
            self.close_worker(name)
        self.worker(name).call("build", self.workload, implementation(name), *self.arguments)

    def prepare(self, name, validate):
        """Build the workload, compare its first steps with the formula, and warm up."""
        self.build(name)
        if validate:
            off, limit = deviation(self.worker(name).call("check"))
            assert off <= limit, f"{name} differs from the formula by {off:g} units in the last place, limit {limit}"
            if self.protocol.fresh:
                self.build(name)
        if self.protocol.warmup:
            self.worker(name).call("time", self.protocol.warmup, 3, 10_000)
        return True

    def turn(self, name):
        """Return the median time of some iterations."""
        limits = self.protocol.seconds, self.protocol.min_iterations, self.protocol.max_iterations
        times = self.worker(name).call("time", *limits)
        # In later turns, the first iteration brings the data back into the caches.
        return float(np.median(times if self.protocol.fresh else times[1:]))

    def finish(self, name):
        info = self.worker(name).call("info")
        self.worker(name).call("free")
        return info
