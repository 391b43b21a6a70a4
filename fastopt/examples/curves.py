"""Progress, lines and curves of the examples; what it needs of tqdm and matplotlib are extras."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

try:
    from tqdm import tqdm
except ImportError:  # without it there is no progress bar
    tqdm = None  # type: ignore[assignment, misc]

Setting: TypeAlias = "tuple[str, float, int]"  # optimizer, rate, batch size
Thing = TypeVar("Thing")

STYLES = {16: "-", 64: "--", 256: ":"}  # of the lines, by the batch size


class Curves(Protocol):
    """What is drawn of a run, epoch by epoch."""

    loss: list[float]
    accuracy: list[float]


def progress(things: Iterator[Thing], total: int, unit: str) -> Iterator[Thing]:
    """Wrap what is iterated over in a progress bar, which shows on a terminal."""
    return iter(tqdm(things, total=total, unit=unit, disable=None, leave=False)) if tqdm is not None else things


def write(line: str) -> None:
    """Print a line, above the progress bar if there is one."""
    if tqdm is not None:
        tqdm.write(line)
    else:
        print(line)


def plot(histories: Mapping[Setting, Curves], colors: Mapping[tuple[str, float], str], path: str) -> None:
    """Draw loss and error against the epoch: a column for each optimizer, rates in color, batch sizes in style."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra

    names = list(dict.fromkeys(name for name, _, _ in histories))
    figure = Figure(figsize=(1.5 + 3.2 * len(names), 6.5), layout="constrained")
    panels = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for (name, lr, size), history in histories.items():
        upper, lower = panels[:, names.index(name)]
        color = colors.get((name, lr), "C3")
        style = {"color": color, "linestyle": STYLES.get(size, "-"), "label": f"lr {lr:g}, batch {size}"}
        epochs = range(1, len(history.loss) + 1)
        upper.plot(epochs, history.loss, **style)
        lower.plot(epochs, [1 - right for right in history.accuracy], **style)
        upper.set(title=name, yscale="log")
        lower.set(xlabel="epoch", yscale="log")
    panels[0, 0].set_ylabel("training loss")
    panels[1, 0].set_ylabel("held-out error")
    for panel in panels[0]:
        panel.legend(fontsize=6)
    figure.savefig(path, dpi=120)
    write(f"curves in {path}")


def check_plot(option: str, path: str, parser: argparse.ArgumentParser) -> None:
    """Refuse, before hours of training, a file that can't be drawn."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra
    except ImportError:
        parser.error(f'{option} needs matplotlib: pip install "fastopt[examples]"')
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in formats:
        parser.error(f"{option} is {path}; wants a file name that ends in one of {', '.join(sorted(formats))}")
    if not Path(path).absolute().parent.is_dir():
        parser.error(f"{option} is {path}, but there is no such folder")
