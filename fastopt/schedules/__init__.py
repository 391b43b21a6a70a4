r"""Schedules: functions of the step for the learning rate or any other hyperparameter.

A schedule maps a step number, 0 for the first step, to a value; an array of steps maps to an array of values. All
schedules but `Plateau` are immutable and have no state, so a resumed run needs only its number of steps: they compare
equal if their arguments are equal, and they can be hashed and pickled. An optimizer saves the state of a `Plateau`,
and of your own `StatefulSchedule`, in its ``state_dict()``.

Arguments have the names that Optax uses.

Examples
--------
>>> import fastopt
>>> import numpy as np
>>> from fastopt.schedules import Cosine, Linear, Warmup
>>> schedule = Warmup(Cosine(0.1, decay_steps=1000), warmup_steps=100)
>>> schedule(0), schedule(50), schedule(100), schedule(600)
(0.0, 0.05, 0.1, 0.05)
>>> optimizer = fastopt.SGD(np.zeros(3), lr=schedule, momentum=Linear(0.5, 0.9, transition_steps=500))
"""

from fastopt.schedules._base import Schedule, StatefulSchedule
from fastopt.schedules._compose import Join, Warmup
from fastopt.schedules._cyclic import CosineRestarts, Cyclic, OneCycle, WarmupStableDecay
from fastopt.schedules._decay import (
    Constant,
    Cosine,
    Exponential,
    InverseTimeDecay,
    Linear,
    PiecewiseConstant,
    Polynomial,
    StepDecay,
)
from fastopt.schedules._plateau import Plateau
from fastopt.schedules._plot import plot_schedule

__all__ = ["Constant", "Cosine", "CosineRestarts", "Cyclic", "Exponential", "InverseTimeDecay", "Join", "Linear"]
__all__ += ["OneCycle", "PiecewiseConstant", "Plateau", "Polynomial", "Schedule", "StatefulSchedule", "StepDecay"]
__all__ += ["Warmup", "WarmupStableDecay", "plot_schedule"]

for _name in __all__:
    if isinstance(globals()[_name], type):  # a pickle must not name a private module, which may change
        globals()[_name].__module__ = __name__
