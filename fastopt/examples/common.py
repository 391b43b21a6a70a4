"""Code that the examples share: data, initial weights, command-line options, progress bars and plots."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

import fastopt

try:
    from tqdm import tqdm
except ImportError:
    tqdm = None  # type: ignore[assignment, misc]

Array: TypeAlias = npt.NDArray[Any]
Setting: TypeAlias = "tuple[str, float, int]"  # optimizer, rate, batch size
Item = TypeVar("Item")

LINE_STYLES = {16: "-", 64: "--", 256: ":"}  # by batch size


class Curves(Protocol):
    """Training loss and held-out accuracy after each epoch."""

    loss: list[float]
    accuracy: list[float]


def load_table(name: str, **options: Any) -> Array:
    """Return the numbers in a file of `fastopt.data`."""
    with resources.as_file(resources.files("fastopt.data") / name) as path:
        table: Array = np.loadtxt(path, delimiter=",", dtype=np.float32, **options)
    return table


def initial_params(inputs: int, hidden: int, outputs: int, seed: int) -> fastopt.Flat:
    """Return random weights (He et al., 2015) and zero biases of a network with one hidden layer."""
    rng = np.random.default_rng(seed)
    params = fastopt.Flat({"w1": (inputs, hidden), "b1": hidden, "w2": (hidden, outputs), "b2": outputs})
    params["w1"] = rng.normal(0, np.sqrt(2 / inputs), (inputs, hidden))
    params["w2"] = rng.normal(0, np.sqrt(2 / hidden), (hidden, outputs))
    return params


def number(kind: Callable[[str], Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    """Return a type for argparse: an int or a float in [low, high)."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value < high:
            below = f" and < {high}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"must be a finite number >= {low}{below}, got {text}")
        return value

    parse.__name__ = kind.__name__  # for argparse's message if the text is not a number
    return parse


def progress(items: Iterator[Item], total: int, unit: str) -> Iterator[Item]:
    """Wrap an iterator in a progress bar, if tqdm is installed and the output is a terminal."""
    return iter(tqdm(items, total=total, unit=unit, disable=None, leave=False)) if tqdm is not None else items


def write(line: str) -> None:
    """Print a line above the progress bar."""
    if tqdm is not None:
        tqdm.write(line)
    else:
        print(line)


def plot(histories: Mapping[Setting, Curves], colors: Mapping[tuple[str, float], str], path: str) -> None:
    """Plot loss and error by epoch: a column for each optimizer, a color for each rate, a style for each batch size."""
    from matplotlib.figure import Figure  # noqa: PLC0415  optional

    names = list(dict.fromkeys(name for name, _, _ in histories))
    figure = Figure(figsize=(1.5 + 3.2 * len(names), 6.5), layout="constrained")
    panels = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for (name, lr, size), history in histories.items():
        upper, lower = panels[:, names.index(name)]
        color = colors.get((name, lr), "C3")
        style = {"color": color, "linestyle": LINE_STYLES.get(size, "-"), "label": f"lr {lr:g}, batch {size}"}
        epochs = range(1, len(history.loss) + 1)
        upper.plot(epochs, history.loss, **style)
        lower.plot(epochs, [1 - accuracy for accuracy in history.accuracy], **style)
        upper.set(title=name, yscale="log")
        lower.set(xlabel="epoch", yscale="log")
    panels[0, 0].set_ylabel("training loss")
    panels[1, 0].set_ylabel("held-out error")
    for panel in panels[0]:
        panel.legend(fontsize=6)
    figure.savefig(path, dpi=120)
    write(f"curves in {path}")


def check_plot(option: str, path: str, parser: argparse.ArgumentParser) -> None:
    """Exit with an error before the training if the plot could not be written."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  optional
    except ImportError:
        parser.error(f'{option} needs matplotlib: pip install "fastopt[examples]"')
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in formats:
        parser.error(f"{option} must end in one of {', '.join(sorted(formats))}, got {path}")
    if not Path(path).absolute().parent.is_dir():
        parser.error(f"{option} must name a file in an existing folder, got {path}")
