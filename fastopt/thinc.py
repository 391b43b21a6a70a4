"""Optimizers for thinc and spaCy.

Install ``fastopt[thinc]`` or ``fastopt[spacy]``, and change one line in the config of spaCy:

    [training.optimizer]
    @optimizers = "fastopt.Adam.v1"

The names ``SGD``, ``Momentum``, ``RMSprop``, ``Adagrad``, ``Adam`` and ``AdamW`` are registered for spaCy and for
thinc's configs. In a program, ``model.finish_update`` takes an optimizer of this module like one of thinc:

>>> import numpy as np
>>> from thinc.api import Linear
>>> import fastopt.thinc
>>> optimizer = fastopt.thinc.Adam(learn_rate=0.1, L2=1e-4, grad_clip=1.0)
>>> model = Linear(1, 2)
>>> x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
>>> model = model.initialize(x, y)
>>> for _ in range(100):
...     prediction, backprop = model.begin_update(x)
...     _ = backprop((prediction - y) / len(x))
...     model.finish_update(optimizer)
...     optimizer.step_schedules()
>>> model.predict(x)[0].round(1)
array([1.], dtype=float32)

**What is the same.** The arguments, their defaults and schedules, attributes that can be set (``learn_rate``, ``L2``,
``grad_clip``), the order of decay and clipping, averages, and gradients that are zero after a step. Weights are updated
in place. thinc 8.1 to 9.1 and spaCy 3.4 to 3.8 are tested.

**What differs.** thinc forms ``1 - beta`` in float32, which for ``beta2=0.999`` makes Adam's second moment 0.0013 % too
small, and a step up to 0.0006 % too large. Here it is formed in double precision; with ``beta2=1 - 2**-10``, which
float32 represents exactly, weights agree to rounding. The decoupled decay multiplies the weights before the step, as in
AdamW's paper, and not after it, which changes a step by the factor ``1 - learn_rate * L2``. Clipping adds 1e-6 to the
norm, as PyTorch does, and spreads a NaN to the whole array. There is no RAdam. Arrays on a GPU raise ``TypeError``.
"""

import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Literal, TypeVar

import thinc.optimizers

try:
    from thinc.optimizers import FloatOrSeq
except ImportError:  # its name since thinc 9
    from thinc.optimizers import ScheduleT as FloatOrSeq  # type: ignore[attr-defined,no-redef,unused-ignore]

import fastopt
from fastopt.optimizers._docs import insert_shared_sections

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Momentum", "Optimizer", "RMSprop"]

MAX_AVERAGE_DECAY = 0.9999  # thinc's
NUMBERS = ("learn_rate", "L2", "L2_is_weight_decay", "grad_clip")  # attributes that all optimizers have

SHARED = """
<common>
learn_rate : float, list or schedule
    Learning rate, >= 0. Like every number here, it can be a list of the values of each step, or a schedule of thinc,
    which moves on with ``step_schedules()``.
L2 : float, list or schedule
    Strength of the decay, >= 0.
grad_clip : float, list or schedule, default 1.0
    Scale the gradient of each array so that its norm is at most this value; 0 scales nothing.
L2_is_weight_decay : bool, default True
    Multiply the weights by ``1 - learn_rate * L2``, instead of adding ``L2 * weights`` to the gradient before it is
    clipped.
use_averages : bool, default True
    Keep moving averages of the weights in ``averages``, for ``model.use_params(optimizer.averages)``.

<adam>
beta1 : float, list or schedule, default 0.9
    Decay of the average of the gradient, in [0, 1).
beta2 : float, list or schedule, default 0.999
    Decay of the average of its square, in [0, 1).
eps : float, list or schedule, default 1e-8
    Term added to the denominator before the bias correction, >= 0, as thinc does.
amsgrad : bool, default False
    Divide by the largest second moment so far.

<returns>
Returns
-------
Optimizer
    A subclass of ``thinc.api.Optimizer``.

Examples
--------
>>> import fastopt.thinc
"""


