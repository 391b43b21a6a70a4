"""Schedules that rise and fall, once or repeatedly."""

from __future__ import annotations

from fastopt._util.validation import count, finite, finite_positive, fraction, optional, positive_count
from fastopt.schedules._base import FrozenSchedule, cosine, linear


class CosineRestarts(FrozenSchedule):
    r"""Decay along half a period of a cosine, repeatedly, with periods that may grow.

    .. math:: \eta_t = \eta_T + \tfrac12 (\eta_0 - \eta_T) (1 + \cos(\pi\, t_i / T_i)), \quad T_i = T\, m^i

    where :math:`t_i` is the number of steps since the start of period i.

    Parameters
    ----------
    init_value : float
        Finite value :math:`\eta_0` at the start of each period.
    decay_steps : int
        Number T of steps of the first period, >= 1.
    multiplier : int, default 1
        Factor m from the length of one period to the length of the next, >= 1.
    end_value : float, default 0.0
        Finite value :math:`\eta_T` that the end of each period approaches.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    Equivalent to PyTorch's ``CosineAnnealingWarmRestarts(optimizer, decay_steps, multiplier, end_value)``. Keras's
    ``CosineDecayRestarts`` has ``multiplier=2.0`` by default; ``optax.sgdr_schedule`` takes a list of periods.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
       arXiv:1608.03983.

    Examples
    --------
    >>> from fastopt.schedules import CosineRestarts
    >>> CosineRestarts(0.2, decay_steps=10, multiplier=2)([0, 5, 10, 20, 30])
    array([0.2, 0.1, 0.2, 0.1, 0.2])
    """

    def __init__(self, init_value: float, decay_steps: int, multiplier: int = 1, end_value: float = 0.0) -> None:
        self.init_value = finite("init_value", init_value)
        self.decay_steps = positive_count("decay_steps", decay_steps)
        self.multiplier = positive_count("multiplier", multiplier)
        self.end_value = finite("end_value", end_value)

    def at(self, step: int) -> float:
        period = self.decay_steps
        if self.multiplier == 1:
            step %= period
        while step >= period:
            step -= period
            period *= self.multiplier
        return cosine(self.init_value, self.end_value, step / period)


