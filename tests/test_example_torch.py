"""The PyTorch example: both optimizers learn the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
from processes import run_python

torch = pytest.importorskip("torch")

from torch_models import assert_params_agree  # noqa: E402

from fastopt.examples import torch_digits  # noqa: E402


def run(*arguments):
    return run_python("-m", "fastopt.examples.torch_digits", *arguments, OMP_NUM_THREADS="1")


def test_networks_have_the_documented_numbers_of_parameters():
    for network in torch_digits.NETWORKS.values():
        parameters = sum(param.numel() for param in network().parameters())
        assert f"{parameters:,} parameters" in network.__doc__


@pytest.mark.parametrize("network", torch_digits.NETWORKS)
def test_losses_of_the_first_batches_agree(network):
    images = torch.from_numpy(torch_digits.digits.load()[0][:320]).double().chunk(10)
    labels = torch.from_numpy(torch_digits.digits.load()[1][:320]).chunk(10)
    trainings = torch_digits.start(network, lr=0.005, steps=10, seed=0)
    for training in trainings.values():
        training.model.double()
        for x, y in zip(images, labels, strict=True):
            training.iterate(x, y)
    mine, theirs = trainings["fastopt.torch"], trainings["torch.optim"]
    np.testing.assert_allclose(mine.losses, theirs.losses, rtol=1e-9)
    assert_params_agree(mine.model.parameters(), theirs.model.parameters())


def test_short_run():
    done = run("--epochs", "2", "--batch-size", "128")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +(\S+) +([\d.]+) +([\d.]+)% +([\d,]+)$", done.stdout, re.MULTILINE)
    assert [row[:2] for row in rows] == [(n, o) for n in torch_digits.NETWORKS for o in torch_digits.OPTIMIZERS]
    assert all(float(accuracy) > 50 for _, _, _, accuracy, _ in rows)


@pytest.mark.slow
def test_default_run():
    done = run()
    assert done.returncode == 0, done.stderr
    accuracies = re.findall(r"([\d.]+)%", done.stdout)
    assert len(accuracies) == 4
    assert all(float(accuracy) >= 97 for accuracy in accuracies)


def test_rejects_invalid_arguments():
    done = run("--epochs", "0")
    assert done.returncode == 2
    assert "--epochs: must be a finite number >= 1, got 0" in done.stderr
