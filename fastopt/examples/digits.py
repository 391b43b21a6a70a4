"""Train a small network, written in plain NumPy, on 1,797 handwritten digits.

``python -m fastopt.examples.digits`` reaches 98 % on a fifth of the images that it doesn't train on (other seeds, which
hold out other fifths: 97 to 99 %).
``--compare`` trains with every optimizer at a few rates and batch sizes; ``--plot curves.png`` draws the curves.
"""

from __future__ import annotations

import argparse
import gzip
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import fastopt
from fastopt.buffers import Array

try:
    from tqdm import tqdm
except ImportError:  # an extra: without it there is no progress bar
    tqdm = None  # type: ignore[assignment, misc]

HIDDEN = 256
Setting: TypeAlias = "tuple[str, float, int]"  # optimizer, rate, batch size

# For each optimizer the rates that --compare tries; the middle one is the default.
RATES: dict[str, list[float]] = {
    "SGD": [0.05, 0.2, 0.5],
    "Momentum": [0.005, 0.02, 0.1],
    "RMSprop": [0.0003, 0.001, 0.003],
    "Adam": [0.001, 0.003, 0.01],
    "AdamW": [0.001, 0.003, 0.01],
}
STYLES = {16: "-", 64: "--", 256: ":"}  # the batch sizes that --compare tries, and how --plot draws them


@dataclass
class History:
    """What a training run printed, epoch by epoch."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    optimizer_share: list[float] = field(default_factory=list)


def load() -> tuple[Array, Array]:
    """Give the images as 1797 x 64 numbers from 0 to 1, and their labels."""
    packed = resources.files("fastopt.data").joinpath("digits.csv.gz").read_bytes()
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",", dtype=np.float32)
    return table[:, :64] / 16, table[:, 64].astype(np.int64)


def split(seed: int) -> tuple[Array, Array, Array, Array]:
    """Hold out a random fifth: images and labels to train on, then those to test on."""
    images, labels = load()
    order = np.random.default_rng(seed).permutation(len(images))
    test, train = np.split(order, [len(images) // 5])
    return images[train], labels[train], images[test], labels[test]


def initial_params(seed: int) -> fastopt.Flat:
    """Draw the weights (He et al. 2015); biases are zero."""
    rng = np.random.default_rng(seed)
    params = fastopt.Flat({"w1": (64, HIDDEN), "b1": HIDDEN, "w2": (HIDDEN, 10), "b2": 10})
    params["w1"] = rng.normal(0, np.sqrt(2 / 64), (64, HIDDEN))
    params["w2"] = rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 10))
    return params


def logits_of(params: fastopt.Flat, images: Array) -> tuple[Array, Array]:
    """Run the network forward: the hidden layer and the logits."""
    hidden = np.maximum(images @ params["w1"] + params["b1"], 0)
    return hidden, hidden @ params["w2"] + params["b2"]


def loss_and_gradients(params: fastopt.Flat, grads: fastopt.Flat, images: Array, labels: Array) -> float:
    """Mean cross entropy of a batch; its gradients are written to ``grads``."""
    hidden, logits = logits_of(params, images)
    rows = np.arange(len(labels))
    logits -= logits.max(axis=1, keepdims=True)
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    loss = -np.log(np.maximum(probabilities[rows, labels], 1e-30)).mean()

    dlogits = probabilities
    dlogits[rows, labels] -= 1
    dlogits /= len(labels)
    np.matmul(hidden.T, dlogits, out=grads["w2"])
    np.sum(dlogits, axis=0, out=grads["b2"])
    dhidden = (dlogits @ params["w2"].T) * (hidden > 0)
    np.matmul(images.T, dhidden, out=grads["w1"])
    np.sum(dhidden, axis=0, out=grads["b1"])
    return float(loss)


def accuracy(params: fastopt.Flat, images: Array, labels: Array) -> float:
    """Compute the share of images that the network names right."""
    return float((logits_of(params, images)[1].argmax(axis=1) == labels).mean())


def train(name: str, lr: float, batch_size: int, epochs: int, seed: int) -> Iterator[History]:
    """Train, the rate falling to zero, and give the history so far after each epoch."""
    images, labels, test_images, test_labels = split(seed)
    params = initial_params(seed)
    grads = params.zeros_like()
    steps = epochs * -(-len(images) // batch_size)
    optimizer = getattr(fastopt, name)(params, lr=lambda step: lr * (1 - step / steps))
    history, rng = History(), np.random.default_rng(seed)
    for _ in range(epochs):
        losses, stepping, start = [], 0.0, time.perf_counter()
        order = rng.permutation(len(images))
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            losses.append(loss_and_gradients(params, grads, images[batch], labels[batch]))
            before = time.perf_counter()
            optimizer.step(grads)
            stepping += time.perf_counter() - before
        history.optimizer_share.append(stepping / (time.perf_counter() - start))
        history.loss.append(float(np.mean(losses)))
        history.accuracy.append(accuracy(params, test_images, test_labels))
        yield history


def progress(things: Iterator[Any], total: int, unit: str) -> Iterator[Any]:
    """Wrap what is iterated over in a progress bar, which shows on a terminal."""
    return iter(tqdm(things, total=total, unit=unit, disable=None, leave=False)) if tqdm is not None else things


def write(line: str) -> None:
    """Print a line, above the progress bar if there is one."""
    if tqdm is not None:
        tqdm.write(line)
    else:
        print(line)


def run_one(name: str, lr: float, batch_size: int, epochs: int, seed: int) -> History:
    """Train once and print every epoch."""
    write(f"{name}, lr {lr:g}, batches of {batch_size}, seed {seed}")
    write("epoch    loss  accuracy  time in optimizer")
    history = History()
    for history in progress(train(name, lr, batch_size, epochs, seed), epochs, "epoch"):
        write(
            f"{len(history.loss):5}{history.loss[-1]:8.4f}{history.accuracy[-1]:10.2%}"
            f"{history.optimizer_share[-1]:19.1%}"
        )
    write(f"held-out accuracy {history.accuracy[-1]:.2%}")
    return history


def run_all(batch_sizes: list[int], epochs: int, seed: int) -> dict[Setting, History]:
    """Train with every optimizer at a few rates and batch sizes, and print a line for each."""
    settings = [(name, lr, size) for name, rates in RATES.items() for lr in rates for size in batch_sizes]
    write("optimizer      lr  batch    loss  accuracy  time in optimizer")
    histories = {}
    for name, lr, size in progress(iter(settings), len(settings), "run"):
        *_, history = train(name, lr, size, epochs, seed)
        histories[name, lr, size] = history
        share = np.mean(history.optimizer_share)
        write(f"{name:9}{lr:8g}{size:7}{history.loss[-1]:8.4f}{history.accuracy[-1]:10.2%}{share:19.1%}")
    return histories


def plot(histories: dict[Setting, History], path: str) -> None:
    """Draw loss and accuracy against the epoch: a column for each optimizer, rates in color, batch sizes in style."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra

    names = list(dict.fromkeys(name for name, _, _ in histories))
    figure = Figure(figsize=(1.5 + 3.2 * len(names), 6.5), layout="constrained")
    panels = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for (name, lr, size), history in histories.items():
        upper, lower = panels[:, names.index(name)]
        color = f"C{RATES[name].index(lr)}" if lr in RATES[name] else "C3"
        style = {"color": color, "linestyle": STYLES.get(size, "-"), "label": f"lr {lr:g}, batch {size}"}
        epochs = range(1, len(history.loss) + 1)
        upper.plot(epochs, history.loss, **style)
        lower.plot(epochs, [1 - right for right in history.accuracy], **style)
        upper.set(title=name, yscale="log")
        lower.set(xlabel="epoch", yscale="log")
    panels[0, 0].set_ylabel("training loss")
    panels[1, 0].set_ylabel("held-out error")
    for panel in panels[0]:
        panel.legend(fontsize=6)
    figure.savefig(path, dpi=120)
    write(f"curves in {path}")


