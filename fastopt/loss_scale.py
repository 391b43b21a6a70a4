"""Dynamic loss scaling for gradients in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastopt._util import validation
from fastopt._util.records import attributes_repr
from fastopt.optimizers._base import Optimizer

__all__ = ["DynamicLossScale"]

MIN_SCALE, MAX_SCALE = 2.0**-126, 2.0**127  # the exponents of normal float32 numbers

_scale = validation.number("a number from 2**-126 to 2**127", lambda x: MIN_SCALE <= x <= MAX_SCALE)
_growth_factor = validation.number("a finite number >= 1", lambda x: 1 <= x < float("inf"))
_backoff_factor = validation.number("a number > 0 and <= 1", lambda x: 0 < x <= 1)


class DynamicLossScale:
    r"""Dynamic loss scaling: the largest scale at which gradients in half precision do not overflow.

    Half precision rounds gradients below 3e-8 to zero. Multiply the loss by `scale` before the backward pass: the
    optimizer divides the gradients by it again, exactly if it is a power of two. Call `update` after each step. If the
    scaled gradients overflowed, the optimizer has skipped the step and the scale is multiplied by ``backoff_factor``;
    after ``growth_interval`` steps in a row without overflow it is multiplied by ``growth_factor``.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer with ``nonfinite="skip"``. Its ``grad_scale`` is the scale.
    init_scale : float, default 2**16
        The scale at the start, from 2**-126 to 2**127, as it is at all times.
    growth_factor : float, default 2.0
        Factor of a growth, >= 1 and finite.
    backoff_factor : float, default 0.5
        Factor after an overflow, > 0 and <= 1.
    growth_interval : int, default 2000
        Number of steps in a row without overflow after which the scale grows, >= 1.

    Attributes
    ----------
    good_steps : int
        Number of steps since the scale last changed.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range, or the optimizer does not have ``nonfinite="skip"``.

    Notes
    -----
    The names and rules are those of PyTorch's ``GradScaler``, with these differences: there is no ``unscale_``, because
    the step unscales and clips in one pass; the scale is bounded, and it is a float64.

    The scale is part of the optimizer's state, so loading a state into the optimizer sets it; `good_steps` is kept.
    `fastopt.find_lr` sets back both.

    References
    ----------
    .. [1] P. Micikevicius et al., "Mixed Precision Training", ICLR 2018. arXiv:1710.03740.

    Examples
    --------
    >>> import fastopt
    >>> import numpy as np
    >>> params = np.zeros(2, np.float32)
    >>> optimizer = fastopt.SGD(params, lr=1.0, nonfinite="skip")
    >>> loss_scale = fastopt.DynamicLossScale(optimizer, init_scale=2.0**15)
    >>> for _ in range(2):
    ...     with np.errstate(over="ignore"):  # the gradients of a model in half precision
    ...         grads = np.array([1e-4, 3.0], np.float16) * np.float16(loss_scale.scale)
    ...     optimizer.step(grads.astype(np.float32))
    ...     loss_scale.update()
    >>> optimizer.skipped, loss_scale.scale, params.round(4)
    (1, 16384.0, array([-1.e-04, -3.e+00], dtype=float32))
    """

    good_steps: int
    _counts: tuple[int, int]  # steps and skipped steps of the optimizer at the last update or load

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        validation.check_instance("optimizer", optimizer, Optimizer)
        if optimizer.nonfinite != "skip":
            raise ValueError(f"optimizer must have nonfinite='skip', got nonfinite={optimizer.nonfinite!r}")
        self.optimizer = optimizer
        self.init_scale = _scale("init_scale", init_scale)
        self.growth_factor = _growth_factor("growth_factor", growth_factor)
        self.backoff_factor = _backoff_factor("backoff_factor", backoff_factor)
        self.growth_interval = validation.positive_count("growth_interval", growth_interval)
        self._reset(self.init_scale, 0)
        optimizer._loss_scales.add(self)  # so that load_state_dict and find_lr keep the counts right

    __repr__ = attributes_repr

    @property
    def scale(self) -> float:
        """The factor by which to multiply the loss: the ``grad_scale`` of the optimizer."""
        return self.optimizer.grad_scale

    def update(self) -> None:
        """Record the steps since the last call, and change the scale if it is time to.

        Raises
        ------
        RuntimeError
            If another thread uses the optimizer. Nothing is changed.
        """
        steps, skipped = self.optimizer.steps, self.optimizer.skipped
        good_steps = self.good_steps + steps - self._counts[0]
        if skipped > self._counts[1]:
            self._multiply(self.backoff_factor)
        elif good_steps >= self.growth_interval:
            self._multiply(self.growth_factor)
        else:
            self.good_steps, self._counts = good_steps, (steps, skipped)

    def _multiply(self, factor: float) -> None:
        self._reset(min(max(self.scale * factor, MIN_SCALE), MAX_SCALE), 0)

    def _reset(self, scale: float, good_steps: int) -> None:
        self.optimizer.grad_scale = scale
        self.good_steps = good_steps
        self._counts = self.optimizer.steps, self.optimizer.skipped

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without the arguments.

        Returns
        -------
        dict
            ``scale`` and ``good_steps`` as numbers, which `fastopt.save` can store as metadata.
        """
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state that ``state_dict`` returned, before or after that of the optimizer.

        Parameters
        ----------
        state_dict : dict
            The state.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value is invalid. Nothing is changed.
        RuntimeError
            If another thread uses the optimizer.
        """
        checks = {"scale": _scale, "good_steps": validation.count}
        self._reset(**validation.check_state("state_dict", state_dict, checks))