class OneCycle(FrozenSchedule):
    r"""The 1cycle policy: rise to a peak and fall to almost zero in T steps, both along half a period of a cosine.

    The value goes from ``peak_value / div_factor`` to ``peak_value`` in the first ``pct_start * T`` steps, then to
    ``peak_value / div_factor / final_div_factor`` at step T, and is constant afterwards.

    Parameters
    ----------
    transition_steps : int
        Number T of steps of the cycle, >= 1.
    peak_value : float
        Finite value at the peak.
    pct_start : float, default 0.3
        Fraction of the steps before the peak, in [0, 1].
    div_factor : float, default 25.0
        Ratio of the peak to the value at step 0, > 0 and finite.
    final_div_factor : float, default 1e4
        Ratio of the value at step 0 to the value at step T, > 0 and finite.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    ``optax.cosine_onecycle_schedule`` has the same arguments, rounds ``pct_start * T`` down to a whole step and
    requires ``pct_start`` < 1; here the peak may lie between two steps. PyTorch's ``OneCycleLR`` reaches the peak and
    the end one step earlier, and also varies the momentum by default; here, pass a second schedule for that.

    References
    ----------
    .. [1] L. N. Smith and N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
       Rates", 2018. arXiv:1708.07120.

    Examples
    --------
    >>> from fastopt.schedules import OneCycle
    >>> OneCycle(100, peak_value=1.0, pct_start=0.25, div_factor=4, final_div_factor=10)([0, 25, 100])
    array([0.25 , 1.   , 0.025])
    """

    def __init__(
        self,
        transition_steps: int,
        peak_value: float,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.transition_steps = positive_count("transition_steps", transition_steps)
        self.peak_value = finite("peak_value", peak_value)
        self.pct_start = fraction("pct_start", pct_start)
        self.div_factor = finite_positive("div_factor", div_factor)
        self.final_div_factor = finite_positive("final_div_factor", final_div_factor)

    def at(self, step: int) -> float:
        start, peak = self.peak_value / self.div_factor, self.pct_start * self.transition_steps
        if step < peak:
            return cosine(start, self.peak_value, step / peak)
        remaining = max(self.transition_steps - peak, 1e-300)  # not 0: with pct_start=1 the peak is the last step
        return cosine(self.peak_value, start / self.final_div_factor, (step - peak) / remaining)


class Cyclic(FrozenSchedule):
    """Triangular cycles: rise linearly to a peak and fall linearly back, repeatedly.

    Parameters
    ----------
    base_value : float
        Finite value at the start and end of each cycle.
    peak_value : float
        Finite value at the peak.
    step_size_up : int
        Number of steps to the peak, >= 1.
    step_size_down : int, optional
        Number of steps from the peak back, >= 1; by default ``step_size_up``.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    Equivalent to PyTorch's ``CyclicLR(optimizer, base_value, peak_value, step_size_up, step_size_down)`` with
    ``mode="triangular"``, which also varies the momentum by default. Optax and Keras have no such schedule.

    References
    ----------
    .. [1] L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017. arXiv:1506.01186.

    Examples
    --------
    >>> from fastopt.schedules import Cyclic
    >>> Cyclic(0.1, 0.5, step_size_up=2)([0, 1, 2, 3, 4, 5])
    array([0.1, 0.3, 0.5, 0.3, 0.1, 0.3])
    """

    def __init__(
        self, base_value: float, peak_value: float, step_size_up: int, step_size_down: int | None = None
    ) -> None:
        self.base_value = finite("base_value", base_value)
        self.peak_value = finite("peak_value", peak_value)
        self.step_size_up = positive_count("step_size_up", step_size_up)
        self.step_size_down = optional(positive_count)("step_size_down", step_size_down)

    def at(self, step: int) -> float:
        up, down = self.step_size_up, self.step_size_down or self.step_size_up
        step %= up + down
        return linear(self.base_value, self.peak_value, step / up if step <= up else 1.0 - (step - up) / down)


class WarmupStableDecay(FrozenSchedule):
    """Trapezoid: linear warmup from 0, a constant phase, and linear decay; constant afterwards.

    Parameters
    ----------
    peak_value : float
        Finite value of the constant phase.
    warmup_steps : int
        Number of steps of the warmup, >= 0.
    stable_steps : int
        Number of steps of the constant phase, >= 0.
    decay_steps : int
        Number of steps of the decay, >= 1.
    end_value : float, default 0.0
        Finite value after the decay.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    Optax, PyTorch and Keras build this from parts, as `Join` does: ``Join([Linear(0, peak, w), Constant(peak),
    Linear(peak, end, d)], [w, w + s])``.

    References
    ----------
    .. [1] S. Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training
       Strategies", 2024. arXiv:2404.06395.

    Examples
    --------
    >>> from fastopt.schedules import WarmupStableDecay
    >>> WarmupStableDecay(1.0, warmup_steps=2, stable_steps=3, decay_steps=4)([0, 1, 2, 5, 6, 7, 8, 9])
    array([0.  , 0.5 , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])
    """

    def __init__(
        self, peak_value: float, warmup_steps: int, stable_steps: int, decay_steps: int, end_value: float = 0.0
    ) -> None:
        self.peak_value = finite("peak_value", peak_value)
        self.warmup_steps = count("warmup_steps", warmup_steps)
        self.stable_steps = count("stable_steps", stable_steps)
        self.decay_steps = positive_count("decay_steps", decay_steps)
        self.end_value = finite("end_value", end_value)

    def at(self, step: int) -> float:
        if step < self.warmup_steps:
            return linear(0.0, self.peak_value, step / self.warmup_steps)
        decayed = max(step - self.warmup_steps - self.stable_steps, 0)
        return linear(self.peak_value, self.end_value, decayed / self.decay_steps)
