"""Predict the fuel consumption of 392 cars of 1970 to 1982, and compare with linear least squares.

``python -m fastopt.examples.regression`` trains a small network, written in plain NumPy, with Huber's loss, AdamW, a
warm-up and cosine schedule, and early stopping on a validation set. Over ten random splits, it compares the errors on a
held-out fifth of the cars with those of linear least squares and of the mean.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

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


@dataclass
class Cars:
    """Inputs with a row for each car, and miles per gallon as a column."""

    inputs: Array
    miles: Array

    def subset(self, rows: Array) -> Cars:
        """Return the cars of the given rows."""
        return Cars(self.inputs[rows], self.miles[rows])


def load() -> Cars:
    """Return the cars; inputs are six numbers and the one-hot origin (America, Europe, Japan)."""
    table = common.load_table("auto_mpg.csv.gz", skiprows=1)
    numbers, origin, miles = np.split(table, [6, 7], axis=1)
    return Cars(np.hstack([numbers, origin == [1, 2, 3]]).astype(np.float32), miles)


def split(seed: int) -> tuple[Cars, Cars, Cars]:
    """Return a random training set (three fifths), validation set (one fifth) and test set (one fifth)."""
    cars = load()
    order = np.random.default_rng(seed).permutation(len(cars.miles))
    test, validation, train = np.split(order, [len(order) // 5, 2 * len(order) // 5])
    return cars.subset(train), cars.subset(validation), cars.subset(test)


def forward(params: fastopt.Flat, inputs: Array) -> tuple[Array, Array]:
    """Return the hidden layer and the prediction."""
    hidden = np.maximum(inputs @ params["w1"] + params["b1"], 0)
    return hidden, hidden @ params["w2"] + params["b2"]


def loss_and_gradients(params: fastopt.Flat, grads: fastopt.Flat, inputs: Array, targets: Array) -> float:
    """Return Huber's loss of a batch, and write its gradients to ``grads``."""
    hidden, predicted = forward(params, inputs)
    loss, dpredicted = fastopt.huber(predicted, targets, out=predicted)
    np.matmul(hidden.T, dpredicted, out=grads["w2"])
    np.sum(dpredicted, axis=0, out=grads["b2"])
    dhidden = (dpredicted @ params["w2"].T) * (hidden > 0)
    np.matmul(inputs.T, dhidden, out=grads["w1"])
    np.sum(dhidden, axis=0, out=grads["b1"])
    return float(loss)


def train(training: Cars, validation: Cars, epochs: int, seed: int) -> fastopt.Flat:
    """Train until the validation loss stops falling, and return the best parameters."""
    params = common.initial_params(training.inputs.shape[1], HIDDEN, 1, seed)
    grads = params.zeros_like()
    steps = epochs * -(-len(training.miles) // BATCH_SIZE)
    schedule = Warmup(Cosine(LR, steps - steps // 10), steps // 10)
    optimizer = fastopt.AdamW(params, lr=schedule, weight_decay=0.01)
    early_stopping = fastopt.EarlyStopping(PATIENCE)
    for epoch in range(epochs):
        batches = fastopt.batches(training.inputs, training.miles, batch_size=BATCH_SIZE, seed=seed, epoch=epoch)
        for inputs, targets in batches:
            loss_and_gradients(params, grads, inputs, targets)
            optimizer.step(grads)
        _, predicted = forward(params, validation.inputs)
        loss, _ = fastopt.huber(predicted, validation.miles)
        if early_stopping.update(loss, params):
            break
    early_stopping.restore(params)
    return params


def predict_by_network(training: Cars, validation: Cars, inputs: Array, epochs: int, seed: int) -> Array:
    """Train on standardized inputs and targets, and return predictions in miles per gallon."""
    center, scale = training.inputs.mean(axis=0), training.inputs.std(axis=0)
    miles_center, miles_scale = training.miles.mean(), training.miles.std()

    def standardize(cars: Cars) -> Cars:
        return Cars((cars.inputs - center) / scale, (cars.miles - miles_center) / miles_scale)

    params = train(standardize(training), standardize(validation), epochs, seed)
    _, predicted = forward(params, (inputs - center) / scale)
    miles: Array = predicted * miles_scale + miles_center
    return miles


def predict(epochs: int, seed: int) -> tuple[Array, dict[str, Array]]:
    """Return the true miles per gallon of the test set of a split, and the predictions of each method."""
    training, validation, test = split(seed)
    # The mean and least squares need no validation set and use it for training. The one-hot origin includes a constant.
    inputs, miles = np.vstack([training.inputs, validation.inputs]), np.vstack([training.miles, validation.miles])
    weights, *_ = np.linalg.lstsq(inputs.astype(np.float64), miles, rcond=None)
    return test.miles, {
        "mean": np.full_like(test.miles, miles.mean()),
        "least squares": test.inputs @ weights,
        "network": predict_by_network(training, validation, test.inputs, epochs, seed),
    }


def scores(predicted: Array, true: Array) -> tuple[float, float]:
    """Return the root mean squared error, and R^2, the explained fraction of the variance."""
    squared = ((predicted - true) ** 2).mean()
    return float(np.sqrt(squared)), float(1 - squared / true.var())


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train on every split and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m fastopt.examples.regression", description="Predict the fuel consumption of 392 cars."
    )
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
