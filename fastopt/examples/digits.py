"""Train a small network, written in plain NumPy, on 1,797 handwritten digits.

``python -m fastopt.examples.digits`` trains with dropout, batch norm, augmentation, a warm-up and cosine schedule and
early stopping, and classifies 98 to 99 % of a held-out fifth of the images correctly. ``--recipes`` measures the effect
of each of these over five seeds; ``--compare`` trains with every optimizer at several learning rates and batch sizes;
``--plot curves.png`` plots the training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

import fastopt
from fastopt.examples import common
from fastopt.examples.common import Array
from fastopt.schedules import Cosine, Warmup

HIDDEN = 256
SEEDS = range(5)

TUNED = {
    "SGD": [0.05, 0.2, 0.5],
    "Momentum": [0.005, 0.02, 0.1],
    "Adagrad": [0.01, 0.03, 0.1],
    "Adam": [0.001, 0.003, 0.01],
    "AdamW": [0.001, 0.003, 0.01],
}
# The learning rates and batch sizes that --compare tries; the middle rate is an optimizer's default here.
RATES = {name: TUNED.get(name, [0.0003, 0.001, 0.003]) for name in fastopt.optimizers.__all__}
BATCH_SIZES = [16, 64, 256]
LINE_STYLES = {16: "-", 64: "--", 256: ":"}  # by batch size

Setting: TypeAlias = tuple[str, float, int]  # optimizer, rate, batch size


@dataclass(frozen=True)
class Recipe:
    """Techniques that a training run uses."""

    dropout: float = 0.0
    batch_norm: bool = False
    augmentation: bool = False
    schedule: bool = False
    early_stopping: bool = False


RECIPES = {
    "plain": Recipe(),
    "+ dropout": Recipe(dropout=0.1),
    "+ batch norm": Recipe(batch_norm=True),
    "+ augmentation": Recipe(augmentation=True),
    "+ warm-up and cosine": Recipe(schedule=True),
    "+ early stopping": Recipe(early_stopping=True),
    "all": Recipe(0.1, True, True, True, True),
}


@dataclass
class History:
    """Results after each epoch of a training run, and the final accuracy."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    optimizer_share: list[float] = field(default_factory=list)
    final: float = 0.0


def load() -> tuple[Array, Array]:
    """Return the images as an array of 1797 x 64 numbers from 0 to 1, and their labels."""
    table = common.load_table("digits.csv.gz")
    return table[:, :64] / 16, table[:, 64].astype(np.int64)


def split(seed: int) -> list[list[Array]]:
    """Return images and labels of a training set, and of a random fifth as test set."""
    return common.split(load(), seed)


def augment(images: Array, seed: int, step: int) -> Array:
    """Rotate, scale and shift each image slightly, differently in every step."""
    squares = images.reshape(-1, 8, 8)
    moved = fastopt.augment(squares, seed=seed, step=step, rotate=10.0, scale=(0.9, 1.1), translate=0.06)
    return moved.reshape(images.shape)


