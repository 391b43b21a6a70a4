r"""scikit-learn's multi-layer perceptrons, trained by optimizers of fastopt.

`MLPClassifier` and `MLPRegressor` are scikit-learn's classes with a faster optimizer: change the import, and nothing
else.

>>> from fastopt.sklearn import MLPClassifier  # instead of sklearn.neural_network
>>> from sklearn.datasets import load_digits
>>> images, labels = load_digits(return_X_y=True)
>>> images = images / 16
>>> model = MLPClassifier((32,), learning_rate_init=0.01, tol=0.01, random_state=0).fit(images, labels)
>>> model.score(images, labels) > 0.99
True

**Same results.** ``solver="adam"`` and ``"sgd"`` use scikit-learn's formulas and learning-rate policies. Losses and
weights of "sgd" are equal to scikit-learn's in every bit, and those of "adam" agree to about 1e-13, relative to the
largest weight of an array. Weights of float32 agree to the rounding of float32, and again in every bit for "sgd" if
the targets are not float64. ``solver="lbfgs"`` is scikit-learn's own.

**Other optimizers.** The parameter ``optimizer`` takes the place of scikit-learn's two formulas: a class of fastopt, or
a ``functools.partial`` of one with its options. `clone`, pickle, ``set_params`` and a grid search work with it:

>>> from functools import partial
>>> from sklearn.model_selection import GridSearchCV
>>> import fastopt
>>> choices = {"optimizer": [fastopt.RMSprop, partial(fastopt.AdamW, weight_decay=0.01, max_grad_norm=1.0)]}
>>> search = GridSearchCV(model.set_params(alpha=0.0), choices, cv=3).fit(images, labels)
>>> bool(search.best_score_ > 0.9)
True

It is called as ``optimizer([coefs, intercepts], lr=learning_rate_init, convert_grads=True)`` with two tuples of arrays.
A ``partial`` that has an ``lr``, for example a schedule, keeps its own. A function may make parameter groups, so that
only the weight matrices decay:

>>> def adamw(params, **options):
...     coefs, intercepts = params
...     groups = [{"params": coefs}, {"params": intercepts, "weight_decay": 0.0}]
...     return fastopt.AdamW(groups, weight_decay=0.01, **options)
>>> model = MLPClassifier((32,), optimizer=adamw, alpha=0.0).partial_fit(images, labels, classes=range(10))

**The fitted optimizer** is the attribute ``optimizer_``, with all that `fastopt.Optimizer` offers. Between calls of
``partial_fit``, its rate can be set:

>>> model.optimizer_.lr = 1e-4
>>> model.partial_fit(images, labels).optimizer_.steps
18

As in scikit-learn, ``fit`` starts a new optimizer, and ``partial_fit`` continues with the present one: it ignores
parameters such as ``learning_rate_init`` or ``optimizer`` that ``set_params`` changes meanwhile. A pickle or a deep
copy includes the state of the optimizer and continues with the same bits; ``del model._optimizer`` removes that state,
which is once or twice as large as the weights, from a model that is only used to predict.

Tested with scikit-learn 1.4 to 1.9. Install it by ``pip install "fastopt[sklearn]"``.
"""

# How scikit-learn comes to use fastopt. `BaseMultilayerPerceptron._fit_stochastic` assigns an AdamOptimizer or
# SGDOptimizer to ``self._optimizer`` and calls three methods of it: ``update_params``, ``iteration_ends`` and
# ``trigger_stopping``. This has been the same since version 0.24. `_WithOptimizer` replaces the assigned object by a
# `_Solver`, so that all code of scikit-learn around the step stays in use. Alternatives are more fragile:
# - a copy of `_fit_stochastic` would have to follow its changes, such as sample_weight in 1.7;
# - replacing AdamOptimizer in scikit-learn's module would affect scikit-learn's own estimators and other threads;
# - a property would need a getter, a deleter and a way around both for pickle, where a plain attribute needs none.
# `_fit` raises if a version of scikit-learn no longer assigns the attribute.

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from operator import is_
from typing import Any, TypeAlias

import sklearn
from sklearn import neural_network
from sklearn.base import BaseEstimator
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from fastopt._util.arrays import Array
from fastopt._util.validation import check_instance, decay
from fastopt.optimizers import Adam, Momentum, Optimizer

__all__ = ["MLPClassifier", "MLPRegressor"]

OptimizerFactory: TypeAlias = Callable[..., Optimizer]


