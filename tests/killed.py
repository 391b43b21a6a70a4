"""A run that is killed again and again: ``python killed.py FILE KILLS SEED``.

A child loads the newest checkpoint and continues, saving after every step. It is killed (SIGKILL) at a random moment,
and each file that it left must load and be bit-identical to a step of an uninterrupted run. This ends after KILLS kills
in the middle of a save. Prints the number of all kills, of those during a save, and the last step.
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
    """A run whose steps depend only on its state."""

    def __init__(self) -> None:
        self.params = fastopt.Flat({"w": (300, 100), "b": 300})
        self.optimizer = fastopt.AdamW(
            self.params, lr=fastopt.schedules.Cosine(0.1, 10**5), ema_decay=0.9, max_grad_norm=1.0
        )
        self.grads = self.params.zeros_like()

    def step(self) -> None:
        """Take a step."""
        np.sin(self.params.buffer + self.optimizer.steps, out=self.grads.buffer)
        self.optimizer.step(self.grads)

    def load(self, file: Path) -> str:
        """Load a checkpoint and return its digest."""
        saved = fastopt.load(file, params=self.params, optimizer=self.optimizer)
        assert saved.metadata == self.optimizer.steps
        return self.digest()

    def digest(self) -> str:
        """Return the digest of the state."""
        return digest(self.params.buffer, self.optimizer.state_dict())


def work(file: Path, pipe: int) -> None:
    """Continue until killed; write a byte for every save."""
    run = Run()
    if file.exists():
        run.load(file)
    while True:
        run.step()
        fastopt.save(file, params=run.params, optimizer=run.optimizer, metadata=run.optimizer.steps, keep=KEEP)
        os.write(pipe, b".")


def older(file: Path) -> list[Path]:
    """Return the existing checkpoints, newest first."""
    names = [file, *(file.with_name(f"{file.stem}.{i}{file.suffix}") for i in range(1, KEEP))]
    return [name for name in names if name.exists()]


def main(name: str, kills: int, seed: int) -> None:
    """Kill the child, and check the files."""
    file, rng, total, within, last = Path(name), random.Random(seed), 0, 0, 0
    truth, found, states = Run(), Run(), {}
    cycle = 0.01  # seconds that a step and its save take; measured below, because emulated processors take much longer
    while within < kills:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            work(file, write)
        os.close(write)
        times = []
        for _ in range(rng.randint(0, 3)):  # saves, however long they take here
            assert os.read(read, 1), "the child has ended"
            times.append(time.monotonic())
        if len(times) > 1:
            cycle = times[-1] - times[-2]
        time.sleep(rng.uniform(0.0, cycle))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        total, within = total + 1, within + file.with_name(f".{file.name}.tmp").exists()
        steps = []
        for checkpoint in older(file):
            state = found.load(checkpoint)
            steps.append(found.optimizer.steps)
            while truth.optimizer.steps < steps[-1]:
                truth.step()
                states[truth.optimizer.steps] = truth.digest()
            assert state == states[steps[-1]], f"{checkpoint} is not a state of the run"
        assert steps == sorted(steps, reverse=True), f"the files are not in order: {steps}"
        assert not steps or steps[0] >= last, f"step {last} was saved; found {steps}"
        assert steps or not last, "the file is gone"
        last = steps[0] if steps else last
    print(total, within, last)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
