"""Schedules that go from one value to another: decay over time, polynomials and half a cosine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fastopt._util.validation import count, finite, finite_positive, non_negative, positive_count
from fastopt.schedules._base import FrozenSchedule, cosine, linear, scaled_power


class Constant(FrozenSchedule):
    r"""The same value at every step: :math:`\eta_t = \eta`.

    Parameters
    ----------
    value : float
        Finite value :math:`\eta`.

    Raises
    ------
    TypeError
        If the argument has the wrong type.
    ValueError
        If the argument is out of range.

    Notes
    -----
    Equivalent to ``optax.constant_schedule(value)``. A plain number is faster as a hyperparameter; this class is meant
    for parts of a `Join` or `Warmup`.

    Examples
    --------
    >>> from fastopt.schedules import Constant
    >>> Constant(0.1)(1000)
    0.1
    """

    def __init__(self, value: float) -> None:
        self.value = finite("value", value)

    def at(self, step: int) -> float:
        return self.value


class Exponential(FrozenSchedule):
    r"""Exponential decay.

    .. math:: \eta_t = \eta_0\, \gamma^{t / k}

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` at step 0.
    decay_rate : float
        Factor :math:`\gamma`, > 0 and finite.
    transition_steps : int, default 1
        Number k of steps in which the value is multiplied by ``decay_rate`` once, >= 1.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    See Also
    --------
    StepDecay : The same decay in steps.

    Notes
    -----
    Equivalent to ``optax.exponential_decay(init_value, transition_steps, decay_rate)``, Keras's
    ``ExponentialDecay(init_value, transition_steps, decay_rate)`` and, with ``transition_steps=1``, PyTorch's
    ``ExponentialLR(optimizer, decay_rate)``. Note the order of the arguments. The form :math:`\eta_0\, e^{-\lambda t}`
    has ``decay_rate=math.exp(-lambda_)``. Values beyond the range of a float are infinities.

    Examples
    --------
    >>> from fastopt.schedules import Exponential
    >>> Exponential(0.1, decay_rate=0.5, transition_steps=10)(20)
    0.025
    """

    def __init__(self, init_value: float, decay_rate: float, transition_steps: int = 1) -> None:
        self.init_value = finite("init_value", init_value)
        self.decay_rate = finite_positive("decay_rate", decay_rate)
        self.transition_steps = positive_count("transition_steps", transition_steps)

    def at(self, step: int) -> float:
        return scaled_power(self.init_value, self.decay_rate, step / self.transition_steps)


class StepDecay(FrozenSchedule):
    r"""Multiply a value by a factor every ``step_size`` steps.

    .. math:: \eta_t = \eta_0\, \gamma^{\lfloor t / k \rfloor}

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` at step 0.
    step_size : int
        Number k of steps between two reductions, >= 1.
    decay_rate : float, default 0.1
        Factor :math:`\gamma`, > 0 and finite.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    See Also
    --------
    PiecewiseConstant : Factors at any steps.

    Notes
    -----
    Equivalent to PyTorch's ``StepLR(optimizer, step_size, decay_rate)``, and to ``exponential_decay`` in Optax and
    ``ExponentialDecay`` in Keras with ``staircase=True``.

    Examples
    --------
    >>> from fastopt.schedules import StepDecay
    >>> StepDecay(0.1, step_size=30, decay_rate=0.5)([0, 29, 30, 60])
    array([0.1  , 0.1  , 0.05 , 0.025])
    """

    def __init__(self, init_value: float, step_size: int, decay_rate: float = 0.1) -> None:
        self.init_value = finite("init_value", init_value)
        self.step_size = positive_count("step_size", step_size)
        self.decay_rate = finite_positive("decay_rate", decay_rate)

    def at(self, step: int) -> float:
        return scaled_power(self.init_value, self.decay_rate, step // self.step_size)


class PiecewiseConstant(FrozenSchedule):
    r"""Multiply a value by a factor at each of several steps.

    .. math:: \eta_t = \eta_0 \prod_{b \le t} s_b

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` before the first boundary.
    boundaries_and_scales : mapping of int to float, or sequence of (int, float)
        Steps b, >= 0 and distinct, and the finite factors :math:`s_b` by which the value is multiplied from there on.
        Without any, the value is constant.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range, or a step occurs twice.

    Notes
    -----
    Equivalent to ``optax.piecewise_constant_schedule(init_value, boundaries_and_scales)``, where factors must be >= 0.
    PyTorch's ``MultiStepLR`` has the same factor at all boundaries. Keras's ``PiecewiseConstantDecay`` takes values
    instead of factors, and changes one step later.

    Examples
    --------
    >>> from fastopt.schedules import PiecewiseConstant
    >>> PiecewiseConstant(1.0, {100: 0.1, 200: 0.5})([99, 100, 200])
    array([1.  , 0.1 , 0.05])
    """

    def __init__(
        self, init_value: float, boundaries_and_scales: Mapping[int, float] | Sequence[tuple[int, float]]
    ) -> None:
        name, value = "boundaries_and_scales", boundaries_and_scales
        try:
            pairs = [(step, scale) for step, scale in (value.items() if isinstance(value, Mapping) else value)]
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a mapping of steps to factors, got {value!r}") from None
        pairs = sorted((count(f"step in {name}", step), finite(f"{name}[{step!r}]", scale)) for step, scale in pairs)
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"{name} must have distinct steps, got {value!r}")
        self.init_value = finite("init_value", init_value)
        self.boundaries_and_scales = tuple(pairs)

    def at(self, step: int) -> float:
        value = self.init_value
        for boundary, scale in self.boundaries_and_scales:
            if step >= boundary:
                value *= scale
        return value


class InverseTimeDecay(FrozenSchedule):
    r"""Decay with the inverse of time.

    .. math:: \eta_t = \frac{\eta_0}{1 + \lambda t}

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` at step 0.
    decay_rate : float
        Rate :math:`\lambda` per step, >= 0 and finite.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    Equivalent to Keras's ``InverseTimeDecay(init_value, 1, decay_rate)``; for other ``decay_steps``, divide the rate by
    them. Optax and PyTorch have no such schedule.

    Examples
    --------
    >>> from fastopt.schedules import InverseTimeDecay
    >>> InverseTimeDecay(0.1, decay_rate=0.5)(2)
    0.05
    """

    def __init__(self, init_value: float, decay_rate: float) -> None:
        self.init_value = finite("init_value", init_value)
        self.decay_rate = non_negative("decay_rate", decay_rate)

    def at(self, step: int) -> float:
        return self.init_value / (1.0 + self.decay_rate * step)


class Polynomial(FrozenSchedule):
    r"""Polynomial transition from one value to another in T steps, constant afterwards.

    .. math:: \eta_t = \eta_T + (\eta_0 - \eta_T) (1 - \min(t, T) / T)^p

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` at step 0.
    end_value : float
        Finite value :math:`\eta_T` at step T and later.
    power : float
        Exponent p, > 0 and finite. With 1 the transition is linear, as in `Linear`.
    transition_steps : int
        Number T of steps of the transition, >= 1.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    Equivalent to ``optax.polynomial_schedule(init_value, end_value, power, transition_steps)``. PyTorch's
    ``PolynomialLR(optimizer, transition_steps, power)`` ends at 0; Keras's ``PolynomialDecay`` has defaults for the end
    and the power.

    Examples
    --------
    >>> from fastopt.schedules import Polynomial
    >>> Polynomial(1.0, 0.0, power=2, transition_steps=10)(5)
    0.25
    """

    def __init__(self, init_value: float, end_value: float, power: float, transition_steps: int) -> None:
        self.init_value = finite("init_value", init_value)
        self.end_value = finite("end_value", end_value)
        self.power = finite_positive("power", power)
        self.transition_steps = positive_count("transition_steps", transition_steps)

    def at(self, step: int) -> float:
        remaining = 1.0 - min(step / self.transition_steps, 1.0)
        return self.end_value + (self.init_value - self.end_value) * math.pow(remaining, self.power)


class Linear(FrozenSchedule):
    r"""Linear transition from one value to another in T steps, constant afterwards.

    .. math:: \eta_t = \eta_0 + (\eta_T - \eta_0) \min(t, T) / T

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` at step 0.
    end_value : float
        Finite value :math:`\eta_T` at step T and later.
    transition_steps : int
        Number T of steps of the transition, >= 1.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    Equivalent to ``optax.linear_schedule(init_value, end_value, transition_steps)``. PyTorch's ``LinearLR`` takes both
    ends as factors of the optimizer's rate. The values at both ends are exact.

    Examples
    --------
    >>> from fastopt.schedules import Linear
    >>> Linear(0.0, 1.0, transition_steps=4)([0, 1, 2, 3, 4, 5])
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.  ])
    """

    def __init__(self, init_value: float, end_value: float, transition_steps: int) -> None:
        self.init_value = finite("init_value", init_value)
        self.end_value = finite("end_value", end_value)
        self.transition_steps = positive_count("transition_steps", transition_steps)

    def at(self, step: int) -> float:
        return linear(self.init_value, self.end_value, step / self.transition_steps)


class Cosine(FrozenSchedule):
    r"""Decay along half a period of a cosine in T steps, constant afterwards.

    .. math:: \eta_t = \eta_T + \tfrac12 (\eta_0 - \eta_T) (1 + \cos(\pi \min(t, T) / T))

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` at step 0.
    decay_steps : int
        Number T of steps of the decay, >= 1.
    end_value : float, default 0.0
        Finite value :math:`\eta_T` at step T and later.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    See Also
    --------
    CosineRestarts : The same decay, repeated.
    Warmup : Combine it with a linear warmup.

    Notes
    -----
    ``cosine_decay_schedule`` in Optax and ``CosineDecay`` in Keras take ``alpha = end_value / init_value`` instead of
    ``end_value``. PyTorch's ``CosineAnnealingLR(optimizer, decay_steps, end_value)`` rises again after T steps. The
    values at both ends are exact.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
       arXiv:1608.03983.

    Examples
    --------
    >>> from fastopt.schedules import Cosine
    >>> Cosine(0.2, decay_steps=100)([0, 50, 100, 200])
    array([0.2, 0.1, 0. , 0. ])
    """

    def __init__(self, init_value: float, decay_steps: int, end_value: float = 0.0) -> None:
        self.init_value = finite("init_value", init_value)
        self.decay_steps = positive_count("decay_steps", decay_steps)
        self.end_value = finite("end_value", end_value)

    def at(self, step: int) -> float:
        return cosine(self.init_value, self.end_value, step / self.decay_steps)
