"""The scikit-learn example: both estimators classify all images alike, and well."""

from __future__ import annotations

import re

import pytest
from processes import run_python

pytest.importorskip("sklearn")


def run(*arguments):
    return run_python("-m", "fastopt.examples.sklearn_digits", *arguments)


@pytest.mark.parametrize("solver", [pytest.param("adam", marks=pytest.mark.slow), "sgd"])
def test_predictions_are_equal_and_good(solver):
    done = run("--solver", solver, "--epochs", "30")
    assert done.returncode == 0, done.stderr
    percent, seconds = r" +([\d.]+)%", r" +[\d.]+ s"
    rows = re.findall(rf"^ +\d{2 * (percent + seconds)} +(\d+) of (\d+)$", done.stdout, re.MULTILINE)
    assert len(rows) == 5
    assert sum(int(total) for *_, total in rows) == 1797
    for theirs, ours, equal, total in rows:
        assert (theirs, equal) == (ours, total)
    (mean,) = re.findall(rf"^mean{2 * (percent + seconds)}$", done.stdout, re.MULTILINE)
    assert float(mean[1]) > 95


def test_optimizer_of_fastopt():
    done = run("--optimizer", "AdamW", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^mean +[\d.]+% ", done.stdout, re.MULTILINE)


def test_rejects_invalid_arguments():
    done = run("--epochs", "0")
    assert done.returncode == 2
    assert "--epochs: must be a finite number >= 1, got 0" in done.stderr
