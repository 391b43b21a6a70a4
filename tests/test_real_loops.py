"""The runner of public programs, with a small program of our own in their place."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

data = pytest.importorskip("loop_data", reason="needs the benchmarks, which are not installed")
import real_loops  # noqa: E402  of the same folder
from loop_edits import Edit, Recorded, Timed, apply, insert_clock  # noqa: E402
from loop_programs import PROGRAMS, Program  # noqa: E402

SOURCE = """\
import sys
import numpy as np

w = np.array([5.0, -3.0])
for step in range(int(sys.argv[1])):
    grad = 2 * w
    if True:
        w -= 0.125 * grad
"""
EDITS = (
    Edit("train.py", "import numpy", "import fastopt\nimport numpy as np"),
    Edit("train.py", "w = np.array", "w = np.array([5.0, -3.0])\noptimizer = fastopt.SGD(w, lr=0.125)"),
    Edit("train.py", "if True:", "optimizer.step(grad)", lines=2),
)
PROGRAM = Program(
    repository="someone/program",
    commit="main",
    license="MIT",
    script="train.py",
    prepare=data.none,
    steps=20,
    dtype="float64",
    recorded=Recorded("train.py", "grad = 2 * w", "np.abs(w).sum()"),
    before=Timed("train.py", "if True:", "w -= "),
    after=Timed("train.py", "optimizer.step("),
    edits=EDITS,
    arguments=("1000",),
)


@pytest.fixture
def clones(tmp_path):
    """A folder with a clone of the small program."""
    clone = tmp_path / "clones" / "program"
    clone.mkdir(parents=True)
    (clone / "train.py").write_text(SOURCE, encoding="utf-8")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(clone)]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "a program"]):
        subprocess.run([*git, *command], check=True)
    (clone / "train.py").write_text("raise SystemExit('not the commit')", encoding="utf-8")
    return clone.parent


def test_edits_replace_lines_and_count_them():
    files, changed = apply({"train.py": SOURCE.splitlines(), "other": ["a"]}, EDITS)
    assert "\n".join(files["train.py"]) == (
        "import sys\nimport fastopt\nimport numpy as np\n\nw = np.array([5.0, -3.0])\n"
        "optimizer = fastopt.SGD(w, lr=0.125)\nfor step in range(int(sys.argv[1])):\n    grad = 2 * w\n"
        "    optimizer.step(grad)"
    )
    assert changed == (3, 2)
    assert files["other"] == ["a"]


def test_an_edit_may_be_done_in_several_places_and_remove_lines():
    files, changed = apply({"f": ["  a(1)", "b", " a(2)"]}, [Edit("f", "a(", "c", count=2), Edit("f", "b", "")])
    assert files == {"f": ["  c", " c"]}
    assert changed == (2, 3)


def test_the_clock_goes_around_a_block():
    files = insert_clock({"train.py": SOURCE.splitlines()}, PROGRAM.before, PROGRAM.recorded)
    assert files["train.py"][4:] == [
        "for step in range(int(sys.argv[1])):",
        "    loop_clock.record(np.abs(w).sum())",
        "    grad = 2 * w",
        "    loop_clock.start()",
        "    if True:",
        "        w -= 0.125 * grad",
        "    loop_clock.stop()",
    ]


@pytest.mark.parametrize(("text", "found"), [("import", 2), ("absent", 0)])
def test_a_line_must_be_unique(text, found):
    with pytest.raises(ValueError, match=rf"^train.py must have 1 line\(s\) with '{text}', got {found}$"):
        apply({"train.py": SOURCE.splitlines()}, [Edit("train.py", text, "")])


def test_measures_both_versions(clones):
    lines, agreement, optimizer, ratio, loop, loop_ratio = real_loops.measure(PROGRAM, clones, rounds=2)
    assert (lines, agreement) == ("+3 -2", "equal for 20 steps")
    times = [float(part) for cell in (optimizer, loop) for part in cell.split(" -> ")]
    assert len(times) == 4
    assert min(times) > 0
    assert all(float(cell.split()[0]) > 0 for cell in (ratio, loop_ratio))


def test_times_a_function_of_a_library(clones):
    call = Timed(call="builtins:abs")
    program = replace(PROGRAM, edits=(Edit("train.py", "w -= ", "w -= abs(0.125) * grad"),), before=call, after=call)
    program = replace(program, fixes=(Edit("train.py", "w -= ", "w -= abs(0.0625) * 2 * grad"),))
    assert real_loops.measure(program, clones, rounds=1)[:2] == ["+1 -1", "equal for 20 steps"]


def test_several_calls_make_a_step_and_the_first_tenth_is_left_out():
    started, stopped = [0.0, 2.0, 10.0, 12.0, 30.0, 40.0, 60.0], [1.0, 4.0, 13.0, 17.0, 35.0, 46.0]
    turn = real_loops.summarize(started, stopped, [7.0], calls=2)
    assert turn == real_loops.Turn(np.median([3 + 5, 5 + 6]), np.median([20, 30]), steps=3, values=[7.0])


def test_another_result_is_an_error(clones):
    wrong = (*EDITS[:1], Edit("train.py", "w = np.array", EDITS[1].new.replace("lr=0.125", "lr=0.1")), EDITS[2])
    with pytest.raises(ValueError, match=r"^results must agree within 4e-13 after 20 steps, got 0\.\d+$"):
        real_loops.measure(replace(PROGRAM, edits=wrong), clones, rounds=1)


def test_the_limit_is_that_of_rounding():
    def check(before, after):
        turns = [real_loops.Turn(1.0, 1.0, 20, values) for values in (before, after)]
        return real_loops.check(*turns, dtype="float64")

    limit = 100 * 20 * 2.0**-52
    assert check([1.0], [1.0 + limit / 2]) == "2e-13 after 20 steps (float64)"
    for value in (1 + limit * 2, np.nan):
        with pytest.raises(ValueError, match="results must agree"):
            check([1.0], [value])
    for before, after in ([1.0], [1.0, 1.0]), ([], []):
        with pytest.raises(ValueError, match=f"values, and as many, got {len(before)} and {len(after)}"):
            check(before, after)


def test_a_program_that_fails_is_an_error(clones):
    program = replace(PROGRAM, edits=(Edit("train.py", "w -= ", "raise OSError('broken')"),))
    program = replace(program, after=Timed("train.py", "raise OSError"))
    with pytest.raises(RuntimeError, match=r"(?s)train.py after the edits failed:.*OSError: broken"):
        real_loops.measure(program, clones, rounds=1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_table(name):
    program = PROGRAMS[name]
    assert re.fullmatch(r"[0-9a-f]{40}|\d+\.\d+\.\d+", program.commit)
    assert f"https://github.com/{program.repository} " in "\n".join(real_loops.clone_commands("clones"))


def test_prints_a_table_and_goes_on_after_a_failure(clones, monkeypatch, capsys):
    programs = {"missing": replace(PROGRAM, commit="absent"), "small": PROGRAM}
    monkeypatch.setattr(real_loops, "PROGRAMS", programs)
    monkeypatch.setattr(sys, "argv", ["real_loops.py", str(clones), "--rounds", "1"])
    with pytest.raises(SystemExit, match=r"^failed: missing$"):
        real_loops.main()
    output, errors = capsys.readouterr()
    assert re.fullmatch(r"\| program \|.*\n\|(---\|){7}\n\| small \| \+3 -2 \| equal for 20 steps \|.*\n", output)
    assert re.match(r"missing: .*archive.* returned non-zero", errors)


def test_an_unknown_name_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["real_loops.py", "clones", "dezero", "nobody"])
    with pytest.raises(SystemExit):
        real_loops.main()
    assert re.search(r"NAME must be one of scratch-mlp, .*, got 'nobody'$", capsys.readouterr().err)
