"""The command ``plot``: draw a schedule that is given as text."""

from __future__ import annotations

import argparse
import ast
from difflib import get_close_matches
from functools import partial
from typing import Any

from fastopt import schedules
from fastopt._commands import Parser
from fastopt.examples import common
from fastopt.schedules._plot import draw_schedule

SCHEDULES = {
    name: getattr(schedules, name)
    for name in schedules.__all__
    if name not in ("Schedule", "StatefulSchedule", "plot_schedule")
}
MAX_STEPS = 10**7


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    text = "Draw a schedule of the learning rate, or of another hyperparameter, by its step."
    parser = commands.add_parser("plot", help="draw a schedule", description=text)
    parser.add_argument(
        "schedule",
        metavar="SCHEDULE",
        type=parse,
        help=f'such as "Warmup(Cosine(1e-3, 1000), 100)"; the schedules are {", ".join(SCHEDULES)}',
    )
    parser.add_argument(
        "--steps",
        metavar="N",
        type=common.number(int, 1, MAX_STEPS),
        help="number of steps to draw; default: 1.2 times the sum of the integers in SCHEDULE, 100 to a million",
    )
    parser.add_argument("--out", metavar="FILE", help="write an image, whose name ends in .png, .svg, .pdf or the like")
    parser.set_defaults(run=partial(run, parser=parser))


def parse(text: str) -> tuple[schedules.Schedule, int]:
    """Return a schedule from an expression, and the sum of the integers in it."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        schedule = build(tree)
    except (SyntaxError, RecursionError, MemoryError):
        raise argparse.ArgumentTypeError(f"must be a Python expression, got {text!r}") from None
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(schedule, schedules.Schedule):
        raise argparse.ArgumentTypeError(f"must be a schedule such as Cosine(1e-3, 1000), got {text!r}")
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return schedule, sum(value for value in constants if type(value) is int)


def build(node: ast.expr) -> Any:
    """Return the value of an expression without running any code but that of schedules."""
    match node:
        case ast.Constant(value=int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [build(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {build(key): build(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if None not in [k.arg for k in keywords]:
            named = {str(keyword.arg): build(keyword.value) for keyword in keywords}
            return named_schedule(name)(*map(build, args), **named)
    raise ValueError(f"must consist of calls of schedules with numbers, got {ast.unparse(node)}")


def named_schedule(name: str) -> Any:
    """Return a class of `fastopt.schedules`."""
    if name not in SCHEDULES:
        meant = get_close_matches(name, SCHEDULES, 1)
        hint = f"did you mean {meant[0]}? Schedules" if meant else "schedules"
        raise ValueError(f"there is no schedule {name!r}; {hint} are {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


def run(options: argparse.Namespace, parser: Parser) -> None:
    """Draw the schedule into a file or a window."""
    schedule, integers = options.schedule
    steps = options.steps or min(max(100, round(1.2 * integers)), 10**6)
    if options.out is None:
        show(schedule, steps, parser)
        return
    common.check_plot("--out", options.out, parser)
    schedules.plot_schedule(schedule, steps).savefig(options.out, dpi=150)
    print(f"{schedule} in {options.out}")


def show(schedule: schedules.Schedule, steps: int, parser: Parser) -> None:
    """Draw the schedule into a window, and return when it is closed."""
    try:
        from matplotlib import pyplot  # noqa: PLC0415  optional
    except ImportError:
        parser.error('needs matplotlib: pip install "fastopt[examples]"')
    draw_schedule(pyplot.figure(), schedule, steps)
    if pyplot.get_backend().lower() == "agg":  # which matplotlib chooses if it can't open a window
        parser.error("found no display for a window: use --out FILE")
    pyplot.show()
