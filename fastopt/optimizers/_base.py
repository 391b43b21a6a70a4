"""What all optimizers share: parameters, groups, states, and the order inside a step.

A subclass adds its formula: which kernel its hyperparameters need, and the coefficients of that kernel.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypedDict
from urllib.parse import quote

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array, aligned_zeros, mapped_zeros
from fastopt._util.validation import check_known
from fastopt.optimizers import _state
from fastopt.optimizers._param_groups import CHECKS, Group, value_at
from fastopt.optimizers._param_tree import Grouped, Structure, param_tree

if TYPE_CHECKING:
    from typing_extensions import Unpack

FILE_NAME = "[]' "  # what names of files may have besides letters, digits and -._~
SEARCH_BLOCK = 2**20  # elements that are looked at together for one that is not finite
ARGUMENTS = {"param": "params", "grad": "grads"}  # what a user of the classes calls these streams


class Common(TypedDict, total=False):
    """The options that every optimizer has."""

    maximize: bool
    decoupled_weight_decay: bool
    max_grad_norm: float | None
    grad_scale: float
    zero_grads: bool
    ema_decay: float | None
    nonfinite: Literal["propagate", "skip", "raise"]
    state_dir: str | os.PathLike[str] | None


GROUP_DEFAULTS = {"maximize": False, "decoupled_weight_decay": False}
STEP_DEFAULTS = {
    "max_grad_norm": None,
    "grad_scale": 1.0,
    "zero_grads": False,
    "ema_decay": None,
    "nonfinite": "propagate",
    "state_dir": None,
}


def _option(name: str, doc: str) -> property:
    return property(lambda self: self._options[name], doc=doc)


class Optimizer:
    """What all optimizers share.

    ``params`` is a ``Flat``, one array, a list or tuple of arrays, a mapping of names to arrays, or a list of group
    dicts: ``[{"params": any of these, "lr": 0.1}, ...]``, each with its own values of the hyperparameters. Arrays are
    float32 or float64, C-contiguous, aligned, writable and apart in memory; they are updated in place and never copied.
    The optimizer goes on with these very arrays: their memory must stay where it is, and a name that is bound to
    another array later (``params["w"] = 2 * params["w"]`` in a dictionary) does not change what it updates.

    In a group or for all: every hyperparameter that is a number may be a function of the step (0 for the first), as
    those of `fastopt.schedules` are; ``weight_decay`` adds weight_decay * p to the gradient, or with
    ``decoupled_weight_decay`` multiplies p by 1 - lr * weight_decay; ``maximize`` ascends.

    For the whole step: the gradients are divided by ``grad_scale`` first (the factor that the loss was multiplied by,
    or the number of accumulated batches); ``max_grad_norm`` then scales them down to this global norm;
    ``nonfinite="skip"`` leaves everything as it is and counts in ``skipped`` if a gradient, as it comes, has an
    infinity or a NaN, ``"raise"`` raises ``FloatingPointError``; ``ema_decay`` keeps a moving average of the
    parameters, which starts as a copy, in ``ema``; ``zero_grads`` leaves the gradients zero, after a skipped step too;
    in ``state_dir``, a folder, the states are memory-mapped .npy files, new ones (``FileExistsError`` else), so that
    they may be larger than memory, as parameters may be that are ``np.memmap``; they stay there when all is done. Each
    is an open file, and a forked child has the same ones, not copies: only one of the two can go on stepping.

    Ranges: lr, weight_decay and eps >= 0 and finite; betas, alpha, momentum and ema_decay in [0, 1); dampening in
    [0, 1]; grad_scale > 0 and finite; max_grad_norm > 0 (infinity measures and scales nothing). Numbers are rounded to
    the type of the arrays: an eps below 1e-45 is zero in float32. Arithmetic on the smallest numbers is slow, so some
    count as zero, in float32 and float64: a state, and a parameter with decoupled decay, below 1.2e-38 and 2.3e-308; a
    state that a rate multiplies (momentum, exp_avg) below 7.9e-31 and 1.5e-300; a gradient that a rule squares, and its
    mean, below 1.4e-17 and 1.9e-152.

    Refused before anything is written: ``TypeError`` for what is not of the kind that is wanted (no array, another
    dtype, no number, an unknown option), ``ValueError`` for what is, but can't be used (another shape, read-only,
    overlapping, out of range).
    """

    rule: ClassVar[str]
    """What ``fastopt.kernels`` and ``fastopt.reference`` call it."""

    param_groups: tuple[Group, ...]
    """The hyperparameters of each group; changes hold from the next step on."""

    max_grad_norm = _option("max_grad_norm", "The global norm that gradients are scaled down to.")
    zero_grads = _option("zero_grads", "Whether a step leaves the gradients zero.")
    ema_decay = _option("ema_decay", "The decay of the moving average.")
    nonfinite = _option("nonfinite", "What happens to gradients that are not finite.")
    state_dir = _option("state_dir", "The folder whose files have the states.")

    def __init__(self, params: Any, hyperparameters: dict[str, Any], **common: Unpack[Common]) -> None:
        owner = type(self).__name__
        hyperparameters = {**hyperparameters, **GROUP_DEFAULTS}
        known = {**hyperparameters, **STEP_DEFAULTS}
        check_known(owner, common, known)
        values = {**known, **common}
        self._options = {name: CHECKS[name](name, values[name]) for name in STEP_DEFAULTS}
        self._grouped = isinstance(params, (list, tuple)) and any(
            isinstance(group, Mapping) and "params" in group for group in params
        )
        self._skipped = 0
        self._parts = 1  # of a batch, as the core was told
        self._news: list[str] = ["new"]  # what has changed since the core was told last
        groups: list[Group] = []
        structures: list[Structure] = []
        for i, group in enumerate(params if self._grouped else [{"params": params}]):
            where = f"params[{i}]" if self._grouped else "params"
            if not isinstance(group, Mapping) or "params" not in group:
                raise TypeError(f"{where} is {group!r}; wants a group dict with 'params', as the others are")
            own = {name: value for name, value in group.items() if name != "params"}
            check_known(f"{owner}, in {where},", own, hyperparameters)
            defaults = {name: values[name] for name in hyperparameters}
            groups.append(Group(owner, where if self._grouped else "", self.kernel, {**defaults, **own}, self._news))
            structures.append(param_tree(group["params"]))
        self.param_groups = tuple(groups)
        self._structure = Grouped(structures) if self._grouped else structures[0]
        self._files: list[Path] = []
        try:
            self._build(structures)
        except BaseException:
            for file in self._files:
                file.unlink(missing_ok=True)
            raise

    # The formula, which a subclass gives

    @staticmethod
    def kernel(h: Mapping[str, Any]) -> str:
        """Name the kernel that these hyperparameters need; raises ``ValueError`` for those that exclude each other."""
        raise NotImplementedError

    @staticmethod
    def fixed(h: Mapping[str, Any]) -> dict[str, float]:
        """Compute the kernel's own coefficients that hold as long as the hyperparameters do."""
        raise NotImplementedError

    @staticmethod
    def moving(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Compute the kernel's own coefficients of one step, counted from 1."""
        raise NotImplementedError

    @classmethod
    def all_fixed(cls, h: Mapping[str, Any], scale: float) -> dict[str, float]:
        """Compute all that ``fixed`` does, and what every rule begins with."""
        return {
            "scale": -scale if h["maximize"] else scale,
            "l2": 0.0 if h["decoupled_weight_decay"] else h["weight_decay"],
            "param_decay": 1.0,
            **cls.fixed(h),
        }

    @classmethod
    def all_moving(cls, groups: Iterable[Mapping[str, Any]], steps: int) -> list[dict[str, float]]:
        """Compute all that ``moving`` does, and the decoupled decay, for each group after so many completed steps."""
        result = []
        for h in groups:
            lr = h["lr"]
            if callable(lr):
                lr = value_at("lr", lr, steps)
            moving = cls.moving(h, lr, steps + 1)
            if h["decoupled_weight_decay"]:
                moving["param_decay"] = 1.0 - lr * h["weight_decay"]
            result.append(moving)
        return result

    # Building

    def _build(self, structures: list[Structure]) -> None:
        """Allocate the states and let the core check and hold all arrays."""
        plan = []
        for i, (group, structure) in enumerate(zip(self.param_groups, structures, strict=True)):
            names = list(_core.KERNELS[group.kernel].operands[2:])
            kernels = [group.kernel]
            if self._options["ema_decay"] is not None:
                kernels.append("ema")
                names.append("ema")
            if self._options["zero_grads"]:
                kernels.append("zero_grad")
            suffixes = [f"[{i}]{own}" if self._grouped else own for own in structure.suffixes]
            looks = [
                _core.inspect_array(array, "params", own) for array, own in zip(structure.arrays, suffixes, strict=True)
            ]
            states = {
                name: [self._zeros(f"{name}{own}", *look) for look, own in zip(looks, suffixes, strict=True)]
                for name in names
            }
            for average, param in zip(states.get("ema", []), structure.arrays, strict=False):
                np.copyto(average, param)
            group.state = MappingProxyType({name: structure.give(arrays) for name, arrays in states.items()})
            tensors = [
                (own, {"param": array, **{name: states[name][t] for name in names}})
                for t, (own, array) in enumerate(zip(suffixes, structure.arrays, strict=True))
            ]
            plan.append((tuple(kernels), tensors))
        self._plan = _core.Plan(plan, ARGUMENTS)

    def _zeros(self, name: str, shape: tuple[int, ...], dtype: str) -> Array:
        """Allocate a state, in memory or in a file."""
        folder = self._options["state_dir"]
        if folder is None:
            return aligned_zeros(shape, dtype)
        file = folder / f"{quote(name, safe=FILE_NAME)}.npy"
        return mapped_zeros(file, shape, dtype, self._files)

    # Stepping

    def step(self, grads: Any = None) -> None:
        """Update the parameters in place from gradients of the same kind and shapes; for groups, a list of them.

        Without gradients, from the mean of those that were accumulated, which begin anew then. Raises, before anything
        is written, ``TypeError`` or ``ValueError`` for gradients or a rate that can't be used, ``FloatingPointError``
        for ``nonfinite="raise"``, and ``OverflowError`` where ``max_grad_norm`` is given and gradients are finite, but
        their norm is beyond float64.
        """
        plan = self._plan
        steps, parts = plan.steps, plan.parts
        arrays = self._gradients(grads, parts)
        if max(parts, 1) != self._parts:
            self._parts = max(parts, 1)
            self._news.append("parts")
        if self._news:
            self._fix()
        coefficients = self.all_moving(self._checked, steps)
        if not plan.step(arrays, coefficients, steps, parts) and self._goes_on(arrays, steps, parts):
            plan.step(arrays, coefficients, steps, parts, True)

    def _gradients(self, grads: Any, parts: int) -> list[Any]:
        """Give the gradients of a step, which are those that were accumulated, if any were."""
        if not parts and grads is not None:
            return self._structure.take(grads, "grads")
        if not parts:
            raise TypeError("grads is None, and nothing was accumulated; wants gradients like the parameters")
        if grads is not None:
            raise ValueError(f"grads are given, but {parts} parts were accumulated; wants step(), or one more part")
        return self._plan.sums or []

    def accumulate(self, grads: Any) -> None:
        """Add the gradients of a part of a batch, so that a large batch fits in a small memory.

        After the parts, which should be of one size, ``step()`` takes their mean: the division by their number is part
        of the step's scale and costs nothing. What is added up is kept in memory like the parameters. With
        ``zero_grads`` these gradients are left zero. Raises as ``step`` does. There is no ``state_dict`` between
        ``accumulate`` and ``step``. What was accumulated is forgotten by ``load_state_dict``, and by a step that is
        skipped or raises because of what the sums are.

        >>> import fastopt, numpy as np
        >>> params = np.zeros(2)
        >>> optimizer = fastopt.SGD(params, lr=1.0)
        >>> for grads in ([1.0, 2.0], [3.0, 6.0]):
        ...     optimizer.accumulate(np.array(grads))
        >>> optimizer.step()
        >>> params
        array([-2., -4.])
        """
        arrays = self._structure.take(grads, "grads")
        sums = self._plan.sums or [
            aligned_zeros(own.shape, own.dtype) for own in map(np.asarray, self._structure.arrays)
        ]
        self._plan.accumulate(arrays, sums, self._options["zero_grads"])

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} can't be copied or pickled, for it holds the memory of its parameters; "
            "make a new one and give it the state_dict() of this"
        )

    def _fix(self) -> None:
        """Give the core what holds until hyperparameters or ``grad_scale`` change, by themselves or by the user."""
        del self._news[:]  # first, for what changes meanwhile is news again
        try:
            self._tell_core()
        except BaseException:
            self._news.append("not told")
            raise
        if any(group.varies for group in self.param_groups):
            self._news.append("schedule")

    def _tell_core(self) -> None:
        options = self._options
        grad_scale, decay = options["grad_scale"] * self._parts, options["ema_decay"] or 0.0
        self._plan.set_norm(grad_scale, options["max_grad_norm"], options["nonfinite"] != "propagate")
        stages = {"ema_decay": decay, "one_minus_ema_decay": 1.0 - decay, "zero": 0.0}
        self._checked = [group.at(self.steps) for group in self.param_groups]
        for i, h in enumerate(self._checked):
            self._plan.set(i, {**self.all_fixed(h, 1.0 / grad_scale), **stages})

    def _first_nonfinite(self, arrays: list[Any]) -> str | None:
        """Name the first gradient element that is an infinity or a NaN."""
        for suffix, thing in self._structure.named(arrays):
            array = np.asarray(thing)
            for begin in range(0, array.size, SEARCH_BLOCK):
                bad = np.flatnonzero(~np.isfinite(array.ravel()[begin : begin + SEARCH_BLOCK]))
                if bad.size:
                    where = tuple(int(i) for i in np.unravel_index(begin + bad[0], array.shape))
                    return f"grads{suffix} has {array[where]} at {where}"
        return None

    def _goes_on(self, arrays: list[Any], steps: int, parts: int) -> bool:
        """Decide what to do about a norm that is not finite, before anything is written; False: skip the step."""
        bad, mode = self._first_nonfinite(arrays), self._options["nonfinite"]
        finite = math.isfinite(self._options["max_grad_norm"] or math.inf)
        if (bad is None and not finite) or (bad and mode == "propagate"):
            return True
        self._plan.forget(steps, parts)
        if bad is None:  # only the sum of squares is beyond float64
            raise OverflowError("grads have a norm beyond float64, which can't be scaled down to max_grad_norm")
        if mode == "raise":
            raise FloatingPointError(f"{bad}; wants finite numbers (nonfinite='raise')")
        self._skipped += 1
        if self._options["zero_grads"]:  # or what made this step fail would be added to the next gradients
            for array in arrays:
                np.asarray(array)[...] = 0
        return False

    # Looking

    @property
    def steps(self) -> int:
        """Completed steps."""
        return self._plan.steps

    @property
    def grad_norm(self) -> float | None:
        """The global norm of the gradients, over ``grad_scale``, that the last step saw; None where it saw none."""
        return self._plan.norm

    @property
    def skipped(self) -> int:
        """Steps that were skipped because a gradient was not finite."""
        return self._skipped

    @property
    def lr(self) -> float:
        """The learning rate of the next step, of the first group."""
        return float(value_at("lr", self.param_groups[0]["lr"], self.steps))

    @property
    def grad_scale(self) -> float:
        """What the gradients are divided by; may be set between steps."""
        return float(self._options["grad_scale"])

    @grad_scale.setter
    def grad_scale(self, value: float) -> None:
        self._options["grad_scale"] = CHECKS["grad_scale"]("grad_scale", value)
        self._news.append("grad_scale")

    def execution_info(self) -> dict[str, Any]:
        """Tell how steps run: how many threads were chosen, and what was measured to choose it.

        ``tensors``, ``elements`` and ``chunks`` of the step; the instruction set ``isa``; the number of ``threads``,
        ``most_threads`` that it may be, and whether they stay ``awake`` between steps; how many ``looks`` there were at
        another choice, and for both choices that were ``measured`` in the last the seconds of the ``step`` and of the
        ``rest`` of the iteration, since the step before.

        >>> import fastopt, numpy as np
        >>> fastopt.SGD(np.zeros(1000)).execution_info()["threads"]
        1
        """
        return self._plan.info()

    @property
    def state(self) -> Any:
        """The states by name, each like the parameters; for groups, a list of that."""
        states = [group.state for group in self.param_groups]
        return states if self._grouped else states[0]

    @property
    def ema(self) -> Any:
        """The moving average of the parameters, like these; None without ``ema_decay``."""
        if self._options["ema_decay"] is None:
            return None
        averages = [group.state["ema"] for group in self.param_groups]
        return averages if self._grouped else averages[0]

    def __repr__(self) -> str:
        groups = "; ".join(", ".join(f"{k}={v!r}" for k, v in group.items()) for group in self.param_groups)
        return f"{type(self).__name__}({groups}; steps={self.steps})"

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """Give a copy of all that changes from step to step: plain numbers, and arrays in lists and dictionaries.

        A hyperparameter that is a function is left out but for the memory of a `Plateau`, and so are the options of
        the whole step (but ``grad_scale``): make the new optimizer with the same ones.
        """
        with self._plan:
            return _state.state_of(self, np.array)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave; everything is checked before the first byte changes.

        Raises ``ValueError`` or ``TypeError`` for what is missing, unknown, out of range, or of another shape or dtype.
        """
        _state.take_over(self, _state.checked_state(self, "state_dict", state_dict))
