"""Random steps, saves, loads, forks and changes of threads for as long as you like: ``python soak.py SECONDS [SEED]``.

After every action the run it was done to has the bits of the formula in NumPy, and in the end memory is what it was
after a tenth of the time. It prints how often each action was done.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from cases import CASES, REALS, SIZES, Reference, hard_numbers, same_bits, start_values

import fastopt
from fastopt import runtime

RUNS = 12
GROWTH = 24 * 2**20  # bytes that the process may grow by: the largest run is four of these


class Run:
    """An optimizer of a random case and size, and its formula."""

    def __init__(self, rng: random.Random) -> None:
        self.case, real = rng.choice(CASES), rng.choice(REALS)
        sizes = [rng.choice(SIZES[:-1]) for _ in range(rng.randint(1, 4))]
        self.params = [start_values(size, real, seed=i) for i, size in enumerate(sizes)]
        self.optimizer, self.formula = self.case.make(self.params), Reference(self.case, self.params)

    def step(self, rng: random.Random) -> None:
        """Do a step of both; some gradients are not finite, where those are skipped."""
        seed, grads = rng.randrange(2**32), []
        for i, param in enumerate(self.params):
            grads.append(hard_numbers(param.size, param.dtype.type, seed=seed + i))
        if self.case.common.get("nonfinite") == "skip" and rng.random() < 0.2 and grads[0].size:
            grads[0][-1] = np.nan
            self.optimizer.step(grads)
            return
        self.formula.step([grad.copy() for grad in grads])
        self.optimizer.step(grads)

    def check(self) -> None:
        """Compare every bit."""
        for i, (param, tensor) in enumerate(zip(self.params, self.formula.tensors, strict=True)):
            assert same_bits(param, tensor["param"]), self.case
            for name, state in self.optimizer.state.items():
                assert same_bits(state[i], tensor[name]), (self.case, name)


def save_and_load(run: Run, rng: random.Random, folder: Path) -> None:
    """Go on with another optimizer, from a checkpoint."""
    file = folder / "run.npz"
    fastopt.save(file, params=run.params, optimizer=run.optimizer, keep=rng.randint(1, 3))
    run.params = [np.zeros_like(param) for param in run.params]
    run.optimizer = run.case.make(run.params)
    fastopt.load(file, params=run.params, optimizer=run.optimizer)


def fork(run: Run, rng: random.Random) -> None:
    """Let a child go on by itself."""
    child = os.fork()
    if not child:
        try:
            run.step(rng)
            run.check()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, f"the child failed: {run.case}"


def change_threads(rng: random.Random) -> None:
    """Choose another number of threads and another instruction set."""
    fastopt.set_num_threads(rng.choice([1, 2, 3, 5, "auto"]))
    fastopt.set_isa(rng.choice(runtime.available_isas()))


def resident() -> int:
    """Give the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main(seconds: float, seed: int) -> None:
    """Do random actions."""
    rng, done, begun = random.Random(seed), Counter(), time.monotonic()
    warm, peak = None, 0
    with tempfile.TemporaryDirectory() as folder:
        runs = [Run(rng) for _ in range(RUNS)]
        while (elapsed := time.monotonic() - begun) < seconds:
            if elapsed > seconds / 10:
                now = resident()
                warm, peak = warm or now, max(peak, now)
            run = rng.choice(runs)
            action = rng.choices(["step", "checkpoint", "fork", "threads", "new"], [80, 5, 5, 8, 2])[0]
            done[action] += 1
            if action == "step":
                run.step(rng)
            elif action == "checkpoint":
                save_and_load(run, rng, Path(folder))
            elif action == "fork":
                fork(run, rng)
            elif action == "threads":
                change_threads(rng)
            else:
                runs[runs.index(run)] = run = Run(rng)
            run.check()
    print(
        dict(done),
        f"{warm / 2**20:.0f} MiB after a tenth, at most {peak / 2**20:.0f} then, {resident() / 2**20:.0f} in the end",
    )
    assert resident() < warm + GROWTH, "memory grows"


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
