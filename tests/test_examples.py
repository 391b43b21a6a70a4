"""The digits example runs as a user runs it, and learns."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from cases import check_gradients
from processes import run_python

import fastopt
from fastopt.examples import common, digits


def run(*arguments, **environment):
    return run_python("-m", "fastopt.examples.digits", *arguments, **environment)


def test_data():
    images, labels = digits.load()
    assert images.shape == (1797, 64)
    assert (images.min(), images.max(), images.dtype) == (0, 1, np.float32)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    (train, _), (test, _) = digits.split(seed=0)
    assert (len(train), len(test)) == (1438, 359)
    assert len(np.unique(np.concatenate([train, test]), axis=0)) == len(np.unique(images, axis=0))


@pytest.mark.parametrize("recipe", ["plain", "+ dropout", "+ batch norm", "all"])
def test_gradients_are_differences_of_the_loss(recipe):
    (images, labels), _ = digits.split(seed=0)
    recipe = digits.RECIPES[recipe]
    network = common.Network((64, digits.HIDDEN, 10), 0, recipe.dropout, recipe.batch_norm, np.float64)
    batch = fastopt.cross_entropy, images[:20].astype(np.float64), labels[:20]
    check_gradients(network, *batch, step=3, tolerance=1e-8)


@pytest.mark.slow
def test_default_run():
    done = run()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["epoch", "loss", "accuracy", "time", "in", "optimizer"]
    rows = [line for line in lines if re.fullmatch(r" *\d+ +\d+\.\d+ +\d+\.\d+% +\d+\.\d%", line)]
    assert 30 < len(rows) <= 60
    assert float(lines[-1].removeprefix("held-out accuracy ").removesuffix("%")) >= 97.5


def test_recipes(monkeypatch):
    monkeypatch.setattr(digits, "SEEDS", (0, 1))
    accuracies = digits.run_recipes("AdamW", 3e-3, batch_size=256, epochs=1)
    assert {name: len(each) for name, each in accuracies.items()} == dict.fromkeys(digits.RECIPES, 2)
    assert all(min(each) > 0.3 for each in accuracies.values())


@pytest.mark.slow
def test_whole_recipe_beats_plain_training():
    done = run("--recipes")
    assert done.returncode == 0, done.stderr
    rows = {
        line[:20].strip(): [float(x) for x in re.findall(r"([\d.]+)%", line)] for line in done.stdout.splitlines()[2:]
    }
    assert list(rows) == list(digits.RECIPES)
    assert all(mean == pytest.approx(np.mean(each), abs=0.01) for mean, *each in rows.values())
    assert rows["all"][0] >= 98.5
    assert rows["plain"][0] < rows["all"][0]


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[] if x == "AdamW" else pytest.mark.slow) for x in digits.RATES]
)
def test_every_optimizer_learns(name):
    *_, history = digits.train(digits.RECIPES["+ warm-up and cosine"], name, epochs=30)
    assert history.final >= 0.97
    assert history.loss[-1] < 0.3 * history.loss[0]


def test_run_is_reproducible():
    arguments = ("--optimizer", "RMSprop", "--lr", "0.002", "--batch-size", "100", "--epochs", "2", "--seed", "7")
    first, second = run(*arguments), run(*arguments)
    numbers = [re.findall(r"^ *\d+ +[\d.]+ +[\d.]+%", done.stdout, re.MULTILINE) for done in (first, second)]
    assert len(numbers[0]) == 2
    assert numbers[0] == numbers[1]
    assert "RMSprop, lr 0.002, batches of 100, seed 7" in first.stdout


@pytest.mark.parametrize("arguments", [("--batch-size", "647"), ("--lr", "1e10")], ids=str)
def test_odd_batch_sizes_and_divergence_are_handled(arguments):
    done = run("--epochs", "1", *arguments, PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr


def test_compare_and_plot(tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "curves.png"
    done = run("--compare", "--epochs", "1", "--batch-size", "256", "--plot", str(file), PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines()[1:] if "%" in line]
    assert rows == [name for name in digits.RATES for _ in range(3)]
    assert file.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--epochs", "0"], "argument --epochs: must be a finite number >= 1, got 0"),
        (["--batch-size", "1"], "argument --batch-size: must be a finite number >= 2, got 1"),
        (["--optimizer", "Lion"], "invalid choice"),
        (["--compare", "--lr", "1"], "--compare cannot be combined with --optimizer, --lr or --plain"),
        (["--recipes", "--plain"], "--recipes cannot be combined with"),
        (["--compare", "--optimizer", "AdamW"], "--compare cannot be combined with --optimizer, --lr or --plain"),
        (["--compare", "--plain"], "--compare cannot be combined with --optimizer, --lr or --plain"),
        (["--seed", "-1"], "--seed: must be a finite number >= 0 and < 4294967296, got"),
        (["--seed", str(2**64)], "--seed: must be a finite number >= 0 and < 4294967296, got"),
        (["--plot", "/no/such/folder/x.png"], "--plot must name a file in an existing folder, got"),
        (["--plot", "curves"], "--plot must end in one of"),
        (["--lr", "-1"], "--lr: must be a finite number >= 0, got -1"),
    ],
)
def test_rejects_invalid_arguments(arguments, says):
    done = run(*arguments)
    assert done.returncode != 0
    assert says in done.stderr


def test_progress_bar_appears_only_on_a_terminal():
    pytest.importorskip("tqdm")
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))
    try:
        mine, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"needs a pseudo-terminal: {error}")
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "fastopt.examples.digits", "--epochs", "3"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while chunk := read_or_end(mine):
            shown += chunk
        assert process.wait() == 0
    assert b"epoch/s" in shown
    assert b"held-out accuracy" in shown
    assert "epoch/s" not in run("--epochs", "3").stderr


def read_or_end(file):
    try:
        return os.read(file, 65536)
    except OSError:  # raised on Linux when the other side is closed
        return b""
