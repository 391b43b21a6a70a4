"""Texts of measured times, and the chart of optimizer steps by the size of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Colors by Okabe and Ito, which color-blind readers can distinguish; markers distinguish them in gray, too.
CURVES = {
    "NumPy out=": ("#E69F00", "v"),
    "torch default": ("#CC79A7", "D"),
    "optax": ("#009E73", "^"),
    "torch fused": ("#D55E00", "s"),
    "DeepSpeed": ("#56B4E9", "P"),
    "numba": ("#B8A800", "X"),
    "memory bound": ("0.6", "_"),
    "fastopt": ("#0072B2", "o"),
}


class Row(NamedTuple):
    """What the chart shows of a model."""

    model: str
    parameters: int
    seconds: float  # of a step of fastopt
    ratios: dict[str, float]  # of each candidate to fastopt


def digits(x: float) -> str:
    """Format with three significant digits, without an exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def time_text(quartiles: Sequence[float]) -> str:
    """Format seconds as microseconds: the median and the other quartiles."""
    low, median, high = (digits(x * 1e6) for x in quartiles)
    return f"{median} us ({low}-{high})"


def ratio_text(quartiles: Sequence[float]) -> str:
    """Format ratios: the median and the other quartiles."""
    low, median, high = (f"{x:.2f}" if x < 10 else digits(x) for x in quartiles)
    return f"{median} ({low}-{high})"


def chart(rows: Sequence[Row], path: str) -> None:
    """Draw the time per step relative to fastopt, from the smallest to the largest model."""
    import matplotlib as mpl  # noqa: PLC0415  optional
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: PLC0415

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastopt", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.5, 4), layout="constrained")
        axes = figure.subplots()
        for name, (color, marker) in CURVES.items():
            found = {i: row.ratios[name] for i, row in enumerate(rows) if name in row.ratios}
            width, size = (2.5, 7) if name == "fastopt" else (1.2, 6)
            if found:
                x, y = list(found), list(found.values())
                axes.plot(x, y, color=color, marker=marker, label=name, linewidth=width, markersize=size)
        axes.set(yscale="log", ylabel="time relative to fastopt", title="One step of Adam (lower is faster)")
        axes.set_xticks(range(len(rows)), list(map(tick, rows)))
        axes.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10_000]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}x"))
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right upper", frameon=False)
        reproducible = {"Date": None, "Creator": None} if path.endswith(".svg") else {}
        figure.savefig(path, metadata=reproducible)


def tick(row: Row) -> str:
    """Return the label of a model: its name, its size and the time of a step of fastopt."""
    size = f"{row.parameters / 1e6:.0f} million" if row.parameters >= 1e6 else f"{row.parameters:,}"
    us = row.seconds * 1e6
    return f"{row.model}\n{size}\n" + (f"{us:.0f} µs" if us < 1000 else f"{us / 1000:.0f} ms")
