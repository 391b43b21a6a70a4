"""Run the benchmarks, then write ``bench/results.md`` and ``bench/chart.svg``.

    python bench/report.py                      # run all benchmarks, then report
    python bench/report.py a.json b.json        # report earlier runs, saved by pytest --benchmark-json=a.json

With ``--quick``, the benchmarks run shortly and on small rows only, which checks them but measures nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import matplotlib as mpl
from memory_bound import MEMORY_BOUND

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

HERE = Path(__file__).parent
TITLES = {
    "bench_optimizers": "A step of Adam on the shapes of models",
    "bench_first_steps": "The first ten steps of a new optimizer in a new process",
    "bench_loop": "A training iteration: three matrix products, then a step of Adam",
    "bench_pass": "Clip by the global norm, AdamW, weight average, zero the gradients",
    "bench_overhead": "Small steps of Adam",
    "bench_torch": "A training iteration of PyTorch",
    "bench_scaling": "Adam by the number of parameters",
    "bench_denormals": "Steps with zero gradients",
    "bench_losses": "Losses: value and gradient",
    "bench_layers": "Layers: forward and backward",
    "bench_augment": "Augmentation: images rotated, scaled, shifted and flipped",
    "bench_reference": "Relative to the same formula in NumPy",
}
PACKAGES = ["torch", "deepspeed", "optax", "jax", "numba", "scikit-learn", "opencv-python-headless"]
PACKAGES += ["scipy", "numpy"]

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


def run(options):
    """Run each benchmark file and yield the path of its results."""
    folder = Path(tempfile.mkdtemp())
    for name in TITLES:
        path = folder / f"{name}.json"
        command = [sys.executable, "-m", "pytest", "-q", str(HERE / f"{name}.py"), f"--benchmark-json={path}", *options]
        if subprocess.run(command, check=False).returncode:
            print(f"{name}: some candidates failed; their results are missing")
        if path.exists():
            yield path


def load(paths):
    """Return, for each benchmark file, its rows as (labels, benchmarks by candidate)."""
    files = {name: {} for name in TITLES}
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        for benchmark in json.loads(text)["benchmarks"] if text else []:
            rows = files[Path(benchmark["fullname"].split("::")[0]).stem]
            row = rows.setdefault(benchmark["group"], (benchmark["extra_info"]["row"], {}))
            row[1][benchmark["params"]["candidate"]] = benchmark
    return {name: list(rows.values()) for name, rows in files.items() if rows}


def machine():
    """Return the processor, the number of cores, and the versions of the peers."""
    try:
        facts = dict(re.findall(r"^(.+?)\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE))
        processor = f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    except (OSError, KeyError):
        processor = "unknown processor"
    installed = {found.name: found.version for found in metadata.distributions()}
    versions = [f"{package} {installed[package]}" for package in PACKAGES if package in installed]
    return f"{processor}, {os.cpu_count()} cores; {', '.join(versions)}"


def digits(x):
    """Format with three significant digits, without an exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def cell(benchmark, first):
    """Format the time of the first candidate in microseconds, or the ratio of another, with quartiles."""
    if benchmark is None:
        return ""
    if first or benchmark["extra_info"]["ratio"] is None:
        low, median, high = (digits(benchmark["stats"][key] * 1e6) for key in ("q1", "median", "q3"))
        peak = benchmark["extra_info"].get("peak_bytes", 0)
        return f"{median} us ({low}-{high})" + (f", {peak / 1e9:.2f} GB at most" if peak else "")
    low, median, high = (f"{x:.2f}" if x < 10 else digits(x) for x in benchmark["extra_info"]["ratio"])
    return f"{median} ({low}-{high})"


def table(rows):
    """Return a Markdown table of the rows, all with the same labels and candidates."""
    labels, candidates = list(rows[0][0]), list(dict.fromkeys(name for _, found in rows for name in found))
    lines = [[*labels, *candidates], ["---"] * (len(labels) + len(candidates))]
    for values, found in rows:
        texts = [f"{value:,}" if isinstance(value, int) else str(value) for value in values.values()]
        lines.append([*texts, *(cell(found.get(name), name == candidates[0]) for name in candidates)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tables(rows):
    """Return a table for each test of a benchmark file."""
    tests = {}
    for row in rows:
        tests.setdefault(next(iter(row[1].values()))["name"].split("[")[0], []).append(row)
    return "\n".join(map(table, tests.values()))


def chart(rows, path=HERE / "chart.svg"):
    """Draw the time per step relative to fastopt, from the smallest to the largest model."""
    rows = [row for row in rows if "fastopt" in row[1]]

    def tick(labels, found):
        us = found["fastopt"]["stats"]["median"] * 1e6
        parameters = labels["parameters"]
        size = f"{parameters / 1e6:.0f} million" if parameters >= 1e6 else f"{parameters:,}"
        return f"{labels['model']}\n{size}\n" + (f"{us:.0f} µs" if us < 1000 else f"{us / 1000:.0f} ms")

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fastopt", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
    for name, (color, marker) in CURVES.items():
        sources = MEMORY_BOUND if name == "memory bound" else [name]
        ratios = [[row[s]["extra_info"]["ratio"][1] for s in sources if s in row] for _, row in rows]
        found = {i: min(values) for i, values in enumerate(ratios) if values}
        style = {"lw": 2.5, "ms": 7} if name == "fastopt" else {"lw": 1.2, "ms": 6}
        if found:
            axes.plot(list(found), list(found.values()), color=color, marker=marker, label=name, **style)
    axes.set(yscale="log", ylabel="time relative to fastopt", title="One step of Adam (lower is faster)")
    axes.set_xticks(range(len(rows)), [tick(*row) for row in rows])
    axes.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50, 100]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}x"))
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main(arguments):
    """Write the results of the given files, or of a new run."""
    options = [argument for argument in arguments if argument.startswith("-")]
    files = load([argument for argument in arguments if argument not in options] or run(options))
    parts = [f"# Results\n\nMachine: {machine()}.\n"]
    parts += ["Times of the first candidate, ratios of the others to it (> 1 means slower): median (quartiles).\n"]
    parts += [f"## {TITLES[name]}\n\n`{name}.py`\n\n{tables(rows)}" for name, rows in files.items()]
    (HERE / "results.md").write_text("\n".join(parts), encoding="utf-8")
    if "bench_optimizers" in files:
        chart(files["bench_optimizers"])


if __name__ == "__main__":
    main(sys.argv[1:])
