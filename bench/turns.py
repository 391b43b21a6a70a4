"""Candidates timed in turn, each in its own room.

Machines drift and are shared, so in every round each candidate has a turn, and what counts is the ratio to fastopt's
turn of the same round: its median, with the quartiles. A turn is the median of some iterations. All is built anew a
few times, as where arrays lie in memory makes some percent and stays for their life.
"""

from __future__ import annotations

import random
import time

import numpy as np
from formulas import deviation
from peers import ENVIRONMENTS, OURS, PEERS, SGD_PEERS
from rooms import AbsentError, Room

BUILDS = 3
ROUNDS = 4  # of each build
PAUSE = 0.03  # seconds in which the workers of the candidate before go to sleep
TURN = 0.1  # seconds
WARM_UP = 0.3  # seconds
SETTLED = 90  # steps: fastopt has chosen its threads (on two processors five looks of 16 steps, or of 2 ms)
LOOK = 16  # steps in a turn of fastopt, at least: in a training loop there are no pauses as between turns
MOST_ULP = 4  # deviation of a peer after three steps, each of which rounds a few times
MOST_ULP_CLIPPED = 16  # PyTorch adds the squares up in float32: for GPT-2 its norm is off by 9e-4


class Turns:
    """Rooms, kept for a session, and what is absent here."""

    def __init__(self):
        self.rooms = {}
        self.absent = {}
        self.order = random.Random(0)

    def room(self, name, environment):
        environment = {**environment, **ENVIRONMENTS.get(name, {})}
        key = (name, *sorted(environment.items()))
        if key not in self.rooms:
            self.rooms[key] = Room(environment)
        return self.rooms[key]

    def close(self):
        for room in self.rooms.values():
            room.close()
        self.rooms.clear()

    def compare(self, job, arguments, candidates, elements, environment):
        """Give (seconds of the turns, info) by candidate: in groups that fit into memory, the first in each."""
        first, *others = candidates
        seconds, infos = {}, {}
        others = [name for name in others if name not in self.absent]
        size = max(1, int(available_memory() * 0.8 / (32 * elements)) - 1)
        for begin in range(0, max(1, len(others)), size):
            group = [first, *others[begin : begin + size]]
            turns = {}
            try:
                for _ in range(BUILDS):
                    for name, took in self.compare_group(job, arguments, group, environment, infos).items():
                        turns.setdefault(name, []).extend(took)
            except BaseException:
                self.close()  # what the rooms hold, and those that have ended
                raise
            for name in turns.keys() - {first}:
                seconds[name] = turns[name], turns[first]
            seconds.setdefault(first, (turns[first], turns[first]))
        return seconds, infos

    def compare_group(self, job, arguments, candidates, environment, infos):
        """Build, check, warm up, and time in turn."""
        rooms, ours = {}, {candidates[0], *OURS}
        for name in candidates:
            if name in self.absent:
                continue
            room = self.room(name, environment)
            try:
                room.call("build", *job.split("."), name, *arguments)
            except AbsentError as error:
                self.absent[name] = str(error).partition("\n")[0]
                continue
            if not name.startswith("wall"):
                off = deviation(room.call("check"))
                most = MOST_ULP_CLIPPED if job == "jobs.Pass" else MOST_ULP if name in {*PEERS, *SGD_PEERS} else 0
                assert off <= most, f"{name} is {off} units in the last place off its formula"
            room.call("time", WARM_UP, SETTLED if name in ours else 3, 10_000)
            rooms[name] = room
        turns = {name: [] for name in rooms}
        for _ in range(ROUNDS):
            for name in self.order.sample(list(rooms), len(rooms)):
                time.sleep(PAUSE)
                least = LOOK if name in ours else 2
                _, *took = rooms[name].call("time", TURN, least, 200)  # the first brings the data back into the caches
                turns[name].append(float(np.median(took)))
        for name, room in rooms.items():
            infos[name] = room.call("info")
            room.call("drop")
        return turns


def available_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def ratio(theirs, mine):
    """The quartiles of the ratios of the rounds."""
    return [float(x) for x in np.quantile(np.divide(theirs, mine), [0.25, 0.5, 0.75])]
