"""The command ``bench``: time a step of Adam in fastopt, in NumPy and in the peers that are installed."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import fastopt
from fastopt import runtime
from fastopt._bench.chart import Row, chart, ratio_text, time_text
from fastopt._bench.interleave import Interleaver, Protocol, Result, Results, quartiles
from fastopt._bench.models import MODELS
from fastopt._bench.peers import PEERS
from fastopt._bench.workers import NotInstalledError
from fastopt._commands import Parser
from fastopt._commands.report import processor, versions
from fastopt.examples import common

try:
    from tqdm import tqdm
except ImportError:
    tqdm = None  # type: ignore[assignment, misc]

PACKAGES = {"torch fused": "torch", "torch default": "torch", "DeepSpeed": "deepspeed", "optax": "optax"}
PACKAGES |= {"numba": "numba"}
PROTOCOL = Protocol(builds=2, rounds=3)

DESCRIPTION = """\
Time a step of Adam (float32) on the shapes of four models, from 9,610 to 124 million parameters, in fastopt, in NumPy
and in those of PyTorch, DeepSpeed, optax and numba that are installed. It takes some minutes; run nothing else
meanwhile. The largest model needs 2 GB of memory for each candidate, of which at least two are measured together.

The first steps of each candidate are compared with the formula: fastopt's must have the same bits, those of others
must agree within 4 units in the last place. Then each candidate warms up, and all take turns of about 0.1 s in random
order, each in a process of its own. The time of a turn is the median of its steps. A ratio is taken between the turns
of one round; the median and the quartiles of all rounds are printed.

"memory bound" is the time of as many reads and writes by SGD with momentum and a weight average, which only multiplies
and adds, on fastopt's threads. "NumPy out=" allocates nothing. DeepSpeed takes part if its kernel has been compiled.
"""


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    style = argparse.RawDescriptionHelpFormatter
    text = "time a step of Adam in fastopt and in its peers"
    parser = commands.add_parser("bench", help=text, description=DESCRIPTION, formatter_class=style)
    parser.add_argument("--plot", metavar="FILE", help="also draw a chart into an image file (needs matplotlib)")
    parser.set_defaults(run=partial(run, parser=parser))


def run(options: argparse.Namespace, parser: Parser) -> None:
    """Measure, print the table and draw the chart."""
    if options.plot is not None:
        common.check_plot("--plot", options.plot, parser)
    candidates = [name for name in PEERS if is_ready(name)]
    found = versions(["numpy", *(PACKAGES[name] for name in candidates if name in PACKAGES)])
    print(f"{processor()}, {runtime.available_threads()} processors; instruction set {fastopt.isa()}")
    print(", ".join(f"{name} {version}" for name, version in {"fastopt": fastopt.__version__, **found}.items()))
    if busy := other_load():
        print(f"\nOther programs keep {busy:.1f} processors busy: threads that wait for each other take far longer")
    results = measure(candidates)
    print("\nTime of a step of Adam: median (quartiles), relative to fastopt; > 1 means slower\n")
    print(table(candidates, results))
    for model, row in results.items():
        for name, result in row.items():
            if isinstance(result, Exception):
                print(f"{name}, {model}: {result}")
    if options.plot is not None:
        chart(chart_rows(results), options.plot)
        print(f"\nchart in {options.plot}")


def is_ready(name: str) -> bool:
    """Return whether a candidate's package is installed and, for DeepSpeed, its kernel compiled."""
    if name not in PACKAGES:
        return True
    spec = find_spec(PACKAGES[name])
    if spec is None or name != "DeepSpeed":
        return spec is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "torch_extensions")
    folders = [os.environ.get("TORCH_EXTENSIONS_DIR") or cache, *(spec.submodule_search_locations or [])]
    return any(True for folder in folders for _ in Path(folder).glob("**/cpu_adam*.so"))


def other_load() -> float:
    """Return the number of processors that were busy in the last minute, or 0 if it is small or not reported."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return load if load > 0.5 else 0.0


class Progress:
    """A progress bar if tqdm is installed and the output is a terminal, otherwise a line for each model."""

    def __init__(self, turns: int) -> None:
        shown = tqdm is not None and sys.stderr.isatty()
        self.bar = tqdm(total=turns, unit="turn", leave=False) if shown else None

    def start(self, model: str) -> None:
        """Begin a model."""
        if self.bar is not None:
            self.bar.set_description(model)
        else:
            print(f"measuring {model} ...", file=sys.stderr, flush=True)

    def turn(self, candidate: str) -> None:
        """Begin a turn."""
        if self.bar is not None:
            self.bar.set_postfix_str(candidate, refresh=False)
            self.bar.update()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()


def measure(candidates: list[str]) -> dict[str, Results]:
    """Return the results of each model."""
    progress = Progress(len(MODELS) * len(candidates) * PROTOCOL.builds * (1 + PROTOCOL.rounds))
    interleaver, results = Interleaver(progress.turn), {}
    try:
        for model, shapes in MODELS.items():
            progress.start(model)
            elements = sum(map(prod, shapes))
            work = "fastopt._bench.workloads:Steps", [shapes]
            results[model] = interleaver.measure(candidates, *work, elements, environment={}, protocol=PROTOCOL)
    finally:
        interleaver.close()
        progress.close()
    return results


def table(candidates: list[str], results: dict[str, Results]) -> str:
    """Return the results as text, with a column for each model."""
    columns = [["", "tensors", "parameters", *candidates]]
    for model, row in results.items():
        sizes = [f"{len(MODELS[model]):,}", f"{sum(map(prod, MODELS[model])):,}"]
        columns.append([model, *sizes, *(cell(row[name], name == candidates[0]) for name in candidates)])
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def cell(result: Result | Exception, first: bool) -> str:
    """Format the time of the first candidate, or the ratio of another."""
    if isinstance(result, Exception):
        return "not installed" if isinstance(result, NotInstalledError) else "failed"
    ratio = None if first else result.ratio()
    return time_text(quartiles(result.times)) if ratio is None else ratio_text(ratio)


def chart_rows(results: dict[str, Results]) -> list[Row]:
    """Return what the chart shows: the models that fastopt has completed."""
    rows = []
    for model, row in results.items():
        measured = {name: result for name, result in row.items() if isinstance(result, Result)}
        ratios = {name: ratio[1] for name, result in measured.items() if (ratio := result.ratio())}
        if "fastopt" in ratios:
            _, seconds, _ = quartiles(measured["fastopt"].times)
            rows.append(Row(model, sum(map(prod, MODELS[model])), seconds, ratios))
    return rows
