"""Cross-validate a network of scikit-learn on 1,797 handwritten digits, trained by scikit-learn and by fastopt.

``python -m fastopt.examples.sklearn_digits`` trains both on the same folds, with the same random numbers. They classify
about 98 % of the held-out images correctly, and all images alike. The table lists the time of each call of ``fit``.
``--solver sgd`` trains with momentum instead of Adam; ``--optimizer AdamW`` lets fastopt train with an optimizer that
scikit-learn does not have.
"""

from __future__ import annotations

import time
import warnings
from typing import Any, TypeAlias

import numpy as np
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

import fastopt.sklearn
from fastopt.examples import common, digits
from fastopt.examples.common import Array

FOLDS = 5
RATES = {"adam": 0.005, "sgd": 0.1}

Fold: TypeAlias = tuple[Array, Array]  # the indices of the images for training and of those held out


def estimators(solver: str, optimizer: str | None, epochs: int, seed: int) -> dict[str, Any]:
    """Return the estimators to compare, which differ in their module only, unless there is an optimizer."""
    options = {"solver": solver, "learning_rate_init": RATES[solver], "max_iter": epochs, "random_state": seed}
    ours = fastopt.sklearn.MLPClassifier(**options, optimizer=getattr(fastopt, optimizer) if optimizer else None)
    return {"scikit-learn": neural_network.MLPClassifier(**options), "fastopt": ours}


def fit(estimator: Any, images: Array, labels: Array) -> tuple[Any, float]:
    """Return a trained copy of an estimator, and the seconds that this took."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is chosen
        model = clone(estimator).fit(images, labels)
    return model, time.perf_counter() - start


def compare(models: dict[str, Any], images: Array, labels: Array, fold: Fold) -> dict[str, tuple[Array, float, float]]:
    """Return the held-out predictions, their accuracy and the time of the fit, for each estimator."""
    training, test = fold
    results = {}
    for name, estimator in models.items():
        model, seconds = fit(estimator, images[training], labels[training])
        predicted = model.predict(images[test])
        results[name] = predicted, float((predicted == labels[test]).mean()), seconds
    return results


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, cross-validate and print the table."""
    parser = common.parser("sklearn_digits", "Cross-validate a network of scikit-learn, with and without fastopt.")
    parser.add_argument("--solver", choices=RATES, default="adam", help="scikit-learn's formula; default: %(default)s")
    parser.add_argument("--optimizer", choices=fastopt.optimizers.__all__, help="of fastopt, instead of that formula")
    parser.add_argument("--epochs", type=common.number(int, 1), default=40, help="maximum; default: %(default)s")
    parser.add_argument("--seed", type=common.number(int, 0, 2**32), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)

    images, labels = digits.load()
    images = images.astype(np.float64)  # in which both differ by a few units in the last place at most
    models = estimators(options.solver, options.optimizer, options.epochs, options.seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=options.seed).split(images, labels)
    common.write("fold" + "".join(f"{name:>14}{'fit':>9}" for name in models) + "   equal predictions")
    columns = []
    for number, fold in enumerate(common.progress(folds, FOLDS, "fold"), start=1):
        results = compare(models, images, labels, fold)
        (theirs, *_), (ours, *_) = results.values()
        columns.append([number for _, accuracy, seconds in results.values() for number in (accuracy, seconds)])
        common.write(f"{number:4}{line(columns[-1])}{(ours == theirs).sum():12} of {len(ours)}")
    common.write(f"mean{line(list(np.mean(columns, axis=0)))}")


def line(numbers: list[float]) -> str:
    """Return the accuracy and the time of each estimator as columns."""
    return "".join(
        f"{accuracy:14.2%}{seconds:7.2f} s" for accuracy, seconds in zip(numbers[::2], numbers[1::2], strict=True)
    )


if __name__ == "__main__":
    main()
