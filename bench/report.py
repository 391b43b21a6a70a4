"""Run the benchmarks, write their tables and the picture.

    python bench/report.py                      # runs all, then writes bench/results.md, bench/scaling.svg, README.md
    python bench/report.py a.json b.json        # from what pytest --benchmark-json has written before

The README gets the tables of its block, between two comments; everything else of it stays.
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

mpl.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
TITLES = {
    "bench_optimizers": "A step of Adam on the shapes of models",
    "bench_loop": "A training iteration: three matrix products, then a step of Adam",
    "bench_pass": "Clip by the global norm, AdamW, weight average, zeroed gradients",
    "bench_overhead": "Small steps of Adam",
    "bench_scaling": "Adam by the number of parameters",
    "bench_denormals": "Steps with zero gradients",
    "bench_losses": "Losses: value and gradient, forward and backward",
    "bench_layers": "Layers: forward and backward",
    "bench_augment": "Augmentation: images rotated, scaled, shifted and flipped",
    "bench_reference": "Against the same formula in NumPy",
}
IN_README = {
    "bench_optimizers": [
        "fastopt",
        "torch fused",
        "torch default",
        "DeepSpeed",
        "optax",
        "numba",
        "NumPy out=",
        "wall 2",
    ],
    "bench_loop": ["fastopt", "torch fused", "torch default", "DeepSpeed", "optax", "numba", "NumPy out="],
    "bench_pass": ["fastopt", "torch", "DeepSpeed", "optax", "numba", "reference"],
}
PEERS = [
    "torch",
    "torchvision",
    "deepspeed",
    "optax",
    "jax",
    "numba",
    "scikit-learn",
    "opencv-python-headless",
    "scipy",
    "numpy",
]
BLOCK = re.compile(r"(?<=<!-- bench: begin -->\n).*?(?=<!-- bench: end -->)", re.DOTALL)


def run(files):
    """Run benchmark files one after the other; give the paths of their results."""
    folder = Path(tempfile.mkdtemp())
    for file in files:
        out = folder / f"{file}.json"
        command = [sys.executable, "-m", "pytest", "-q", str(HERE / f"{file}.py"), f"--benchmark-json={out}"]
        subprocess.run(command, check=True)
        yield out


def load(paths):
    """Give the rows of each benchmark file, as the ``compare`` fixture left them."""
    rows = {file: [] for file in TITLES}
    for path in paths:
        for benchmark in json.loads(Path(path).read_text(encoding="utf-8"))["benchmarks"]:
            rows[Path(benchmark["fullname"].split("::")[0]).stem].append(benchmark["extra_info"])
    return {file: found for file, found in rows.items() if found}


def machine():
    """Name the processor, its cores, and the versions of the peers."""
    try:
        facts = dict(re.findall(r"^(.+?)\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE))
        processor = f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    except (OSError, KeyError):
        processor = "processor of unknown name"
    installed = {found.name: found.version for found in metadata.distributions()}
    versions = [f"{peer} {installed[peer]}" for peer in PEERS if peer in installed]
    return f"{processor}, {os.cpu_count()} cores; {', '.join(versions)}"


def microseconds(seconds):
    """Three digits, no exponent."""
    us = seconds * 1e6
    return f"{us:,.0f}" if us >= 100 else f"{us:.3g}"


def table(rows, names=None):
    """The first candidate in microseconds, the others as multiples of it; all of them with their quartiles, or some."""
    with_quartiles = names is None
    names = names or list(dict.fromkeys(name for row in rows for name in row["candidates"]))
    keys = list(rows[0]["row"])
    lines = [[*keys, f"{names[0]} (us)", *names[1:]], ["---"] * (len(keys) + len(names))]
    for row in rows:
        cells = [f"{value:,}" if isinstance(value, int) else str(value) for value in row["row"].values()]
        first = next(iter(row["candidates"]))
        for name in names:
            figures = row["candidates"].get(name)
            if figures is None:
                cells.append("")
            elif name == first:
                peak = f", {figures['peak_bytes'] / 1e9:.2f} GB at most" if "peak_bytes" in figures else ""
                cells.append(microseconds(figures["seconds"]) + ("" if name == names[0] else " us") + peak)
            else:
                low, middle, high = figures["ratio"]
                spread = f" ({low:.2f}-{high:.2f})" if with_quartiles else ""
                cells.append((f"{middle:.2f}" if middle < 10 else f"{middle:.0f}") + spread)
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def picture(rows):
    """Time per parameter against their number, above the memory wall."""
    rows = [row for row in rows if {"fastopt", "wall 1", "wall 2"} <= row["candidates"].keys()]
    if not rows:
        return
    sizes = [row["elements"] for row in rows]

    def nanoseconds(name):
        return [row["candidates"][name]["seconds"] / row["elements"] * 1e9 for row in rows]

    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    names = [name for name in rows[0]["candidates"] if not name.startswith(("wall", "fastopt "))]
    for name in names:
        ours = name == "fastopt"
        axes.plot(
            sizes, nanoseconds(name), marker="o", ms=4, lw=2.6 if ours else 1.2, zorder=3 if ours else 2, label=name
        )
    wall = [min(pair) for pair in zip(nanoseconds("wall 1"), nanoseconds("wall 2"), strict=True)]
    axes.fill_between(sizes, 0.01, wall, color="0.88", zorder=1, label="the same streams, trivial arithmetic")
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="nanoseconds per parameter")
    axes.set(title="One step of Adam", xlim=(sizes[0], sizes[-1]), ylim=(0.5 * min(wall), None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(HERE / "scaling.svg", metadata={"Date": None})


def main(paths):
    """Write everything that there are results for."""
    rows = load(paths or run(TITLES))
    about = f"Machine: {machine()}. float32, defaults.\n"
    parts = [
        f"## {TITLES[file]}\n\n`{file}.py`; multiples of the first, with quartiles\n\n{table(found)}"
        for file, found in rows.items()
    ]
    (HERE / "results.md").write_text("# Results\n\n" + about + "\n" + "\n".join(parts), encoding="utf-8")
    if "bench_scaling" in rows:
        picture(rows["bench_scaling"])
    short = [f"**{TITLES[file]}**\n\n{table(rows[file], names)}" for file, names in IN_README.items() if file in rows]
    text = README.read_text(encoding="utf-8")
    README.write_text(BLOCK.sub(lambda _: about + "\n" + "\n".join(short), text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
