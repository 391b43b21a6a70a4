"""Interrupted runs: ``python resume.py FOLDER SUFFIX BEGIN END`` takes the steps [BEGIN, END) of each run.

A run that begins at 0 is new, another one is loaded from its checkpoint in FOLDER; at the end it is saved there. Prints
a digest of everything that steps change, which a test compares between processes.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
from cases import CASES, REALS, Case, hard_numbers, leaves, start_values

import fastopt

MORE = [
    Case(
        fastopt.Adam,
        {
            "lr": fastopt.schedules.Warmup(fastopt.schedules.Cosine(0.1, 20), 5),
            "betas": (fastopt.schedules.Linear(0.5, 0.9, 9), 0.9),
        },
    ),
    Case(
        fastopt.Momentum, {"lr": 0.1, "weight_decay": fastopt.schedules.Exponential(0.1, 0.9)}, {"max_grad_norm": 1.0}
    ),
]


def digest(*things) -> str:
    """Return the digest of arrays and numbers, in dictionaries and lists."""
    found = hashlib.sha256()
    for thing in things:
        if isinstance(thing, dict):
            found.update(digest(*[part for item in thing.items() for part in item]).encode())
        elif isinstance(thing, (list, tuple)):
            found.update(digest(*thing).encode())
        else:
            found.update(thing.tobytes() if isinstance(thing, np.ndarray) else repr(thing).encode())
    return found.hexdigest()


def steps_of_optimizer(case, real, file, begin, end):
    """Take steps with gradients that depend on the step, some not finite if the optimizer skips those."""
    params = fastopt.Flat({"w": (40, 30), "b": 7}, real)
    params.buffer[:] = start_values(params.buffer.size, real)
    optimizer = case.make(params)
    if begin:
        fastopt.load(file, params=params, optimizer=optimizer)
    grads = params.zeros_like()
    for step in range(begin, end):
        grads.buffer[:] = hard_numbers(params.buffer.size, real, seed=step)
        if case.common.get("nonfinite") == "skip" and step % 4 == 1:
            grads["b"][3] = np.nan
        optimizer.step(grads)
    fastopt.save(file, params=params, optimizer=optimizer)
    return digest(params.buffer, optimizer.state_dict())


ADDED = {5: {"lr": 0.02}, 14: {"weight_decay": 0.1}}  # the options of the groups that are added after so many steps


def steps_with_frozen_arrays(case, real, file, begin, end):
    """Take steps of two parts each, which leave arrays out; groups are added on the way, and again before loading."""
    rng = np.random.default_rng(0)
    params = [fastopt.Flat({"w": (8, 5), "b": 5}, real)]
    params += [{"w": np.zeros((5, 3), real, order="F"), "b": [np.zeros(3, real)]} for _ in ADDED]
    for array in leaves(params):
        array[...] = rng.normal(0, 1, array.shape)
    optimizer = case.make([{"params": params[0]}])

    def add_groups(steps):
        if steps in ADDED:
            group = params[len(optimizer.param_groups)]
            optimizer.add_param_group({"params": group, **ADDED[steps]})

    for step in range(begin):
        add_groups(step)
    if begin:
        fastopt.load(file, params=params, optimizer=optimizer)
    for step in range(begin, end):
        add_groups(step)
        for part in range(2):
            noise = fastopt.dropout(hard_numbers(45, real, step), 0.3, seed=1, step=optimizer.micro_steps)
            grads = [fastopt.Flat.from_buffer(params[0].layout, noise)]
            for _ in params[1 : len(optimizer.param_groups)]:
                w, b = noise[:15].reshape(5, 3).copy("F"), noise[-3:].copy()
                grads.append({"w": None if step % 3 == part else w, "b": [b] if step % 5 else None})
            skip = [["w"] if step % 4 == 1 else ["b"] if step % 7 == part else [], *[()] * len(grads[1:])]
            optimizer.accumulate(grads, skip)
        optimizer.step()
    fastopt.save(file, params=params, optimizer=optimizer)
    return digest(leaves(params), optimizer.state_dict())


def whole_run(real, file, begin, end):
    """Train with all that has state or depends on the step: order, dropout, averages, plateaus, early stopping."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(0, 1, (60, 8)).astype(real), rng.integers(0, 3, 60)
    params = {"w": rng.normal(0, 1, (8, 3)).astype(real), "b": np.zeros(3, real)}
    scale, shift = np.ones(8, real), np.zeros(8, real)
    averages = fastopt.Flat({"mean": np.zeros(8), "var": np.ones(8)}, real)
    plateau, alone = (fastopt.schedules.Plateau(0.1, patience=0, factor=0.7) for _ in range(2))
    optimizer = fastopt.AdamW(params, lr=fastopt.schedules.Warmup(plateau, 3), ema_decay=0.9, max_grad_norm=1.0)
    early_stopping, metric = fastopt.EarlyStopping(patience=100), 0.0
    if begin:
        saved = fastopt.load(file, params=params, optimizer=optimizer, early_stopping=early_stopping, schedule=alone)
        averages.buffer[:], metric = saved.arrays["averages"], saved.metadata["metric"]
    per_epoch = 60 // 8 + 1
    while optimizer.steps < end:
        epoch, start = divmod(optimizer.steps, per_epoch)
        for x, y in fastopt.batches(images, labels, batch_size=8, seed=3, epoch=epoch, start=start):
            step = optimizer.steps
            normal, _ = fastopt.batch_norm(x, scale, shift, averages["mean"], averages["var"])
            hidden = fastopt.dropout(normal, 0.3, seed=1, step=step)
            metric, slope = fastopt.cross_entropy(hidden @ params["w"] + params["b"], y)
            optimizer.step({"w": hidden.T @ slope, "b": slope.sum(0)})
            if optimizer.steps == end:
                break
        if optimizer.steps % per_epoch == 0:
            for schedule in (plateau, alone):
                schedule.update(metric)
            early_stopping.update(metric, params)
    fastopt.save(
        file,
        params=params,
        optimizer=optimizer,
        early_stopping=early_stopping,
        schedule=alone,
        arrays={"averages": averages.buffer},
        metadata={"metric": metric},
    )
    states = optimizer.state_dict(), early_stopping.state_dict(), alone.state_dict()
    return digest(params, averages.buffer, *states, metric)


def main(folder: str, suffix: str, begin: int, end: int) -> None:
    """Take the steps of all runs, and print a line for each."""
    for real in REALS:
        for i, case in enumerate([*CASES, *MORE]):
            file = Path(folder) / f"{i}-{np.dtype(real)}{suffix}"
            print(case, np.dtype(real), steps_of_optimizer(case, real, file, begin, end))
            file = Path(folder) / f"frozen-{i}-{np.dtype(real)}{suffix}"
            print("frozen", case, np.dtype(real), steps_with_frozen_arrays(case, real, file, begin, end))
        print(
            "whole run", np.dtype(real), whole_run(real, Path(folder) / f"whole-{np.dtype(real)}{suffix}", begin, end)
        )


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