def check_plot(path: str, parser: argparse.ArgumentParser) -> None:
    """Refuse, before hours of training, a file that can't be drawn."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra
    except ImportError:
        parser.error('--plot needs matplotlib: pip install "fastopt[examples]"')
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in formats:
        parser.error(f"--plot is {path}; wants a file name that ends in one of {', '.join(sorted(formats))}")
    if not Path(path).absolute().parent.is_dir():
        parser.error(f"--plot is {path}, but there is no such folder")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m fastopt.examples.digits", description="Train a small network on 1,797 handwritten digits."
    )
    parser.add_argument("--optimizer", choices=RATES, help="default: AdamW")
    parser.add_argument(
        "--lr", type=float, help="learning rate; default: " + ", ".join(f"{n} {r[1]}" for n, r in RATES.items())
    )
    parser.add_argument("--batch-size", type=int, help="images in a batch; default: 32, with --compare 16, 64 and 256")
    parser.add_argument("--epochs", type=int, default=30, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, held-out fifth and order; default: %(default)s"
    )
    parser.add_argument(
        "--compare", action="store_true", help="train with every optimizer, a few rates and batch sizes"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the curves (needs matplotlib)")
    options = parser.parse_args(arguments)
    if options.epochs < 1 or (options.batch_size is not None and options.batch_size < 1):
        parser.error("--epochs and --batch-size want numbers >= 1")
    if options.seed < 0:
        parser.error("--seed wants a number >= 0")
    if options.plot:
        check_plot(options.plot, parser)
    if options.lr is not None and not 0 <= options.lr < np.inf:
        parser.error("--lr wants a finite number >= 0")
    if options.compare and (options.lr is not None or options.optimizer is not None):
        parser.error("--compare chooses optimizers and rates itself")

    if options.compare:
        sizes = [options.batch_size] if options.batch_size else list(STYLES)
        histories = run_all(sizes, options.epochs, options.seed)
    else:
        name = options.optimizer or "AdamW"
        setting = (name, RATES[name][1] if options.lr is None else options.lr, options.batch_size or 32)
        histories = {setting: run_one(*setting, options.epochs, options.seed)}
    if options.plot:
        plot(histories, options.plot)


if __name__ == "__main__":
    main()
