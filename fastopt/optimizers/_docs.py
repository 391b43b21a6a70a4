r"""The documentation that all optimizers share, inserted into the docstring of each class.

A line of a class's docstring that consists of a marker, for example ``<lr>``, is replaced by the text below the same
marker here.

<params>
params : Flat, ndarray, nested lists, tuples and mappings of ndarray, or list of group dicts
    Arrays to update in place: float32 or float64, contiguous with the axes in any order (C, Fortran, channels last),
    aligned, writable, not overlapping. Anything that supports the buffer protocol or ``__array_interface__`` works. The
    arrays are never copied: write to them with ``params["w"][:] = ...``. If a list or mapping later contains another
    array, for example after ``params["w"] = ...``, the next step raises ``ValueError``. Group dicts,
    ``[{"params": ..., "lr": 0.1}, ...]``, have their own values of the hyperparameters.

    <lr>
    Learning rate :math:`\eta`, >= 0 and finite. Every hyperparameter that is a number may be a callable, a schedule of
    `fastopt.schedules` for example: it receives the number of completed steps (0 for the first step) and
    returns the value.

    <weight_decay>
    Decay strength, >= 0 and finite: ``weight_decay * p`` is added to the gradient (L2), or with
    ``decoupled_weight_decay`` the parameter is multiplied by ``1 - lr * weight_decay``.

    <decoupled_weight_decay>
    Decay the parameters directly instead of adding the decay to the gradient. Can differ between groups.

<options>
maximize : bool, default False
    Ascend instead of descend. Can differ between groups.
max_grad_norm : float, optional
    Scale the gradients so that their global 2-norm is at most this value, > 0. Infinity computes ``grad_norm`` and
    scales nothing.
grad_scale : float, default 1.0
    Divide the gradients by this number, > 0 and finite: the factor by which the loss was multiplied.
zero_grads : bool, default False
    Set the gradients to zero after the step, also after a skipped one, and also those that ``skip`` leaves out.
convert_grads : bool, default False
    Copy gradients that have another dtype or order of axes than their parameters, or gaps, into arrays that are
    allocated once; otherwise they raise. Lists of real numbers are converted, too. Values beyond float32 become
    infinite.
ema_decay : float or callable, optional
    Keep an exponential moving average of the parameters with this decay, in [0, 1), in ``ema``. It starts as a copy. A
    callable receives the number of completed steps; unlike a schedule of a hyperparameter, it has no state to save.
nonfinite : {"propagate", "skip", "raise"}, default "propagate"
    What to do if a gradient is infinite or NaN. "propagate": update as usual; with ``max_grad_norm``, one NaN then
    reaches every parameter. "skip": change nothing and count the step in ``skipped``. "raise": change nothing and raise
    ``FloatingPointError``.
state_dir : path, optional
    Existing folder in which the states are created as memory-mapped ``.npy`` files, so that they may be larger than
    memory. The files must not exist yet, and are kept after the program has ended; on Windows, also if the optimizer
    cannot be built. A forked child shares them with its parent, so only one of the two may continue.

Attributes
----------
param_groups : tuple of mappings
    The hyperparameters of each group; ``optimizer.param_groups[0]["lr"] = 0.01`` holds from the next step on.
lr : float
    Learning rate of the next step, of the first group; setting it sets that of all groups.
steps, skipped : int
    Numbers of completed steps and of steps skipped because a gradient was not finite.
micro_steps : int
    Number of gradients passed to ``step`` and ``accumulate``, those of skipped steps included. It changes between the
    parts of a batch, where ``steps`` does not: use it for the random numbers of dropout and augmentation.
grad_scale, max_grad_norm : float
    Divisor and largest norm of the gradients, which may be set between steps. The norm can be None.
grad_norm : float or None
    Global norm of the last step's gradients, if it was computed.
state : mapping
    States by name, each with the structure of ``params``; for groups, a list of these.
ema : same structure as ``params``, or None
    Moving average of the parameters.

Raises
------
TypeError
    If an argument has the wrong type or an array the wrong dtype, or an option is unknown. Nothing is modified.
ValueError
    If an argument is out of range, or an array has the wrong shape, is not writable, or overlaps another one in memory.
    Nothing is modified.
OSError
    If the files of ``state_dir`` cannot be created, or exist already.

<notes>
A gradient of None leaves its array out of a step: parameter, states and average keep their values, and bias
corrections count an array's own steps, as in PyTorch. Schedules and other functions receive the number of steps of the
optimizer.

The stages of a step run in this order, each on a cache-sized chunk of the arrays: divide the gradient by
``grad_scale``, scale it to ``max_grad_norm``, negate it for ``maximize``, add the coupled decay, update with the
decoupled decay, update the moving average, set the gradient to zero. Clipping and the check of ``nonfinite`` cost one
extra pass over the gradients, before the update.

Hyperparameters are rounded to the type of the arrays: an ``eps`` below 1e-45 is zero in float32. Denormal numbers, and
numbers that soon become denormal, make arithmetic slow. They are too small to matter in training, and become zero:

======================================================  =============  =============  =================
magnitude below                                         float32        float64        when
======================================================  =============  =============  =================
state, or parameter under decoupled decay               3.8e-37        7.1e-307       every 32nd step
``momentum_buffer``, ``exp_avg``                        2.5e-29        4.8e-299       every 32nd step
gradient that the rule squares, ``grad_avg``            1.1e-16        1.5e-151       every step
======================================================  =============  =============  =================

The average of ``ema_decay`` is set to zero below 1.2e-38 and 2.3e-308 in every step.
"""

from __future__ import annotations

import re

MARKER = re.compile(r"^ *<(\w+)>$", re.MULTILINE)


def insert_shared_sections(doc: str, shared_text: str | None = __doc__) -> str:
    """Return a docstring with texts of ``shared_text`` in place of the markers."""
    _, *shared = MARKER.split(shared_text or "")  # a name, its text, the next name, ...; nothing with python -OO
    texts = {name: text.strip("\n") for name, text in zip(shared[::2], shared[1::2], strict=True)}
    return MARKER.sub(lambda match: texts.get(match[1], match[0]), doc)