def train(
    recipe: Recipe, name: str = "AdamW", lr: float | None = None, batch_size: int = 32, epochs: int = 60, seed: int = 0
) -> Iterator[History]:
    """Train, and yield the history so far after each epoch."""
    (images, labels), test = split(seed)
    if recipe.early_stopping:  # a tenth of the training set is used for validation
        tenth = len(images) // 10
        validation, images, labels = (images[:tenth], labels[:tenth]), images[tenth:], labels[tenth:]
    network = common.Network((64, HIDDEN, 10), seed, recipe.dropout, recipe.batch_norm)
    rate = RATES[name][1] if lr is None else lr
    drop_last = len(images) % batch_size == 1  # a batch of one image has no variance for batch norm
    steps = epochs * (len(images) // batch_size if drop_last else -(-len(images) // batch_size))
    schedule = Warmup(Cosine(rate, steps - steps // 20), steps // 20)
    optimizer = getattr(fastopt, name)(network.params, lr=schedule if recipe.schedule else rate)
    early_stopping, history = fastopt.EarlyStopping(patience=30), History()
    for epoch in range(epochs):
        losses, optimizer_time, start = [], 0.0, time.perf_counter()
        for x, y in fastopt.batches(images, labels, batch_size=batch_size, seed=seed, epoch=epoch, drop_last=drop_last):
            inputs = augment(x, seed, optimizer.micro_steps) if recipe.augmentation else x
            losses.append(network.loss_and_gradients(fastopt.cross_entropy, inputs, y, optimizer.micro_steps))
            before = time.perf_counter()
            optimizer.step(network.grads)
            optimizer_time += time.perf_counter() - before
        history.optimizer_share.append(optimizer_time / (time.perf_counter() - start))
        history.loss.append(float(np.mean(losses)))
        history.accuracy.append(network.accuracy(*test))
        history.final = history.accuracy[-1]
        if recipe.early_stopping:
            loss, _ = fastopt.cross_entropy(network.predict(validation[0]), validation[1])
            if early_stopping.update(loss, network.state()) or epoch == epochs - 1:
                if early_stopping.best_epoch is not None:  # None if the first epoch already diverged
                    early_stopping.restore(network.state())
                history.final = network.accuracy(*test)
                yield history
                return
        yield history


def run_one(recipe: Recipe, name: str, lr: float, batch_size: int, epochs: int, seed: int) -> History:
    """Train once and print a line after each epoch."""
    common.write(f"{name}, lr {lr:g}, batches of {batch_size}, seed {seed}")
    common.write("epoch    loss  accuracy  time in optimizer")
    history = History()
    for history in common.progress(train(recipe, name, lr, batch_size, epochs, seed), epochs, "epoch"):
        loss, accuracy, share = history.loss[-1], history.accuracy[-1], history.optimizer_share[-1]
        common.write(f"{len(history.loss):5}{loss:8.4f}{accuracy:10.2%}{share:19.1%}")
    common.write(f"held-out accuracy {history.final:.2%}")
    return history


def run_recipes(name: str, lr: float, batch_size: int, epochs: int) -> dict[str, list[float]]:
    """Train with every recipe and seed, and print the held-out accuracies."""
    common.write(f"{name}, lr {lr:g}, batches of {batch_size}, at most {epochs} epochs")
    common.write("recipe                  mean" + "".join(f"{f'seed {seed}':>9}" for seed in SEEDS) + "   epochs")
    accuracies = {}
    for title, recipe in common.progress(iter(RECIPES.items()), len(RECIPES), "recipe"):
        histories = [list(train(recipe, name, lr, batch_size, epochs, seed))[-1] for seed in SEEDS]
        accuracies[title] = [history.final for history in histories]
        each = "".join(f"{history.final:9.2%}" for history in histories)
        trained = np.mean([len(history.loss) for history in histories])
        common.write(f"{title:20}{np.mean(accuracies[title]):8.2%}{each}{trained:9.0f}")
    return accuracies


def run_all(batch_sizes: list[int], epochs: int, seed: int) -> dict[Setting, History]:
    """Train with every optimizer at several learning rates and batch sizes, and print a line for each."""
    settings = [(name, lr, size) for name, rates in RATES.items() for lr in rates for size in batch_sizes]
    common.write("optimizer      lr  batch    loss  accuracy  time in optimizer")
    histories = {}
    for name, lr, size in common.progress(iter(settings), len(settings), "run"):
        *_, history = train(Recipe(schedule=True), name, lr, size, epochs, seed)
        histories[name, lr, size] = history
        share = np.mean(history.optimizer_share)
        common.write(f"{name:9}{lr:8g}{size:7}{history.loss[-1]:8.4f}{history.final:10.2%}{share:19.1%}")
    return histories


def plot(histories: dict[Setting, History], path: str) -> None:
    """Plot loss and error by epoch: a column for each optimizer, a color for each rate, a style for each batch size."""
    from matplotlib.figure import Figure  # noqa: PLC0415  optional

    names = list(dict.fromkeys(name for name, _, _ in histories))
    figure = Figure(figsize=(1.5 + 3.2 * len(names), 6.5), layout="constrained")
    panels = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for (name, lr, size), history in histories.items():
        upper, lower = panels[:, names.index(name)]
        color = f"C{RATES[name].index(lr) if lr in RATES[name] else 3}"
        style = {"color": color, "linestyle": LINE_STYLES.get(size, "-"), "label": f"lr {lr:g}, batch {size}"}
        epochs = range(1, len(history.loss) + 1)
        upper.plot(epochs, history.loss, **style)
        lower.plot(epochs, [1 - accuracy for accuracy in history.accuracy], **style)
        upper.set(title=name, yscale="log")
        upper.legend(fontsize=6)
        lower.set(xlabel="epoch", yscale="log")
    panels[0, 0].set_ylabel("training loss")
    panels[1, 0].set_ylabel("held-out error")
    figure.savefig(path, dpi=120)
    common.write(f"curves in {path}")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = common.parser("digits", "Train a small network on 1,797 handwritten digits.")
    parser.add_argument("--optimizer", choices=RATES, help="default: AdamW")
    defaults = ", ".join(f"{name} {rates[1]}" for name, rates in RATES.items())
    parser.add_argument("--lr", type=common.number(float, 0), help=f"learning rate; default: {defaults}")
    parser.add_argument(
        "--batch-size", type=common.number(int, 2), help="images per batch; default: 32, with --compare 16, 64 and 256"
    )
    parser.add_argument("--epochs", type=common.number(int, 1), default=60, help="maximum; default: %(default)s")
    parser.add_argument(
        "--seed",
        type=common.number(int, 0, 2**32),
        default=0,
        help="of the weights, the held-out fifth and the order; default: %(default)s",
    )
    parser.add_argument("--plain", action="store_true", help="train with the optimizer alone")
    parser.add_argument("--recipes", action="store_true", help="measure the effect of each technique over five seeds")
    parser.add_argument(
        "--compare", action="store_true", help="train with every optimizer at several rates and batch sizes"
    )
    parser.add_argument("--plot", metavar="FILE", help="plot the training (needs matplotlib)")
    options = parser.parse_args(arguments)
    if options.plot:
        common.check_plot("--plot", options.plot, parser)
    if options.compare and (options.lr is not None or options.optimizer is not None or options.plain):
        parser.error("--compare cannot be combined with --optimizer, --lr or --plain")
    if options.recipes and (options.compare or options.plot or options.plain):
        parser.error("--recipes cannot be combined with --compare, --plain or --plot")

    name = options.optimizer or "AdamW"
    setting = (name, RATES[name][1] if options.lr is None else options.lr, options.batch_size or 32)
    if options.recipes:
        run_recipes(*setting, options.epochs)
        return
    if options.compare:
        sizes = [options.batch_size] if options.batch_size else BATCH_SIZES
        histories = run_all(sizes, options.epochs, options.seed)
    else:
        recipe = RECIPES["plain" if options.plain else "all"]
        histories = {setting: run_one(recipe, *setting, options.epochs, options.seed)}
    if options.plot:
        plot(histories, options.plot)


if __name__ == "__main__":
    main()
