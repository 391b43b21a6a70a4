"""Run the benchmarks, then write ``bench/results.md`` and ``bench/chart.svg``.

    python bench/report.py                      # run all benchmarks, then report
    python bench/report.py a.json b.json        # report earlier runs, saved by pytest --benchmark-json=a.json

With ``--quick``, the benchmarks run shortly and on small rows only, which checks them but measures nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from memory_bound import MEMORY_BOUND

from fastopt._bench.chart import Row, chart, ratio_text, time_text
from fastopt._commands.report import processor, versions

HERE = Path(__file__).parent
TITLES = {
    "bench_optimizers": "A step of Adam on the shapes of models",
    "bench_first_steps": "The first ten steps of a new optimizer in a new process",
    "bench_loop": "A training iteration: three matrix products, then a step of Adam",
    "bench_pass": "Clip by the global norm, AdamW, weight average, zero the gradients",
    "bench_overhead": "Small steps of Adam",
    "bench_torch": "A training iteration of PyTorch",
    "bench_kernels": "Kernels in cache, on one thread, and their bare formulas",
    "bench_scaling": "Adam by the number of parameters",
    "bench_denormals": "Steps with zero gradients",
    "bench_losses": "Losses: value and gradient",
    "bench_layers": "Layers: forward and backward",
    "bench_augment": "Augmentation: images rotated, scaled, shifted and flipped",
    "bench_sklearn": "scikit-learn's MLPClassifier with its own optimizer, and with fastopt's",
    "bench_thinc": "thinc and spaCy, with fastopt's Adam and with thinc's",
    "bench_reference": "Relative to the same formula in NumPy",
}
PACKAGES = ["torch", "deepspeed", "optax", "jax", "numba", "scikit-learn", "opencv-python-headless"]
PACKAGES += ["scipy", "numpy"]


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
    found = ", ".join(f"{package} {version}" for package, version in versions(PACKAGES).items())
    return f"{processor()}, {os.cpu_count()} cores; {found}"


def cell(benchmark, first):
    """Format the time of the first candidate in microseconds, or the ratio of another, with quartiles."""
    if benchmark is None:
        return ""
    if first or benchmark["extra_info"]["ratio"] is None:
        peak = benchmark["extra_info"].get("peak_bytes", 0)
        times = time_text([benchmark["stats"][key] for key in ("q1", "median", "q3")])
        return times + (f", {peak / 1e9:.2f} GB at most" if peak else "")
    return ratio_text(benchmark["extra_info"]["ratio"])


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


def chart_row(labels, found):
    """Return what the chart shows of a model."""
    ratios = {name: benchmark["extra_info"]["ratio"][1] for name, benchmark in found.items()}
    if bounds := [ratios[name] for name in MEMORY_BOUND if name in ratios]:
        ratios["memory bound"] = min(bounds)
    return Row(labels["model"], labels["parameters"], found["fastopt"]["stats"]["median"], ratios)


def main(arguments):
    """Write the results of the given files, or of a new run."""
    options = [argument for argument in arguments if argument.startswith("-")]
    files = load([argument for argument in arguments if argument not in options] or run(options))
    parts = [f"# Results\n\nMachine: {machine()}.\n"]
    parts += ["Times of the first candidate, ratios of the others to it (> 1 means slower): median (quartiles).\n"]
    parts += [f"## {TITLES[name]}\n\n`{name}.py`\n\n{tables(rows)}" for name, rows in files.items()]
    (HERE / "results.md").write_text("\n".join(parts), encoding="utf-8")
    if "bench_optimizers" in files:
        chart([chart_row(*row) for row in files["bench_optimizers"] if "fastopt" in row[1]], str(HERE / "chart.svg"))


if __name__ == "__main__":
    main(sys.argv[1:])
