"""A run that is killed again and again: ``python killed.py FILE KILLS SEED``.

A child loads the newest checkpoint and goes on, saving after every step; it is killed (SIGKILL) at a random moment, and
what it left must load and be a state of the run that nobody interrupts, to the bit. It prints how often it was killed,
how often within a save, and the last step.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from resume import digest

import fastopt

KEEP = 3


class Run:
    """A run of which every step is a function of the one before."""

    def __init__(self) -> None:
        self.params = fastopt.Flat({"w": (300, 100), "b": 300})
        self.optimizer = fastopt.AdamW(
            self.params, lr=fastopt.schedules.Cosine(0.1, 10**5), ema_decay=0.9, max_grad_norm=1.0
        )
        self.grads = self.params.zeros_like()

    def step(self) -> None:
        """Do a step."""
        np.sin(self.params.buffer + self.optimizer.steps, out=self.grads.buffer)
        self.optimizer.step(self.grads)

    def load(self, file: Path) -> str:
        """Take the state of a checkpoint, and digest it."""
        saved = fastopt.load(file, params=self.params, optimizer=self.optimizer)
        assert saved.values == self.optimizer.steps
        return self.digest()

    def digest(self) -> str:
        """Digest the state."""
        return digest(self.params.buffer, self.optimizer.state_dict())


def work(file: Path) -> None:
    """Go on for good."""
    run = Run()
    if file.exists():
        run.load(file)
    while True:
        run.step()
        fastopt.save(file, params=run.params, optimizer=run.optimizer, values=run.optimizer.steps, keep=KEEP)


def older(file: Path) -> list[Path]:
    """Give the checkpoints that there are, the newest first."""
    names = [file, *(file.with_name(f"{file.stem}.{i}{file.suffix}") for i in range(1, KEEP))]
    return [name for name in names if name.exists()]


def main(name: str, kills: int, seed: int) -> None:
    """Kill, and look."""
    file, rng, within, last = Path(name), random.Random(seed), 0, 0
    truth, found, states = Run(), Run(), {}
    for _ in range(kills):
        child = os.fork()
        if not child:
            work(file)
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        within += file.with_name(f".{file.name}.tmp").exists()
        steps = []
        for checkpoint in older(file):
            state = found.load(checkpoint)
            steps.append(found.optimizer.steps)
            while truth.optimizer.steps < steps[-1]:
                truth.step()
                states[truth.optimizer.steps] = truth.digest()
            assert state == states[steps[-1]], f"{checkpoint} is of no step"
        assert steps == sorted(steps, reverse=True), f"the newest is not the newest: {steps}"
        assert not steps or steps[0] >= last, f"step {last} was saved; found {steps}"
        assert steps or not last, "the file is gone"
        last = steps[0] if steps else last
    print(kills, within, last)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
