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

# Environment variables that a candidate's name implies. A number of threads is not part of the implementation's name.
THREADS = {" 1 thread": {"FASTOPT_NUM_THREADS": "1"}, " 2 threads": {"FASTOPT_NUM_THREADS": "2"}}
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


def resolve(candidate):
    """Return the name of the implementation and the environment variables of a candidate."""
    suffix = next(filter(candidate.endswith, THREADS), "")
    name = candidate.removesuffix(suffix)
    return name, {**ENVIRONMENTS.get(name, {}), **THREADS.get(suffix, {})}


def available_memory():
    """Return the number of bytes that can be allocated without swapping."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


class Interleaver:
    """Measures rows of candidates. Its worker processes are kept for a session."""

    def __init__(self):
        self.workers, self.random = {}, random.Random(0)

    def close(self):
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()

    def measure(self, candidates, workload, arguments, elements, environment, protocol):
        """Return a `Result`, or the exception that prevented it, for each candidate.

        Candidates that do not fit into memory together are measured in groups; the first is part of each.
        """
        self.workload, self.environment, self.protocol = (workload, arguments), environment, protocol
        first, *others = candidates
        size = max(1, int(available_memory() * 0.8 / (32 * elements)) - 1)
        results = {}
        try:
            for begin in range(0, max(1, len(others)), size):
                results = {**self.measure_group([first, *others[begin : begin + size]]), **results}
        except BaseException:
            self.close()
            raise
        return results

    def measure_group(self, candidates):
        """Measure candidates that are in memory at the same time; the first is the base of the ratios."""
        self.failures, results = {}, {name: Result() for name in candidates}
        for build in range(self.protocol.builds):
            ready = [name for name in candidates if self.attempt(self.prepare, name, build == 0)]
            for _ in range(self.protocol.rounds):
                times = {}
                for name in self.random.sample(ready, len(ready)):
                    time.sleep(PAUSE)
                    times[name] = self.attempt(self.turn, name)
                for name in ready:
                    results[name].times.append(times[name])
                    results[name].first += [base] if (base := times.get(candidates[0])) else []
            for name in ready:
                results[name].info = self.attempt(lambda name: self.worker(name).call("finish"), name)
        return {**results, **self.failures}

    def attempt(self, method, name, *arguments):
        """Return the method's result, or None if the candidate fails, now or earlier."""
        if name not in self.failures:
            try:
                return method(name, *arguments)
            except Exception as error:
                self.failures[name] = error
                self.worker(name, discard=True)
        return None

    def worker(self, name, discard=False):
        """Return the candidate's process and start it if necessary, or end it."""
        environment = {**self.environment, **resolve(name)[1]}
        key = (name, *environment.items())
        if discard:
            if worker := self.workers.pop(key, None):
                worker.close()
        elif key not in self.workers:
            self.workers[key] = Worker(environment)
        return self.workers.get(key)

    def build(self, name):
        workload, arguments = self.workload
        self.worker(name, discard=self.protocol.fresh)
        self.worker(name).call("build", workload, resolve(name)[0], *arguments)

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
