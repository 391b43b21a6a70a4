"""The example with JAX: both optimizers have the same losses, and learn."""

from __future__ import annotations

import importlib.util

import pytest
from processes import run_python
from test_example_autograd_digits import check_table

for library in ("jax", "optax"):  # not imported here: JAX warns about every later fork of the process
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}", allow_module_level=True)


def run(*arguments, **environment):
    return run_python("-m", "fastopt.examples.jax_digits", *arguments, PYTHONWARNINGS="default", **environment)


def test_losses_are_those_of_optax():
    """In float64 and 25 steps, rounding adds up to 1e-15 and less; another formula would differ in the first digits."""
    done = run("--epochs", "5", JAX_ENABLE_X64="1")
    assert done.returncode == 0, done.stderr
    assert check_table(done.stdout, ["Optax", "fastopt"]) < 1e-11


def test_float32_is_the_default():
    """The rounding of float32 shows, and is small."""
    done = run("--epochs", "1")
    assert done.returncode == 0, done.stderr
    difference = float(done.stdout.splitlines()[-1].rpartition(" ")[2])
    assert 0 < difference < 1e-3


def test_rejects_invalid_arguments():
    done = run("--epochs", "0")
    assert done.returncode == 2
    assert "--epochs: must be a finite number >= 1, got 0" in done.stderr
