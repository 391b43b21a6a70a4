"""Train a two-layer network, written in plain NumPy, on the files of MNIST or Fashion-MNIST.

``python -m fastopt.examples.mnist FOLDER`` reads the four idx files, plain or compressed with gzip, from a folder. It
reaches 98 % on the test images of MNIST and 89 % on those of Fashion-MNIST in one or two minutes.
"""

from __future__ import annotations

import gzip
import math
import struct
import time
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

import fastopt
from fastopt.examples import common
from fastopt.examples.common import Array
from fastopt.schedules import Cosine, Warmup

HIDDEN = 512
DROPOUT = 0.2
PIXELS = 28 * 28
CHUNK = 2**20  # bytes that are read at a time
FILES = {
    "images": "train-images-idx3-ubyte",
    "labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
SOURCES = (
    "download MNIST from https://ossci-datasets.s3.amazonaws.com/mnist, "
    "Fashion-MNIST from https://github.com/zalandoresearch/fashion-mnist"
)


def read_idx(path: Path) -> Array:
    """Return the array of bytes in an idx file, or raise ``ValueError``.

    The format: two zero bytes, the type (8: unsigned bytes), the number of dimensions, each dimension as a big-endian
    32-bit number, and the elements.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 3:
                raise ValueError(f"{path} must begin with b'\\x00\\x00\\x08' and 1 to 3 dimensions (idx), got {head!r}")
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise ValueError(f"{path} must have a header of {4 + 4 * head[3]} bytes, got {4 + len(sizes)}")
            shape = struct.unpack(f">{head[3]}I", sizes)
            content = _read_at_most(file, math.prod(shape))
            if not content or len(content) != math.prod(shape) or file.read(1):
                raise ValueError(f"{path} must have as many bytes after its header as the shape {shape} requires")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} must be a valid gzip file: {error}") from None
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_at_most(file: BinaryIO | gzip.GzipFile, size: int) -> bytes:
    """Read up to `size` bytes in chunks, so that a wrong size in a header allocates no memory."""
    chunks: list[bytes] = []
    while size and (chunk := file.read(min(size, CHUNK))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def find(folder: Path, name: str) -> Path:
    """Return the path of a file under one of its usual names, or raise ``FileNotFoundError``."""
    names = [variant + end for variant in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    for variant in names:
        if (folder / variant).is_file():
            return folder / variant
    raise FileNotFoundError(f"{folder} must contain one of {', '.join(names)}; {SOURCES}")


def load(folder: Path) -> tuple[Array, Array, Array, Array]:
    """Return training images, as rows of 784 numbers from 0 to 1, training labels, test images and test labels."""
    files = {key: find(folder, name) for key, name in FILES.items()}
    arrays = {key: read_idx(path) for key, path in files.items()}
    for images, labels in (("images", "labels"), ("test images", "test labels")):
        if arrays[images].ndim != 3 or arrays[images].shape[1:] != (28, 28) or not len(arrays[images]):
            raise ValueError(f"{files[images]} must have images of 28 x 28, got the shape {arrays[images].shape}")
        if arrays[labels].shape != arrays[images].shape[:1] or arrays[labels].max(initial=0) > 9:
            raise ValueError(f"{files[labels]} must have a label from 0 to 9 for each of {len(arrays[images])} images")
    x, y, test_x, test_y = arrays.values()
    return _rows(x), y.astype(np.int64), _rows(test_x), test_y.astype(np.int64)


def _rows(images: Array) -> Array:
    """Return images as rows of float32 from 0 to 1."""
    return images.reshape(-1, PIXELS).astype(np.float32) / np.float32(255)


def train(data: tuple[Array, Array, Array, Array], epochs: int, batch_size: int, lr: float, seed: int) -> float:
    """Train, print a line after each epoch, and return the accuracy on the test images."""
    images, labels, *test = data
    network = common.Network((PIXELS, HIDDEN, 10), seed, DROPOUT)
    steps = epochs * -(-len(images) // batch_size)
    optimizer = fastopt.AdamW(network.params, lr=Warmup(Cosine(lr, steps - steps // 20), steps // 20))
    test_accuracy = 0.0
    print("epoch    loss  accuracy  seconds")
    for epoch in range(epochs):
        losses, start = [], time.perf_counter()
        for x, y in fastopt.batches(images, labels, batch_size=batch_size, seed=seed, epoch=epoch):
            losses.append(network.loss_and_gradients(fastopt.cross_entropy, x, y, optimizer.micro_steps))
            optimizer.step(network.grads)
        seconds, test_accuracy = time.perf_counter() - start, network.accuracy(*test)
        print(f"{epoch + 1:5}{np.mean(losses):8.4f}{test_accuracy:10.2%}{seconds:9.1f}", flush=True)
    return test_accuracy


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and the files, and train."""
    parser = common.parser("mnist", "Train on the files of MNIST or Fashion-MNIST.")
    parser.add_argument("folder", type=Path, help="folder of the four files, compressed with gzip or not")
    parser.add_argument("--epochs", type=common.number(int, 1), default=10, help="default: %(default)s")
    parser.add_argument("--batch-size", type=common.number(int, 1), default=128, help="default: %(default)s")
    parser.add_argument("--lr", type=common.number(float, 0), default=0.002, help="learning rate; default: %(default)s")
    parser.add_argument("--seed", type=common.number(int, 0, 2**32), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        data = load(options.folder)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    test_accuracy = train(data, options.epochs, options.batch_size, options.lr, options.seed)
    print(f"held-out accuracy {test_accuracy:.2%}")


if __name__ == "__main__":
    main()