class _Solver(SGDOptimizer):
    """The object that scikit-learn steps with: its own policies of the learning rate, and an optimizer of fastopt.

    An optimizer belongs to its arrays. Therefore it is made again from its ``state_dict`` for the first gradients after
    scikit-learn has replaced the arrays, or after the model was copied or unpickled.
    """

    optimizer: Optimizer | None = None

    def __init__(self, make: OptimizerFactory, lr: float, policy: str, power_t: float) -> None:
        super().__init__([], lr, policy, power_t=power_t)
        self.make = make
        self.params: tuple[Array, ...] = ()  # those of the optimizer
        self.saved: dict[str, Any] | None = None  # the state_dict that the next optimizer loads

    @property
    def learning_rate(self) -> float:
        """The rate, which scikit-learn's policies change."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = value
        if self.optimizer is not None:
            self.optimizer.lr = value

    def update_params(self, params: Sequence[Array], grads: Sequence[Array]) -> None:
        """Update the parameters in place."""
        middle = len(grads) // 2
        self.optimizer_of(params).step((grads[:middle], grads[middle:]))

    def optimizer_of(self, params: Sequence[Array]) -> Optimizer:
        """Return the optimizer of these arrays: all weight matrices, then all intercepts."""
        if self.optimizer is None or not all(map(is_, params, self.params)):
            state_dict, middle = self.state_dict(), len(params) // 2
            optimizer = self.make([tuple(params[:middle]), tuple(params[middle:])])
            check_instance("the result of optimizer", optimizer, Optimizer)
            if state_dict is not None:
                optimizer.load_state_dict(state_dict)
            self.optimizer, self.params, self.saved = optimizer, tuple(params), None
        return self.optimizer

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the optimizer, or None before its first step."""
        return self.saved if self.optimizer is None else self.optimizer.state_dict()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "optimizer": None, "params": (), "saved": self.state_dict()}


class _WithOptimizer(BaseEstimator):
    """What both estimators add to scikit-learn's."""

    optimizer: OptimizerFactory | None

    @property
    def optimizer_(self) -> Optimizer:
        """The optimizer of the last call of ``fit`` or ``partial_fit``, unless the solver was "lbfgs"."""
        solver: _Solver = self._optimizer
        return solver.optimizer_of([*self.coefs_, *self.intercepts_])

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_optimizer" and not isinstance(value, _Solver):
            value = self._solver()
        super().__setattr__(name, value)

    def _solver(self) -> _Solver:
        """Return the solver that the parameters of the estimator describe."""
        make, policy = self.optimizer, self.learning_rate
        if make is None and self.solver == "sgd":
            make = partial(Momentum, momentum=self.momentum, nesterov=self.nesterovs_momentum)
        elif make is None:
            make, policy = partial(Adam, betas=(self.beta_1, self.beta_2), eps=self.epsilon, eps_hat=True), "constant"
        # Targets of float64 make gradients of float64, also for weights of float32.
        options = {"lr": self.learning_rate_init, "convert_grads": True, **_own_options(make)}
        solver = _Solver(partial(make, **options), self.learning_rate_init, policy, self.power_t)
        solver.optimizer_of([*self.coefs_, *self.intercepts_])  # now, so that wrong options leave no solver
        return solver

    def _fit(self, *args: Any, **kwargs: Any) -> Any:
        self._check_optimizer()
        fitted = super()._fit(*args, **kwargs)
        if self.solver != "lbfgs" and not isinstance(vars(self).get("_optimizer"), _Solver):
            raise RuntimeError(f"scikit-learn must be a version that fastopt supports, got {sklearn.__version__}")
        return fitted

    def _check_optimizer(self) -> None:
        """Raise if parameters of the estimator exclude each other, before scikit-learn changes anything."""
        if self.optimizer is None:
            if self.solver == "sgd":
                decay("momentum", self.momentum)
        elif not callable(self.optimizer):
            raise TypeError(
                f"optimizer must be None, a class of fastopt or a function that makes one, got {self.optimizer!r}"
            )
        elif self.solver == "lbfgs":
            raise ValueError("solver must be 'adam' or 'sgd' if there is an optimizer, got 'lbfgs'")
        elif self.learning_rate != "constant" and "lr" in _own_options(self.optimizer):
            raise ValueError(f"learning_rate must be 'constant' if optimizer has an lr, got {self.learning_rate!r}")


def _own_options(make: OptimizerFactory) -> dict[str, Any]:
    """Return the options in a ``functools.partial``; those of a class or function are none."""
    return make.keywords if isinstance(make, partial) else {}


