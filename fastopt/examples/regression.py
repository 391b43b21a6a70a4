"""Predict the fuel consumption of 392 cars of 1970 to 1982, and compare with linear least squares.

``python -m fastopt.examples.regression`` trains a small network, written in plain NumPy, with Huber's loss, AdamW, a
warm-up and cosine schedule, and early stopping on a validation set. Over ten random splits, it compares the errors on a
held-out fifth of the cars with those of linear least squares and of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

import fastopt
from fastopt.examples import common
from fastopt.examples.common import Array
from fastopt.schedules import Cosine, Warmup

HIDDEN = 64
BATCH_SIZE = 32
LR = 0.03
PATIENCE = 40  # epochs without a better validation loss
SPLITS = 10

Cars: TypeAlias = Sequence[Array]  # inputs with a row for each car, and miles per gallon as a column


def load() -> Cars:
    """Return inputs, which are six numbers and the one-hot origin (America, Europe, Japan), and miles per gallon."""
    table = common.load_table("auto_mpg.csv.gz", skiprows=1)
    numbers, origin, miles = np.split(table, [6, 7], axis=1)
    return np.hstack([numbers, origin == [1, 2, 3]]).astype(np.float32), miles


def split(seed: int) -> list[list[Array]]:
    """Return inputs and targets of a random training set (three fifths), validation set and test set (a fifth each)."""
    return common.split(load(), seed, held_out=2)


def train(training: Cars, validation: Cars, epochs: int, seed: int) -> common.Network:
    """Train until the validation loss stops falling, and return the network with the best parameters."""
    inputs, targets = training
    network = common.Network((inputs.shape[1], HIDDEN, 1), seed)
    steps = epochs * -(-len(inputs) // BATCH_SIZE)
    schedule = Warmup(Cosine(LR, steps - steps // 10), steps // 10)
    optimizer = fastopt.AdamW(network.params, lr=schedule, weight_decay=0.01)
    early_stopping = fastopt.EarlyStopping(PATIENCE)
    for epoch in range(epochs):
        for x, y in fastopt.batches(inputs, targets, batch_size=BATCH_SIZE, seed=seed, epoch=epoch):
            network.loss_and_gradients(fastopt.huber, x, y)
            optimizer.step(network.grads)
        loss, _ = fastopt.huber(network.predict(validation[0]), validation[1])
        if early_stopping.update(loss, network.params):
            break
    early_stopping.restore(network.params)
    return network


def predict_by_network(training: Cars, validation: Cars, inputs: Array, epochs: int, seed: int) -> Array:
    """Train on standardized inputs and targets, and return predictions in miles per gallon."""
    center, scale = training[0].mean(axis=0), training[0].std(axis=0)
    miles_center, miles_scale = training[1].mean(), training[1].std()

    def standardize(x: Array, y: Array) -> Cars:
        return (x - center) / scale, (y - miles_center) / miles_scale

    network = train(standardize(*training), standardize(*validation), epochs, seed)
    return network.predict((inputs - center) / scale) * miles_scale + miles_center


def predict(epochs: int, seed: int) -> tuple[Array, dict[str, Array]]:
    """Return the true miles per gallon of the test set of a split, and the predictions of each method."""
    training, validation, (test_inputs, test_miles) = split(seed)
    # The mean and least squares need no validation set and use it for training. The one-hot origin includes a constant.
    inputs, miles = (np.vstack(parts) for parts in zip(training, validation, strict=True))
    weights, *_ = np.linalg.lstsq(inputs.astype(np.float64), miles, rcond=None)
    return test_miles, {
        "mean": np.full_like(test_miles, miles.mean()),
        "least squares": test_inputs @ weights,
        "network": predict_by_network(training, validation, test_inputs, epochs, seed),
    }


def scores(predicted: Array, true: Array) -> tuple[float, float]:
    """Return the root mean squared error, and R^2, the explained fraction of the variance."""
    squared = ((predicted - true) ** 2).mean()
    return float(np.sqrt(squared)), float(1 - squared / true.var())


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train on every split and print the table."""
    parser = common.parser("regression", "Predict the fuel consumption of 392 cars.")
    parser.add_argument("--epochs", type=common.number(int, 1), default=200, help="maximum; default: %(default)s")
    parser.add_argument("--seed", type=common.number(int, 0, 2**32), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    splits = [predict(options.epochs, options.seed * SPLITS + i) for i in range(SPLITS)]
    print(f"miles per gallon, mean over {SPLITS} splits with {len(splits[0][0])} cars held out in each")
    print("method          RMSE     R^2")
    for name in splits[0][1]:
        rmse, r2 = np.mean([scores(predictions[name], true) for true, predictions in splits], axis=0)
        print(f"{name:13}{rmse:7.2f}{r2:8.3f}")


if __name__ == "__main__":
    main()