def average_decay(steps: int) -> float:
    """Return the decay of thinc's moving averages after a number of completed steps of an array."""
    return min(MAX_AVERAGE_DECAY, (2.0 + steps) / (11.0 + steps))


class Optimizer(thinc.optimizers.Optimizer):
    """Base class of the optimizers of this module, a subclass of ``thinc.api.Optimizer``.

    Make one by `Adam`, for example. ``mom1`` and ``mom2`` stay empty: ``keyed`` has the states.

    Attributes
    ----------
    learn_rate, L2, grad_clip, ... : float
        The numbers that the optimizer was made with; they may be set between steps. In thinc 9 they are schedules.
    averages : dict of (int, str) to ndarray, or None
        Moving averages of the weights, by the identifier of a layer and the name of an array.
    nr_update : dict of (int, str) to int
        Number of steps of each array.
    keyed : fastopt.Keyed
        The states and the numbers of steps, by the same keys.

    Examples
    --------
    >>> import fastopt.thinc
    >>> isinstance(fastopt.thinc.AdamW(), fastopt.thinc.Optimizer)
    True
    """

    def __init__(
        self, cls: type[fastopt.Optimizer], common: tuple[Any, ...], numbers: dict[str, Any], **options: Any
    ) -> None:
        rate, l2, grad_clip, l2_is_weight_decay, use_averages = common
        shared = {"L2": l2, "grad_clip": grad_clip, "L2_is_weight_decay": l2_is_weight_decay}
        super().__init__(rate, **shared, beta1=0.0, beta2=0.0, use_averages=use_averages)
        for name, value in numbers.items():
            self._set_attr_or_schedule(name, value)
        self._numbers: Callable[[Any], tuple[Any, ...]] = attrgetter(*NUMBERS, *numbers)
        self._names = (*NUMBERS, *numbers)
        self._values = self._current_values(None)
        self.keyed = fastopt.Keyed(
            cls,
            decoupled_weight_decay=True,
            zero_grads=True,
            convert_grads=True,
            ema_decay=None if self.averages is None else average_decay,
            **options,
            **self._hyperparameters(self._values),
        )

    def __call__(self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0) -> tuple[Any, Any]:
        """Do a step for one array, and set its gradient to zero.

        Parameters
        ----------
        key : tuple of int and str
            The identifier of the layer and the name of the array.
        weights : ndarray
            Array to update in place.
        gradient : ndarray
            Its gradient.
        lr_scale : float, default 1.0
            Factor of the learning rate.

        Returns
        -------
        tuple of two ndarrays
            ``weights`` and ``gradient``.

        Raises
        ------
        TypeError, ValueError
            If an array cannot be used, for example because it is on a GPU.
        """
        if len(gradient) < 1:
            return weights, gradient
        rate, l2, l2_is_weight_decay, *others = self._current_values(key)
        values = (rate * lr_scale, l2, l2_is_weight_decay, *others)
        if values != self._values:
            self._set_values(values)
        if l2 != 0 and not l2_is_weight_decay:  # not by the step, which would clip the gradient first
            gradient += l2 * weights
        before = self.keyed.get(key)
        self.keyed(key, weights, gradient)
        self.nr_update[key] += 1
        if self.averages is not None and self.keyed[key] is not before:
            average = self.keyed[key].ema
            if before is None:  # thinc's averages start at zero, those of fastopt as copies of the weights
                average[...] = (1.0 - average_decay(0)) * weights
            self.averages[key] = average
        return weights, gradient

    def _current_values(self, key: Any) -> tuple[Any, ...]:
        """Return the values of ``_names`` for an array."""
        values = self._numbers(self)
        if any(map(callable, values)):  # schedules of thinc 9
            step, score = self.step, self.last_score  # type: ignore[attr-defined,unused-ignore]
            return tuple(value(step, key=key, last_score=score) if callable(value) else value for value in values)
        return values

    def _set_values(self, values: tuple[Any, ...]) -> None:
        """Pass values that have changed to the optimizers of all arrays."""
        old, new = self._hyperparameters(self._values), self._hyperparameters(values)
        changes = {name: value for name, value in new.items() if value != old[name]}
        for name in ("lr", "max_grad_norm"):
            if name in changes:
                setattr(self.keyed, name, changes.pop(name))  # the rate often changes, and this is the fast way
        if changes:
            self.keyed.set(**changes)
        self._values = values

    def _hyperparameters(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return the arguments of a class of fastopt from the values of thinc's attributes."""
        rate, l2, l2_is_weight_decay, grad_clip, *_ = values
        others = dict(zip(self._names[len(NUMBERS) :], values[len(NUMBERS) :], strict=True))
        if "b1" in others:
            others["betas"] = (others.pop("b1"), others.pop("b2"))
        weight_decay = l2 if l2_is_weight_decay else 0.0
        return {"lr": rate, "weight_decay": weight_decay, "max_grad_norm": grad_clip or None, **others}


Function = TypeVar("Function", bound=Callable[..., Optimizer])


def _documented(function: Function) -> Function:
    """Insert the description of the common arguments into the docstring of a function."""
    if function.__doc__:
        function.__doc__ = insert_shared_sections(inspect.cleandoc(function.__doc__), SHARED)
    return function


@_documented
def SGD(
    learn_rate: FloatOrSeq,
    *,
    L2: FloatOrSeq = 0.0,
    grad_clip: FloatOrSeq = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    momentum: FloatOrSeq = 0.0,
    dampening: FloatOrSeq = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Return `fastopt.SGD` for thinc, which configs call ``"fastopt.SGD.v1"``.

    Parameters
    ----------
    <common>
    momentum : float, list or schedule, default 0.0
        Decay of the momentum buffer, in [0, 1).
    dampening : float, list or schedule, default 0.0
        Dampening of the gradient, in [0, 1].
    nesterov : bool, default False
        Use Nesterov's look-ahead.

    <returns>
    >>> fastopt.thinc.SGD(0.1, momentum=0.9).keyed.lr
    0.1
    """
    common = (learn_rate, L2, grad_clip, L2_is_weight_decay, use_averages)
    numbers = {"momentum": momentum, "dampening": dampening}
    return Optimizer(fastopt.SGD, common, numbers, nesterov=nesterov)


@_documented
def Momentum(
    learn_rate: FloatOrSeq,
    *,
    L2: FloatOrSeq = 0.0,
    grad_clip: FloatOrSeq = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    momentum: FloatOrSeq = 0.9,
    nesterov: bool = False,
    form: Literal["classical", "ema"] = "classical",
) -> Optimizer:
    """Return `fastopt.Momentum` for thinc, which configs call ``"fastopt.Momentum.v1"``.

    Parameters
    ----------
    <common>
    momentum : float, list or schedule, default 0.9
        Decay of the momentum buffer, in [0, 1).
    nesterov : bool, default False
        Use Nesterov's look-ahead.
    form : {"classical", "ema"}, default "classical"
        Whether the buffer contains the rate, as in Keras, or is a moving average of the gradient.

    <returns>
    >>> fastopt.thinc.Momentum(0.1).keyed.lr
    0.1
    """
    common = (learn_rate, L2, grad_clip, L2_is_weight_decay, use_averages)
    numbers = {"momentum": momentum}
    return Optimizer(fastopt.Momentum, common, numbers, nesterov=nesterov, form=form)


@_documented
def RMSprop(
    learn_rate: FloatOrSeq = 0.01,
    *,
    L2: FloatOrSeq = 0.0,
    grad_clip: FloatOrSeq = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    alpha: FloatOrSeq = 0.99,
    eps: FloatOrSeq = 1e-8,
    momentum: FloatOrSeq = 0.0,
    centered: bool = False,
    eps_inside_sqrt: bool = False,
) -> Optimizer:
    """Return `fastopt.RMSprop` for thinc, which configs call ``"fastopt.RMSprop.v1"``.

    Parameters
    ----------
    <common>
    alpha : float, list or schedule, default 0.99
        Decay of the averages, in [0, 1).
    eps : float, list or schedule, default 1e-8
        Term added to the denominator, >= 0.
    momentum : float, list or schedule, default 0.0
        Decay of the momentum buffer, in [0, 1).
    centered : bool, default False
        Divide by the estimated standard deviation.
    eps_inside_sqrt : bool, default False
        Add ``eps`` inside the square root.

    <returns>
    >>> fastopt.thinc.RMSprop(0.1).keyed.lr
    0.1
    """
    common = (learn_rate, L2, grad_clip, L2_is_weight_decay, use_averages)
    numbers = {"alpha": alpha, "eps": eps, "momentum": momentum}
    return Optimizer(fastopt.RMSprop, common, numbers, centered=centered, eps_inside_sqrt=eps_inside_sqrt)


@_documented
def Adagrad(
    learn_rate: FloatOrSeq = 0.01,
    *,
    L2: FloatOrSeq = 0.0,
    grad_clip: FloatOrSeq = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    lr_decay: FloatOrSeq = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: FloatOrSeq = 1e-10,
) -> Optimizer:
    """Return `fastopt.Adagrad` for thinc, which configs call ``"fastopt.Adagrad.v1"``.

    Parameters
    ----------
    <common>
    lr_decay : float, list or schedule, default 0.0
        Decay of the learning rate, >= 0.
    initial_accumulator_value : float, default 0.0
        Start value of the sum of squares, >= 0.
    eps : float, list or schedule, default 1e-10
        Term added to the denominator, >= 0.

    <returns>
    >>> fastopt.thinc.Adagrad(0.1).keyed.lr
    0.1
    """
    common = (learn_rate, L2, grad_clip, L2_is_weight_decay, use_averages)
    numbers = {"lr_decay": lr_decay, "eps": eps}
    return Optimizer(fastopt.Adagrad, common, numbers, initial_accumulator_value=initial_accumulator_value)


@_documented
def Adam(
    learn_rate: FloatOrSeq = 0.001,
    *,
    L2: FloatOrSeq = 0.0,
    grad_clip: FloatOrSeq = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    beta1: FloatOrSeq = 0.9,
    beta2: FloatOrSeq = 0.999,
    eps: FloatOrSeq = 1e-8,
    amsgrad: bool = False,
) -> Optimizer:
    """Return `fastopt.Adam` for thinc, which configs call ``"fastopt.Adam.v1"``.

    Parameters
    ----------
    <common>
    <adam>

    <returns>
    >>> fastopt.thinc.Adam(0.1).keyed.lr
    0.1
    """
    common = (learn_rate, L2, grad_clip, L2_is_weight_decay, use_averages)
    numbers = {"b1": beta1, "b2": beta2, "eps": eps}
    return Optimizer(fastopt.Adam, common, numbers, amsgrad=amsgrad, eps_hat=True)


@_documented
def AdamW(
    learn_rate: FloatOrSeq = 0.001,
    *,
    L2: FloatOrSeq = 0.01,
    grad_clip: FloatOrSeq = 1.0,
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
    beta1: FloatOrSeq = 0.9,
    beta2: FloatOrSeq = 0.999,
    eps: FloatOrSeq = 1e-8,
    amsgrad: bool = False,
) -> Optimizer:
    """Return `fastopt.AdamW` for thinc, which configs call ``"fastopt.AdamW.v1"``.

    Parameters
    ----------
    <common>
    <adam>

    <returns>
    >>> fastopt.thinc.AdamW(0.1).keyed.lr
    0.1
    """
    common = (learn_rate, L2, grad_clip, L2_is_weight_decay, use_averages)
    numbers = {"b1": beta1, "b2": beta2, "eps": eps}
    return Optimizer(fastopt.AdamW, common, numbers, amsgrad=amsgrad, eps_hat=True)
