"""Move public programs to fastopt, and measure them before and after.

    python bench/real_loops.py FOLDER [NAME...]      # measure and print a Markdown table
    python bench/real_loops.py --clone FOLDER        # print the commands that fill the folder

Both versions of a program run in turns, each time in a new process, in random order. A turn has a fixed number of
steps, of which the first tenth is not timed; the time of a turn is the median of its steps. A ratio is taken between
two turns of a round. The values that a program computes in the steps must agree to rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from loop_edits import apply, insert_clock
from loop_programs import PROGRAMS

CHILD = Path(__file__).with_name("loop_child.py")
ROUNDS = 4
ROUNDING = 100  # units of rounding per step that results may differ by


def clone_commands(folder):
    """Return the shell commands that clone the programs, without the files of other commits."""
    repositories = dict.fromkeys(program.repository for program in PROGRAMS.values())
    clone = "git clone -q --filter=blob:none --no-checkout https://github.com"
    return [f"{clone}/{name} {folder}/{name.partition('/')[2]}" for name in repositories]


class Checkout:
    """A program's files at its commit, with its data, as they are before or after the edits."""

    def __init__(self, program, clones, root):
        self.program, self.root = program, root
        clone = clones / program.repository.partition("/")[2]
        git = ["git", "-C", str(clone), "archive", program.commit, *program.paths]
        archive = subprocess.run(git, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(root)], input=archive, check=True)
        program.prepare(root)
        places = [*program.fixes, *program.edits, program.recorded, program.before, program.after]
        files = {place.file: self.path(place.file).read_text("utf-8").splitlines() for place in places if place.file}
        files, _ = apply(files, program.fixes)
        edited, self.changed = apply(files, program.edits)
        self.versions = {
            "before": (insert_clock(files, program.before, program.recorded), program.before),
            "after": (insert_clock(edited, program.after, program.recorded), program.after),
        }

    def path(self, file):
        return self.root / file

    def run(self, version):
        """Run a version and return its `Turn`."""
        files, timed = self.versions[version]
        for file, lines in files.items():
            self.path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        calls = self.program.steps * timed.calls
        script, result = self.path(self.program.script), self.root / "result.json"
        python_path = os.pathsep.join(filter(None, [str(self.root), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, CHILD, result, str(calls), timed.call, script, *self.program.arguments],
            cwd=script.parent,
            env={
                **os.environ,
                "HOME": str(self.root),
                "MPLBACKEND": "agg",
                "PYTHONDONTWRITEBYTECODE": "1",  # the files change within the resolution of their times
                "PYTHONHASHSEED": "0",
                "PYTHONPATH": python_path,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{script.name} {version} the edits failed:\n{done.stdout[-500:]}{done.stderr[-2000:]}")
        return summarize(**json.loads(result.read_text("utf-8")), calls=timed.calls)


@dataclass(frozen=True)
class Turn:
    """The median seconds of the optimizer and of the whole loop in a step, the steps, and the recorded values."""

    optimizer: float
    loop: float
    steps: int
    values: list[float]


def summarize(started, stopped, values, calls):
    """Return the `Turn` in which these calls of the optimizer started and stopped."""
    steps = len(stopped) // calls
    stopped, ends = np.array(stopped[: steps * calls]), np.array(started[::calls])
    optimizer = (stopped - started[: steps * calls]).reshape(steps, calls).sum(axis=1)
    warmup = max(1, steps // 10)
    return Turn(float(np.median(optimizer[warmup:])), float(np.median(np.diff(ends)[warmup:])), steps, values)


def deviation(before, after):
    """Return the largest difference of two lists of values, relative to the larger of both."""
    if len(before) != len(after) or not before:
        raise ValueError(f"both versions must record values, and as many, got {len(before)} and {len(after)}")
    a, b = np.array(before), np.array(after)
    size = np.maximum(np.abs(a), np.abs(b))
    return float(np.max(np.abs(a - b) / np.where(size, size, 1)))


def check(before, after, dtype):
    """Return how well the results of two turns agree, as words; raise an exception if they do not."""
    off, limit = deviation(before.values, after.values), ROUNDING * before.steps * np.finfo(dtype).eps
    if not off <= limit:
        raise ValueError(f"results must agree within {limit:.1g} after {before.steps} steps, got {off:.1g}")
    return f"{off:.0e} after {before.steps} steps ({dtype})" if off else f"equal for {before.steps} steps"


def measure(program, clones, rounds):
    """Return the cells of the program's row."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout(program, clones, Path(folder))
        turns = [
            {version: checkout.run(version) for version in random.sample(["before", "after"], 2)} for _ in range(rounds)
        ]
    cells = [f"+{checkout.changed[0]} -{checkout.changed[1]}", check(**turns[0], dtype=program.dtype)]
    for part, unit in [("optimizer", 1e6), ("loop", 1e3)]:
        before, after = (
            np.array([getattr(turn[version], part) for turn in turns]) * unit for version in ("before", "after")
        )
        low, ratio, high = np.quantile(after / before, [0.25, 0.5, 0.75])
        cells += [f"{number(np.median(before))} -> {number(np.median(after))}", f"{ratio:.2f} ({low:.2f}-{high:.2f})"]
    return cells


def print_row(name, clones, rounds):
    """Measure a program and print its row, or the error; return whether it could be measured."""
    try:
        cells = measure(PROGRAMS[name], clones, rounds)
    except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    print("| " + " | ".join([name, *cells]) + " |", flush=True)
    return True


def number(value):
    """Return a time with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main():
    """Print the table, or the commands that clone the programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the clones")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(PROGRAMS)} (default: all)")
    parser.add_argument("--clone", action="store_true", help="print the commands that clone the programs")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each version (default: %(default)s)")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in PROGRAMS:
            parser.error(f"NAME must be one of {', '.join(PROGRAMS)}, got {name!r}")
    if arguments.clone:
        print("\n".join(clone_commands(arguments.folder)))
        return
    header = ["program", "lines", "results differ by", "optimizer, us", "ratio", "loop, ms", "ratio"]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
    names = arguments.names or PROGRAMS
    failed = [name for name in names if not print_row(name, arguments.folder, arguments.rounds)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
