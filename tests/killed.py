"""Kill a training run repeatedly: ``python killed.py FILE KILLS SEED``.

A child process loads the newest checkpoint and continues, saving after every step, until it is killed (SIGKILL) at a
random moment. The files that it leaves must load, and must be bit-for-bit states of an uninterrupted run. Prints the
number of kills, the number of kills during a save, and the last step.
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


def work(file: Path, done: int) -> None:
    """Train and save until killed; write a byte after each save."""
    run = Run()
    if file.exists():
        run.load(file)
    while True:
        run.step()
        fastopt.save(file, params=run.params, optimizer=run.optimizer, metadata=run.optimizer.steps, keep=KEEP)
        os.write(done, b".")


def older(file: Path) -> list[Path]:
    """Return the existing checkpoints, newest first."""
    names = [file, *(file.with_name(f"{file.stem}.{i}{file.suffix}") for i in range(1, KEEP))]
    return [name for name in names if name.exists()]


def main(name: str, kills: int, seed: int) -> None:
    """Kill the child, and check the files."""
    file, rng, within, last, duration = Path(name), random.Random(seed), 0, 0, 0.01
    truth, found, states = Run(), Run(), {}
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            work(file, writer)
        os.close(writer)
        for i in range(rng.randrange(4)):  # saves, not seconds: a busy machine makes progress too
            begin = time.monotonic()
            assert os.read(reader, 1), "the child failed"
            duration = time.monotonic() - begin if i else duration  # of a step and a save
        time.sleep(rng.uniform(0.0, duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        within += file.with_name(f".{file.name}.tmp").exists()
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
    print(kills, within, last)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
