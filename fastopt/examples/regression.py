"""Predict how far 392 cars of 1970 to 1982 go on a gallon, better than a straight line does.

``python -m fastopt.examples.regression`` holds out a fifth of the cars, fits a small network, written in plain NumPy,
to the others, and does so for ten splits: Huber's loss, AdamW with a warm-up and a cosine, and early stopping on cars
that it doesn't train on, after which the best parameters are restored. On the cars that were held out it is compared
with linear least squares and with the mean.
"""

from __future__ import annotations

import argparse
import gzip
import io
from dataclasses import dataclass
from importlib import resources

import numpy as np

import fastopt
from fastopt._util.arrays import Array

HIDDEN = 64
BATCH_SIZE = 32
LR = 0.03
PATIENCE = 40  # epochs without a better validation loss
SPLITS = 10


@dataclass
class Cars:
    """Inputs, a row for each car, and as a column the miles that it goes on a gallon."""

    inputs: Array
    miles: Array

    def part(self, rows: Array) -> Cars:
        """Give some of the cars."""
        return Cars(self.inputs[rows], self.miles[rows])


def load() -> Cars:
    """Give the cars: six numbers and, one-hot, the origin (America, Europe, Japan) as inputs."""
    packed = resources.files("fastopt.data").joinpath("auto_mpg.csv.gz").read_bytes()
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",", dtype=np.float32, skiprows=1)
    numbers, origin, miles = np.split(table, [6, 7], axis=1)
    return Cars(np.hstack([numbers, origin == [1, 2, 3]]).astype(np.float32), miles)


def split(seed: int) -> tuple[Cars, Cars, Cars]:
    """Divide the cars at random: three fifths to train on, a fifth that says when to stop, and a fifth to test on."""
    cars = load()
    order = np.random.default_rng(seed).permutation(len(cars.miles))
    test, validation, train = np.split(order, [len(order) // 5, 2 * len(order) // 5])
    return cars.part(train), cars.part(validation), cars.part(test)


def initial_params(inputs: int, seed: int) -> fastopt.Flat:
    """Draw the weights (He et al. 2015); biases are zero."""
    rng = np.random.default_rng(seed)
    params = fastopt.Flat({"w1": (inputs, HIDDEN), "b1": HIDDEN, "w2": (HIDDEN, 1), "b2": 1})
    params["w1"] = rng.normal(0, np.sqrt(2 / inputs), (inputs, HIDDEN))
    params["w2"] = rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 1))
    return params


def forward(params: fastopt.Flat, inputs: Array) -> tuple[Array, Array]:
    """Run the network: the hidden layer and the prediction."""
    hidden = np.maximum(inputs @ params["w1"] + params["b1"], 0)
    return hidden, hidden @ params["w2"] + params["b2"]


def loss_and_gradients(params: fastopt.Flat, grads: fastopt.Flat, inputs: Array, targets: Array) -> float:
    """Huber's loss of a batch; its gradients are written to ``grads``."""
    hidden, predicted = forward(params, inputs)
    loss, dpredicted = fastopt.huber(predicted, targets, out=predicted)
    np.matmul(hidden.T, dpredicted, out=grads["w2"])
    np.sum(dpredicted, axis=0, out=grads["b2"])
    dhidden = (dpredicted @ params["w2"].T) * (hidden > 0)
    np.matmul(inputs.T, dhidden, out=grads["w1"])
    np.sum(dhidden, axis=0, out=grads["b1"])
    return float(loss)


def train(cars: Cars, validation: Cars, epochs: int, seed: int) -> fastopt.Flat:
    """Train until the validation loss no longer falls, and give the parameters that were best."""
    params = initial_params(cars.inputs.shape[1], seed)
    grads = params.zeros_like()
    steps = epochs * -(-len(cars.miles) // BATCH_SIZE)
    warmup = steps // 10
    lr = fastopt.schedules.Warmup(fastopt.schedules.Cosine(LR, steps - warmup), warmup)
    optimizer = fastopt.AdamW(params, lr=lr, weight_decay=0.01)
    stopping = fastopt.EarlyStopping(PATIENCE)
    for epoch in range(epochs):
        batches = fastopt.batches(cars.inputs, cars.miles, batch_size=BATCH_SIZE, seed=seed, epoch=epoch)
        for inputs, targets in batches:
            loss_and_gradients(params, grads, inputs, targets)
            optimizer.step(grads)
        _, predicted = forward(params, validation.inputs)
        loss, _ = fastopt.huber(predicted, validation.miles)
        if stopping.update(loss, params):
            break
    stopping.restore(params)
    return params


def predict_by_network(known: Cars, validation: Cars, inputs: Array, epochs: int, seed: int) -> Array:
    """Train on standardised inputs and targets, and predict in miles again."""
    center, scale = known.inputs.mean(axis=0), known.inputs.std(axis=0)
    miles_center, miles_scale = known.miles.mean(), known.miles.std()

    def standardised(cars: Cars) -> Cars:
        return Cars((cars.inputs - center) / scale, (cars.miles - miles_center) / miles_scale)

    params = train(standardised(known), standardised(validation), epochs, seed)
    _, predicted = forward(params, (inputs - center) / scale)
    miles: Array = predicted * miles_scale + miles_center
    return miles


def predict(epochs: int, seed: int) -> tuple[Array, dict[str, Array]]:
    """Give the miles of the cars held out in a split, and what each method predicts for them."""
    known, validation, test = split(seed)
    # These two need no validation: they learn from four fifths. The one-hot origin adds up to the constant term.
    inputs, miles = np.vstack([known.inputs, validation.inputs]), np.vstack([known.miles, validation.miles])
    weights, *_ = np.linalg.lstsq(inputs.astype(np.float64), miles, rcond=None)
    return test.miles, {
        "mean": np.full_like(test.miles, miles.mean()),
        "least squares": test.inputs @ weights,
        "network": predict_by_network(known, validation, test.inputs, epochs, seed),
    }


def scores(predicted: Array, true: Array) -> tuple[float, float]:
    """Compute the root mean squared error and R^2, the share of the variance that is explained."""
    squared = ((predicted - true) ** 2).mean()
    return float(np.sqrt(squared)), float(1 - squared / true.var())


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train on every split and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m fastopt.examples.regression", description="Predict how far 392 cars go on a gallon."
    )
    parser.add_argument("--epochs", type=int, default=200, help="at most so many; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of splits, weights and order; default: %(default)s")
    options = parser.parse_args(arguments)
    if options.epochs < 1 or not 0 <= options.seed < 2**32:
        parser.error("--epochs wants a number >= 1, --seed one from 0 to 2**32 - 1")
    splits = [predict(options.epochs, options.seed * SPLITS + i) for i in range(SPLITS)]
    print(f"miles per gallon, mean over {SPLITS} splits with {len(splits[0][0])} cars held out in each")
    print("method          RMSE     R^2")
    for name in splits[0][1]:
        rmse, r2 = np.mean([scores(predictions[name], true) for true, predictions in splits], axis=0)
        print(f"{name:13}{rmse:7.2f}{r2:8.3f}")


if __name__ == "__main__":
    main()
