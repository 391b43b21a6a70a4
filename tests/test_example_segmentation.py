"""The segmentation example: data, gradients, and the Dice score that it reaches."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cases import check_gradients
from processes import run_python

from fastopt.examples import common, digits, segmentation


def run(*arguments, **environment):
    return run_python("-m", "fastopt.examples.segmentation", *arguments, **environment)


def test_images_are_enlarged_digits_and_masks_their_strokes():
    images, masks = segmentation.load(seed=0)
    assert images.shape == (1797, 24, 24)
    assert masks.shape == (1797, 24, 24, 1)
    assert set(np.unique(masks)) == {0, 1}
    small = digits.load()[0].reshape(-1, 8, 8)
    centers = masks[:, 1::3, 1::3, 0]  # where a pixel of the enlarged image is one of the small
    sure = small != 0.5  # elsewhere a rounding decides
    assert np.array_equal(centers[sure], small[sure] > 0.5)
    noise = images[:, 1::3, 1::3] - small
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - segmentation.NOISE) < 0.01


def test_windows_are_centered_on_pixels():
    images = np.arange(2 * 24 * 24, dtype=np.float32).reshape(2, 24, 24)
    around = segmentation.windows(images)
    half = segmentation.WINDOW // 2
    assert np.array_equal(around[1, 10, 12].reshape(9, 9), images[1, 10 - half : 11 + half, 12 - half : 13 + half])
    assert around[0, 0, 0].reshape(9, 9)[half, half] == images[0, 0, 0]
    assert (around[1, 0, 5].reshape(9, 9)[:half] == 0).all()


def test_gradients_are_differences_of_the_loss():
    images, masks = segmentation.load(seed=0)
    batch = segmentation.LOSS, segmentation.windows(images[:2].astype(np.float64)), masks[:2].astype(np.float64)
    network = common.Network((segmentation.WINDOW**2, segmentation.HIDDEN, 1), seed=0, dtype=np.float64)
    check_gradients(network, *batch, tolerance=1e-7)


def test_finds_strokes_and_draws_a_sheet(tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "sheet.png"
    done = run("--sheet", str(file), PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"held-out Dice ([\d.]+)", done.stdout)[1]) >= 0.85
    assert file.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--epochs", "0"], "--epochs: must be a finite number >= 1, got 0"),
        (["--sheet", "x.doc"], "--sheet must end in one of"),
    ],
)
def test_rejects_invalid_arguments(arguments, says):
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
