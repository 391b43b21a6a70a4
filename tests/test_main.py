"""``python -m fastopt``: the report, the benchmark of Adam, and plots of schedules."""

from __future__ import annotations

import argparse
import os
import re
import sys
from importlib import metadata

import numpy as np
import pytest
from processes import run_in_terminal, run_python

import fastopt
from fastopt import _core, runtime
from fastopt import schedules as s
from fastopt.__main__ import main
from fastopt._bench import workloads
from fastopt._bench.formulas import deviation
from fastopt._bench.interleave import Interleaver, Protocol
from fastopt._bench.peers import PEERS, Peer
from fastopt._bench.workers import NotInstalledError
from fastopt._commands import bench, plot

SHORT = Protocol(builds=1, rounds=2, seconds=0, warmup=0)


def run(*arguments, **environment):
    return run_python("-m", "fastopt", *arguments, **environment)


def test_report():
    done = run()
    assert done.returncode == 0, done.stderr
    facts = dict(re.split(": +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert facts["fastopt"] == fastopt.__version__
    assert facts["Python, NumPy"].endswith(np.__version__)
    assert facts["compiler"] == _core.COMPILER
    available = runtime.available_isas()
    assert facts["instruction sets"] == f"{', '.join(available)}; in use: {available[0]}"
    assert facts["threads"] == f"at most {runtime.available_threads()}; processors: {runtime.available_threads()}"
    assert facts["threading layer"] == "pool"
    found = {} if facts["extras found"] == "none" else dict(x.split(" ") for x in facts["extras found"].split(", "))
    assert found == {name: metadata.version(name) for name in found}
    for name in facts["not installed"].split(", "):
        with pytest.raises(metadata.PackageNotFoundError):
            metadata.version(name)
    assert {"torch", "scikit-learn", "thinc", "safetensors", "matplotlib", "tqdm"} <= {
        *found,
        *facts["not installed"].split(", "),
    }


def test_report_imports_no_extra_and_fastopt_no_command():
    report = "import runpy; runpy.run_module('fastopt', run_name='__main__')"
    for code, unwanted in [
        (report, ["torch", "sklearn", "matplotlib", "jax", "numba", "safetensors"]),
        ("import fastopt", ["argparse", "fastopt._commands", "fastopt._bench", "fastopt.examples"]),
    ]:
        done = run_python("-c", f"{code}; import sys; print(*sys.modules)")
        assert done.returncode == 0, done.stderr
        loaded = done.stdout.splitlines()[-1].split()
        assert "fastopt" in loaded
        assert not set(unwanted) & set(loaded)


def test_help_describes_the_commands():
    assert re.search(r"bench .*\n +plot ", run("--help").stdout)
    assert "--plot FILE" in run("bench", "--help").stdout
    assert all(name in run("plot", "--help").stdout for name in plot.SCHEDULES)


REFUSED = [
    (["nonsense"], "argument COMMAND: invalid choice: 'nonsense' (choose from"),
    (["--verbose"], "unrecognized arguments: --verbose"),
    (["bench", "--plot", "/no/such/folder/x.png"], "--plot must name a file in an existing folder, got"),
    (["bench", "now"], "unrecognized arguments: now"),
    (["plot"], "the following arguments are required: SCHEDULE"),
    (["plot", "Constant(1)", "--steps", "0"], "argument --steps: must be a finite number >= 1 and < 10000000, got 0"),
    (["plot", "Constant(1)", "--out", "x.xyz"], "--out must end in one of"),
    (["plot", "Cosin(1, 2)"], "there is no schedule 'Cosin'; did you mean Cosine? Schedules are Constant, "),
    (["plot", "Schedule()"], "there is no schedule 'Schedule'; "),
    (["plot", "Cosine(1, 0)"], "decay_steps must be an int >= 1, got 0"),
    (["plot", "Cosine(1)"], "missing 1 required positional argument: 'decay_steps'"),
    (["plot", "Cosine(1, 2, rate=3)"], "unexpected keyword argument 'rate'"),
    (["plot", "1 +\n2"], r"must be a Python expression, got '1 +\n2'"),
    (["plot", "(" * 300], "must be a Python expression, got '((((("),
    (["plot", "0.1"], "must be a schedule such as Cosine(1e-3, 1000), got '0.1'"),
    (["plot", "[Cosine(1, 2)]"], "must be a schedule such as Cosine(1e-3, 1000), got '[Cosine(1, 2)]'"),
    (["plot", "Warmup(0.1, 5)"], "schedule must be a schedule or another function of the step, got 0.1"),
    (["plot", "__import__('os').abort()"], "must consist of calls of schedules with numbers, got __import__('os')"),
    (["plot", "Constant(x)"], "must consist of calls of schedules with numbers, got x"),
    (["plot", "Constant(9**9**9)"], "must consist of calls of schedules with numbers, got 9 ** 9 ** 9"),
    (["plot", "Constant(*[1])"], "must consist of calls of schedules with numbers, got *[1]"),
    (["plot", "Constant(**{'value': 1})"], "must consist of calls of schedules with numbers, got Constant(**"),
    (["plot", "Constant(lambda: 1)"], "must consist of calls of schedules with numbers, got lambda: 1"),
    (["plot", "PiecewiseConstant(1.0, {[1]: 2})"], "unhashable type: 'list'"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_unknown_input_exits_with_status_2_and_one_line(arguments, says, capsys):
    if "--plot" in arguments or "--out" in arguments:
        pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert shown.out == ""
    assert re.fullmatch(r"python -m fastopt( bench| plot)?: [^\n]+\n", shown.err)
    assert says in shown.err


def test_unknown_input_in_a_new_process():
    done = run("plot", "Cosine(1, 0)")
    assert done.returncode == 2
    assert done.stderr == "python -m fastopt plot: argument SCHEDULE: decay_steps must be an int >= 1, got 0\n"


@pytest.mark.parametrize(
    ("text", "schedule", "integers"),
    [
        ("Warmup(Cosine(1e-3, 1000), 100)", s.Warmup(s.Cosine(1e-3, 1000), 100), 1100),
        (" Cosine(1, decay_steps=50, end_value=-0.5)", s.Cosine(1, 50, -0.5), 51),
        (
            "Join([Constant(0.1), Linear(0.1, 0.0, 5)], (20,))",
            s.Join([s.Constant(0.1), s.Linear(0.1, 0.0, 5)], [20]),
            25,
        ),
        ("PiecewiseConstant(1.0, {10: 0.5, 20: 0.1})", s.PiecewiseConstant(1.0, {10: 0.5, 20: 0.1}), 30),
        ("Plateau(0.1, mode='max')", s.Plateau(0.1, mode="max"), 0),
    ],
)
def test_schedule_is_parsed(text, schedule, integers):
    assert plot.parse(text) == (schedule, integers)
    with pytest.raises(argparse.ArgumentTypeError):
        plot.parse(text + "(1)")


@pytest.mark.parametrize(
    ("text", "options", "steps"),
    [
        ("Warmup(Cosine(1e-3, 1000), 100)", [], 1320),
        ("Constant(1.0)", [], 100),
        ("Cosine(1.0, 2000000)", [], 1_000_000),
        ("Cosine(1.0, 1000)", ["--steps", "7"], 7),
    ],
)
def test_plot_in_a_window(tmp_path, text, options, steps):
    """The window is that of a backend of matplotlib, which reports what it would show."""
    pytest.importorskip("matplotlib")
    (tmp_path / "window.py").write_text(
        "from matplotlib.backends.backend_agg import *\n"
        "from matplotlib import pyplot\n"
        "def show(): print(*(line.get_ydata().size for line in pyplot.gcf().axes[0].lines))\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = run("plot", text, *options, MPLBACKEND="module://window", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(steps)]


def test_plot_without_a_display_names_the_option():
    pytest.importorskip("matplotlib")
    done = run("plot", "Constant(1)", MPLBACKEND="agg")
    assert done.returncode == 2
    assert done.stderr == "python -m fastopt plot: found no display for a window: use --out FILE\n"


def test_plot_in_a_file(tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "schedule.png"
    done = run("plot", "Cosine(0.1, 100)", "--out", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{s.Cosine(0.1, 100)} in {file}\n"
    assert file.read_bytes()[:4] == b"\x89PNG"


# The benchmark ------------------------------------------------------------------------------------------------------

SMALL_BENCH = """
from fastopt.__main__ import main
from fastopt._commands import bench
from fastopt._bench.formulas import deviation
from fastopt._bench.interleave import Protocol
bench.MODELS = {"tiny": [(3, 4), (5,)], "small": [(100, 100)]}
bench.PROTOCOL = Protocol(builds=1, rounds=2, seconds=0, warmup=0)
bench.PEERS = NAMES
main(["bench", *OPTIONS])
"""


def small_bench(names, *options):
    return SMALL_BENCH.replace("NAMES", repr(names)).replace("OPTIONS", repr(options))


def check_bench(done, names):
    """Check the lines that a small benchmark prints."""
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:2] == ["measuring tiny ...", "measuring small ..."]
    parts = [part for part in done.stdout.split("\n\n") if not part.startswith("Other programs")]
    versions, table = parts[0].splitlines()[1], parts[2]
    assert versions.startswith(f"fastopt {fastopt.__version__}, numpy {np.__version__}")
    rows = [re.split(" {2,}", line) for line in table.splitlines()]
    assert rows[:3] == [["", "tiny", "small"], ["tensors", "2", "1"], ["parameters", "17", "10,000"]]
    assert [row[0] for row in rows[3:]] == names
    for i, row in enumerate(rows[3:]):
        for text in row[1:]:
            match = re.fullmatch(r"([\d.,]+)( us)? \(([\d.,]+)-([\d.,]+)\)", text)
            median, low, high = (float(match[j].replace(",", "")) for j in (1, 3, 4))
            assert 0 < low <= median <= high
            assert (match[2] == " us") == (i == 0)


def test_bench_prints_a_table_and_draws_a_chart(tmp_path):
    pytest.importorskip("matplotlib")
    names, file = ["fastopt", "memory bound", "NumPy out="], tmp_path / "chart.svg"
    done = run_python("-c", small_bench(names, "--plot", str(file)))
    check_bench(done, names)
    drawn = file.read_text(encoding="utf-8")
    assert all(f">{text}<" in drawn for text in (*names, "tiny", "10,000", "time relative to fastopt"))


@pytest.mark.parametrize(("load", "busy"), [(0.2, 0), (3.5, 3.5)])
def test_bench_notices_other_programs(monkeypatch, load, busy):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert bench.other_load() == busy


@pytest.mark.slow
@pytest.mark.parametrize("name", list(bench.PACKAGES))
def test_bench_with_a_peer(name):
    if not bench.is_ready(name):
        pytest.skip(f"needs {name}")
    check_bench(run_python("-c", small_bench(["fastopt", name]), PYTHONWARNINGS="default"), ["fastopt", name])


def test_bench_shows_a_bar_in_a_terminal():
    pytest.importorskip("tqdm")
    status, shown = run_in_terminal("-c", small_bench(["fastopt"]))
    assert status == 0
    assert b"turn/s" in shown
    assert b"measuring" not in shown


def test_peers_that_are_not_installed_take_no_part(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "PACKAGES", {"torch fused": "no_such_package", "DeepSpeed": "fastopt"})
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert bench.is_ready("fastopt")
    assert bench.is_ready("NumPy out=")
    assert not bench.is_ready("torch fused")
    assert not bench.is_ready("DeepSpeed")
    (tmp_path / "py3").mkdir()
    (tmp_path / "py3" / "cpu_adam.so").touch()
    assert bench.is_ready("DeepSpeed")


class Wrong(Peer):
    """An optimizer that does nothing."""

    def step(self):
        pass


class Missing(Peer):
    """An optimizer of a package that is not installed."""

    def __init__(self, params, grads):
        super().__init__(params, grads)
        import no_such_package  # noqa: F401, PLC0415


class Steps(workloads.Steps):
    peers = {**PEERS, "wrong": Wrong, "missing": Missing}  # noqa: RUF012


def test_candidates_that_fail_are_reported_and_the_others_are_measured():
    turns = []
    interleaver = Interleaver(turns.append)
    names = ["fastopt", "wrong", "missing"]
    try:
        found = interleaver.measure(names, "test_main:Steps", [[(7,)]], 7, environment={}, protocol=SHORT)
    finally:
        interleaver.close()
    assert str(found["wrong"]).startswith("wrong must match the formula within 4 units in the last place, got ")
    assert isinstance(found["missing"], NotInstalledError)
    assert found["fastopt"].ratio() == (1.0, 1.0, 1.0)
    assert found["fastopt"].info == {"threads": 1}
    assert sorted(turns) == ["fastopt"] * 3 + ["missing", "wrong"]
    results = {"tiny": {**found, "NumPy out=": found["fastopt"]}}
    assert [bench.cell(result, first=False).split()[0] for result in results["tiny"].values()] == [
        "1.00",
        "failed",
        "not",
        "1.00",
    ]


@pytest.mark.parametrize("name", sorted(PEERS.keys() - bench.PACKAGES.keys()))
def test_steps_without_a_library_match_the_formula(name):
    off, limit = deviation(workloads.Steps(name, [(3, 5), (7,)]).check())
    assert off <= limit
