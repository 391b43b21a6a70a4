"""Random steps that leave arrays out, saves, loads, forks and changes of threads: ``python soak.py ACTIONS [SEED]``.

After every action, the run that it changed is compared with the NumPy reference, bit for bit; at the end, the process
must use about as much memory as after a tenth of the actions. Prints how often each action was done.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from cases import CASES, REALS, SIZES, Reference, hard_numbers, leaves, same_bits, start_values

import fastopt
from fastopt import runtime

RUNS = 12
GROWTH = 24 * 2**20  # bytes; a run with the largest tensors takes four times as much


class Run:
    """An optimizer of a random case and size, and its reference."""

    def __init__(self, rng: random.Random) -> None:
        self.case, self.real = rng.choice(CASES), rng.choice(REALS)
        sizes = {str(i): rng.choice(SIZES[:-1]) for i in range(rng.randint(1, 4))}
        start = [start_values(size, self.real, seed=i) for i, size in enumerate(sizes.values())]
        self.is_flat, self.frozen = rng.random() < 0.5, [False] * len(sizes)
        self.params = fastopt.Flat(dict(zip(sizes, start, strict=True)), self.real) if self.is_flat else start
        self.optimizer = self.case.make(self.params)
        self.reference = Reference(self.case, [self.params] if self.is_flat else start)

    def freeze(self, rng: random.Random) -> None:
        """Choose which arrays the next steps leave out."""
        self.frozen = [rng.random() < 0.4 for _ in self.frozen]

    def step(self, rng: random.Random) -> None:
        """Step both; if the optimizer skips non-finite gradients, some are."""
        seed, skip = rng.randrange(2**32), [str(i) for i, frozen in enumerate(self.frozen) if frozen]
        grads = [hard_numbers(p.size, self.real, seed + i) for i, p in enumerate(leaves(self.params))]
        taken = [None if frozen else grad for grad, frozen in zip(grads, self.frozen, strict=True)]
        if (
            self.case.common.get("nonfinite") == "skip"
            and rng.random() < 0.2
            and taken[0] is not None
            and grads[0].size
        ):
            grads[0][-1] = np.nan
        else:
            self.reference.step([None if grad is None else grad.copy() for grad in taken])
        if self.is_flat:
            self.optimizer.step(fastopt.Flat(dict(zip(self.params, grads, strict=True)), self.real), skip)
        else:
            self.optimizer.step(taken)

    def check(self) -> None:
        """Compare parameters and states bit for bit."""
        columns = {"param": self.params, **self.optimizer.state}
        for name, arrays in columns.items():
            wanted = [tensor[name] for tensor in self.reference.tensors]
            assert all(map(same_bits, leaves(arrays), wanted)), (self.case, name)


def save_and_load(run: Run, rng: random.Random, folder: Path) -> None:
    """Continue with another optimizer, from a checkpoint."""
    file = folder / "run.npz"
    fastopt.save(file, params=run.params, optimizer=run.optimizer, keep=rng.randint(1, 3))
    run.params = run.params.zeros_like() if run.is_flat else [np.zeros_like(param) for param in run.params]
    run.optimizer = run.case.make(run.params)
    fastopt.load(file, params=run.params, optimizer=run.optimizer)


def fork(run: Run, rng: random.Random) -> None:
    """Step in a forked child."""
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
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main(actions: int, seed: int) -> None:
    """Do random actions."""
    rng, done, warm, peak = random.Random(seed), Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        runs = [Run(rng) for _ in range(RUNS)]
        for i in range(actions):
            if i >= actions // 10:
                warm, peak = warm or resident(), max(peak, resident())
            run = rng.choice(runs)
            action = rng.choices(["step", "freeze", "checkpoint", "fork", "threads", "new"], [70, 10, 5, 5, 8, 2])[0]
            done[action] += 1
            if action == "step":
                run.step(rng)
            elif action == "freeze":
                run.freeze(rng)
            elif action == "checkpoint":
                save_and_load(run, rng, Path(folder))
            elif action == "fork":
                fork(run, rng)
            elif action == "threads":
                change_threads(rng)
            else:
                runs[runs.index(run)] = run = Run(rng)
            run.check()
    sizes = [f"{size / 2**20:.0f}" for size in (warm, peak, resident())]
    print(dict(done), "MiB after a tenth: {}, then at most {}, at the end {}".format(*sizes))
    assert resident() < warm + GROWTH, "memory grows"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
