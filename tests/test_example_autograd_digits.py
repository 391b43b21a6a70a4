"""The example with HIPS autograd: both optimizers have the same losses, and learn."""

from __future__ import annotations

import re

import pytest
from processes import run_python


def run(*arguments):
    return run_python("-m", "fastopt.examples.autograd_digits", *arguments, PYTHONWARNINGS="default")


def check_table(text, methods):
    """Check the lines of each method, and return the largest difference of a loss."""
    lines = text.splitlines()
    rows = [re.fullmatch(r"(\w+) +(\d+\.\d+) +(\d+\.\d+)%( +\d+\.\d+)+", line) for line in lines[1:-1]]
    assert [row[1] for row in rows] == methods
    assert len({row[2] for row in rows}) == 1
    assert all(float(row[3]) >= 85 for row in rows)
    return float(re.fullmatch(r"largest difference of a loss: (\S+)", lines[-1])[1])


def test_losses_are_those_of_autograd():
    """In 30 steps, rounding adds up to 1e-14 and less; another formula would differ in the first digits."""
    pytest.importorskip("autograd")
    done = run("--steps", "30")
    assert done.returncode == 0, done.stderr
    assert check_table(done.stdout, ["autograd", "fastopt"]) < 1e-11


def test_rejects_invalid_arguments():
    pytest.importorskip("autograd")
    done = run("--steps", "0")
    assert done.returncode == 2
    assert "--steps: must be a finite number >= 1, got 0" in done.stderr