def _signature(estimator: type) -> inspect.Signature:
    """Return the signature of a constructor of scikit-learn, which depends on the version, with ``optimizer``.

    ``get_params`` and ``clone`` take the names of the parameters from it.
    """
    theirs = inspect.signature(estimator.__init__)  # type: ignore[misc]
    own = inspect.Parameter("optimizer", inspect.Parameter.KEYWORD_ONLY, default=None)
    return theirs.replace(parameters=[*theirs.parameters.values(), own])


class MLPClassifier(_WithOptimizer, neural_network.MLPClassifier):
    """Multi-layer perceptron classifier, trained by an optimizer of fastopt.

    Parameters
    ----------
    *args, **kwargs
        The parameters of ``sklearn.neural_network.MLPClassifier``, with the same defaults.
    optimizer : callable, optional
        A class of `fastopt.optimizers`, a ``functools.partial`` of one, or a function that returns one. It is called as
        ``optimizer([coefs, intercepts], lr=learning_rate_init, convert_grads=True)``, where options of the partial take
        precedence. By default, the optimizer follows scikit-learn's formula for the ``solver``.

    Attributes
    ----------
    optimizer_ : fastopt.Optimizer
        The optimizer of the last call of ``fit`` or ``partial_fit``, for ``solver="adam"`` and ``"sgd"``.

    Raises
    ------
    TypeError
        By ``fit`` and ``partial_fit``, if ``optimizer`` is not callable or does not return an optimizer of fastopt.
    ValueError
        By ``fit`` and ``partial_fit``, as scikit-learn does; if there is an ``optimizer`` and ``solver`` is "lbfgs", or
        it has an ``lr`` and ``learning_rate`` is not "constant"; and for ``solver="sgd"``, if ``momentum`` is 1.

    Notes
    -----
    With an ``optimizer``, ``solver`` must be "adam" or "sgd", which then makes no difference, and ``momentum``,
    ``nesterovs_momentum``, ``beta_1``, ``beta_2`` and ``epsilon`` are not used. The policies "adaptive" and
    "invscaling" of ``learning_rate`` apply to every ``optimizer``; without one, only to "sgd", as in scikit-learn.

    scikit-learn adds the gradient of the L2 penalty ``alpha`` (default 1e-4) for the weight matrices, whatever the
    optimizer. Set ``alpha=0`` for decoupled weight decay alone.

    Weights have the dtype of the first data. Gradients of float32 weights are float64 if the targets are; they are
    rounded to float32. Velocities and averages below 1e-30 (1e-299 in float64) become zero.

    Examples
    --------
    >>> import fastopt
    >>> from functools import partial
    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> schedule = fastopt.schedules.Warmup(fastopt.schedules.Cosine(0.02, decay_steps=180), warmup_steps=20)
    >>> optimizer = partial(fastopt.AdamW, lr=schedule)
    >>> model = MLPClassifier((16,), optimizer=optimizer, alpha=0.0, batch_size=30, random_state=0).fit(x, y)
    >>> model.score(x, y) > 0.95
    True
    """

    def __init__(self, *args: Any, optimizer: OptimizerFactory | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optimizer = optimizer

    __init__.__signature__ = _signature(neural_network.MLPClassifier)  # type: ignore[attr-defined]


class MLPRegressor(_WithOptimizer, neural_network.MLPRegressor):
    """Multi-layer perceptron regressor, trained by an optimizer of fastopt.

    Parameters
    ----------
    *args, **kwargs
        The parameters of ``sklearn.neural_network.MLPRegressor``, with the same defaults.
    optimizer : callable, optional
        A class of `fastopt.optimizers`, a ``functools.partial`` of one, or a function that returns one, as for
        `MLPClassifier`.

    Attributes
    ----------
    optimizer_ : fastopt.Optimizer
        The optimizer of the last call of ``fit`` or ``partial_fit``, for ``solver="adam"`` and ``"sgd"``.

    Raises
    ------
    TypeError, ValueError
        By ``fit`` and ``partial_fit``, as for `MLPClassifier`.

    Notes
    -----
    The notes on `MLPClassifier` apply.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.sin(3 * x[:, 0])
    >>> model = MLPRegressor(hidden_layer_sizes=(32,), batch_size=20, learning_rate_init=0.01, random_state=0).fit(x, y)
    >>> model.score(x, y) > 0.99
    True
    """

    def __init__(self, *args: Any, optimizer: OptimizerFactory | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optimizer = optimizer

    __init__.__signature__ = _signature(neural_network.MLPRegressor)  # type: ignore[attr-defined]
