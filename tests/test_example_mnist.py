"""The MNIST example reads idx files, rejects others, and learns."""

from __future__ import annotations

import gzip
import re
import struct
import tracemalloc

import numpy as np
import pytest
from cases import check_gradients
from processes import run_python

import fastopt
from fastopt.examples import common, digits, mnist


def run(*arguments):
    return run_python("-m", "fastopt.examples.mnist", *arguments)


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Files of the small digits, enlarged to 28 x 28 pixels, a fifth for testing; half of the files are gzipped."""
    images, labels = digits.load()
    large = np.zeros((len(images), 28, 28), np.uint8)
    large[:, 2:26, 2:26] = np.kron(images.reshape(-1, 8, 8) * 255, np.ones((1, 3, 3)))
    parts = [large[360:], labels[360:].astype(np.uint8), large[:360], labels[:360].astype(np.uint8)]
    for i, (name, array) in enumerate(zip(mnist.FILES.values(), parts, strict=True)):
        if i % 2:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (tmp_path / name.replace("-idx", ".idx")).write_bytes(idx(array))
    return tmp_path


def test_reads_files_and_learns(folder):
    done = run(folder, "--epochs", 10)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^ +\d+ +[\d.]+ +[\d.]+% +[\d.]+$", done.stdout, re.MULTILINE)) == 10
    assert float(re.search(r"held-out accuracy ([\d.]+)%", done.stdout)[1]) >= 93


def test_load_returns_the_saved_arrays(folder):
    x, y, test_x, test_y = mnist.load(folder)
    assert (x.shape, y.shape, test_x.shape, test_y.shape) == ((1437, 784), (1437,), (360, 784), (360,))
    assert (x.dtype, x.min(), x.max(), y.dtype) == (np.float32, 0, 1, np.int64)
    assert np.array_equal(np.concatenate([test_y, y]), digits.load()[1])


def test_gradients_are_differences_of_the_loss():
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(0, 1, (10, 784)), rng.integers(0, 10, 10)
    network = common.Network((mnist.PIXELS, mnist.HIDDEN, 10), 0, mnist.DROPOUT, dtype=np.float64)
    batch = fastopt.cross_entropy, images, labels
    check_gradients(network, *batch, step=1, tolerance=1e-7)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
MALFORMED = {
    "empty": ("a", b"", "got b''"),
    "another magic number": ("a", b"\x89PNG" + GOOD, "must begin with .* got b'.x89PNG'"),
    "floats": ("a", b"\0\0\x0d" + GOOD[3:], "must begin with .*idx"),
    "255 dimensions": ("a", b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"x", "must begin with .* 1 to 3 dimensions"),
    "no dimensions": ("a", GOOD[:10], "must have a header of 16 bytes, got 10"),
    "too short": ("a", GOOD[:-1], r"must have as many bytes .* as the shape \(2, 3, 4\)"),
    "too long": ("a", GOOD + b"x", "must have as many bytes"),
    "giant": ("a", GOOD[:4] + b"\xff" * 12 + GOOD[16:], r"the shape \(4294967295, 4294967295, 4294967295\)"),
    "nothing times a lot": ("a", b"\0\0\x08\x03" + b"\0" * 4 + b"\xff" * 8, "must have as many bytes"),
    "not packed": ("a.gz", GOOD, "must be a valid gzip file"),
    "half packed": ("a.gz", gzip.compress(GOOD)[:-6], "must be a valid gzip file"),
    "a byte changed": ("a.gz", gzip.compress(GOOD)[:20] + b"?" + gzip.compress(GOOD)[21:], "must be a valid gzip file"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(name, tmp_path):
    file, content, says = MALFORMED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        mnist.read_idx(tmp_path / file)
    assert str(tmp_path / file) in str(error.value)
    (tmp_path / "good").write_bytes(GOOD)
    assert mnist.read_idx(tmp_path / "good")[1, 2, 3] == 23


def test_gzip_bomb_is_not_decompressed(tmp_path):
    """600 MB of zeros in half a megabyte, after a header that announces six."""
    header = b"\0\0\x08\x02" + struct.pack(">2I", 2, 3)
    with gzip.open(tmp_path / "bomb.gz", "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(600):
            file.write(bytes(10**6))
    tracemalloc.start()
    with pytest.raises(ValueError, match="must have as many bytes"):
        mnist.read_idx(tmp_path / "bomb.gz")
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_rejects_files_that_do_not_match(folder):
    name = "train-labels-idx1-ubyte.gz"
    (folder / name).write_bytes(gzip.compress(idx(np.zeros(5, np.uint8))))
    done = run(folder)
    assert done.returncode == 2
    assert f"{name} must have a label from 0 to 9 for each of 1437 images" in done.stderr


def test_missing_files(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert re.search(r"must contain one of train-images-idx3-ubyte, train-images-idx3-ubyte.gz", done.stderr)
    assert "zalandoresearch/fashion-mnist" in done.stderr
