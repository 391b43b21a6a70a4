"""The base class of all optimizers: parameters, groups, states, and the order inside a step.

A subclass adds its formula: the kernel that its hyperparameters need, and the coefficients of that kernel.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypedDict
from weakref import WeakSet

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array, aligned_zeros, mapped_zeros
from fastopt._util.validation import check_known
from fastopt.optimizers import _state
from fastopt.optimizers._docs import insert_shared_sections
from fastopt.optimizers._param_groups import CHECKS, Group, hyperparameter_at
from fastopt.optimizers._param_tree import ParamGroups, ParamTree, param_tree

if TYPE_CHECKING:
    from typing_extensions import Unpack

SAFE_IN_FILE_NAMES = "[]' "  # besides letters, digits and -._~
ARGUMENTS = {"param": "params", "grad": "grads"}  # the users' names of these operands


class Common(TypedDict, total=False):
    """The options that every optimizer has."""

    decoupled_weight_decay: bool
    maximize: bool
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
    """Base class of all optimizers, for annotations and ``isinstance``.

    Each subclass, `fastopt.Adam` for example, describes the parameters, options and attributes that all share.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> isinstance(fastopt.SGD(np.zeros(2)), fastopt.Optimizer)
    True
    """

    rule: ClassVar[str]
    """The name of the formula in ``fastopt.kernels`` and ``fastopt.reference``."""

    param_groups: tuple[Group, ...]
    """The hyperparameters of each group; changes hold from the next step on."""

    max_grad_norm = _option("max_grad_norm", "The largest global norm that gradients are scaled to, or None.")
    zero_grads = _option("zero_grads", "Whether a step sets the gradients to zero.")
    ema_decay = _option("ema_decay", "The decay of the moving average of the parameters, or None.")
    nonfinite = _option("nonfinite", "The policy for gradients that are not finite.")
    state_dir = _option("state_dir", "The folder of the memory-mapped states, or None.")

    def __init_subclass__(cls) -> None:
        if cls.__doc__:  # otherwise help() shows that of the base class
            cls.__doc__ = insert_shared_sections(inspect.cleandoc(cls.__doc__))

    def __init__(self, params: Any, hyperparameters: dict[str, Any], **common: Unpack[Common]) -> None:
        owner = type(self).__name__
        hyperparameters = {**hyperparameters, **GROUP_DEFAULTS}
        known = {**hyperparameters, **STEP_DEFAULTS}
        check_known(owner, common, known)
        values = {**known, **common}
        self._options = {name: CHECKS[name](name, values[name]) for name in STEP_DEFAULTS}
        self._has_groups = isinstance(params, (list, tuple)) and any(
            isinstance(group, Mapping) and "params" in group for group in params
        )
        groups: list[Group] = []
        trees: list[ParamTree] = []
        for i, group in enumerate(params if self._has_groups else [{"params": params}]):
            where = f"params[{i}]" if self._has_groups else "params"
            if not isinstance(group, Mapping) or "params" not in group:
                raise TypeError(f"{where} must be a group dict with 'params' like the others, got {group!r}")
            own = {name: value for name, value in group.items() if name != "params"}
            check_known(f"{owner}, in {where},", own, hyperparameters)
            defaults = {name: values[name] for name in hyperparameters}
            groups.append(Group(owner, where if self._has_groups else "", self._kernel, {**defaults, **own}))
            trees.append(param_tree(group["params"]))
        self.param_groups = tuple(groups)
        self._tree = ParamGroups(trees) if self._has_groups else trees[0]
        new_files: list[Path] = []
        try:
            self._plan = self._build(trees, new_files)
        except BaseException:
            for file in new_files:
                file.unlink(missing_ok=True)
            raise
        self._plan.grad_scale = self._options.pop("grad_scale")
        for group in self.param_groups:
            group._plan = self._plan
        self._loss_scales: WeakSet[Any] = WeakSet()  # every DynamicLossScale, which remembers the counts of steps

    # The formula, defined by a subclass

    @staticmethod
    def _kernel(h: Mapping[str, Any]) -> str:
        """Return the kernel that hyperparameters need; raise ``ValueError`` for those that exclude each other."""
        raise NotImplementedError

    @staticmethod
    def _static_coefficients(h: Mapping[str, Any]) -> dict[str, float]:
        """Return the coefficients that hold as long as the hyperparameters do."""
        raise NotImplementedError

    @staticmethod
    def _step_coefficients(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Return the coefficients of one step, counted from 1."""
        raise NotImplementedError

    @classmethod
    def _all_static_coefficients(cls, h: Mapping[str, Any], scale: float = 1.0) -> dict[str, float]:
        """Return the static coefficients, with those that every rule begins with."""
        return {
            "scale": -scale if h["maximize"] else scale,
            "l2": 0.0 if h["decoupled_weight_decay"] else h["weight_decay"],
            "param_decay": 1.0,
            **cls._static_coefficients(h),
        }

    @classmethod
    def _all_step_coefficients(cls, groups: list[dict[str, Any]], steps: int) -> list[dict[str, float]]:
        """Return each group's coefficients of the step after ``steps`` completed ones, with the decoupled decay."""
        result = []
        for h in groups:
            lr = h["lr"]
            if callable(lr):
                lr = hyperparameter_at("lr", lr, steps)
            coefficients = cls._step_coefficients(h, lr, steps + 1)
            if h["decoupled_weight_decay"]:
                coefficients["param_decay"] = 1.0 - lr * h["weight_decay"]
            result.append(coefficients)
        return result

    # Building

    def _build(self, trees: list[ParamTree], new_files: list[Path]) -> _core.Plan:
        """Allocate the states, and return the plan, which checks and holds all arrays."""
        ema = [] if self.ema_decay is None else ["ema"]  # the name of a stage and of its state
        zero_grad = ["zero_grad"] if self.zero_grads else []
        plan = []
        for i, (group, tree) in enumerate(zip(self.param_groups, trees, strict=True)):
            names = [*_core.KERNELS[group.kernel].operands[2:], *ema]
            paths = [f"[{i}]{path}" if self._has_groups else path for path in tree.paths]
            kinds = [_core.inspect_array(param, "params", path) for param, path in zip(tree.arrays, paths, strict=True)]
            tensors = [
                (path, {"param": param, **{name: self._zeros(name + path, *kind, new_files) for name in names}})
                for path, param, kind in zip(paths, tree.arrays, kinds, strict=True)
            ]
            if ema:
                for _, operands in tensors:
                    np.copyto(operands["ema"], operands["param"])
            states = {name: tree.unflatten([operands[name] for _, operands in tensors]) for name in names}
            group.state = MappingProxyType(states)
            plan.append(((group.kernel, *ema, *zero_grad), tensors))
        return _core.Plan(plan, ARGUMENTS, self._tree.locate, self.max_grad_norm, self.nonfinite)

    def _zeros(self, name: str, shape: tuple[int, ...], dtype: str, new_files: list[Path]) -> Array:
        """Return a new state, in memory or in a file."""
        if self.state_dir is None:
            return aligned_zeros(shape, dtype)
        from urllib.parse import quote  # noqa: PLC0415  rarely needed, and takes a while to import

        return mapped_zeros(self.state_dir / f"{quote(name, safe=SAFE_IN_FILE_NAMES)}.npy", shape, dtype, new_files)

    # Stepping

    def step(self, grads: Any = None) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        grads : Flat, ndarray or nested container of ndarray, optional
            Gradients with the structure, shapes and dtypes of the parameters; for groups, a list with an item for each
            group. Without them, the step takes the mean of the accumulated gradients.

        Raises
        ------
        TypeError, ValueError
            If gradients or a scheduled hyperparameter cannot be used. Nothing is modified.
        FloatingPointError
            If a gradient is not finite and ``nonfinite="raise"``. Nothing is modified.
        OverflowError
            If gradients are finite but their norm is beyond float64 and ``max_grad_norm`` is finite.
        RuntimeError
            If another thread, or a call that this one makes, uses the optimizer at the same time.
        """
        plan = self._plan
        with plan:
            arrays = self._gradients(grads)
            if plan.dirty:
                self._sync()
            plan.step(arrays, self._all_step_coefficients(self._resolved, plan.steps))

    def _gradients(self, grads: Any) -> list[Any]:
        """Return the flattened gradients of a step, or the accumulated ones."""
        sums = self._plan.grad_sums if self._plan.parts else None
        if sums is None and grads is None:
            raise TypeError("grads must have the structure of the parameters if none were accumulated, got None")
        if sums is None:
            return self._tree.flatten(grads, "grads")
        if grads is not None:
            raise ValueError("grads must be None after accumulate: call step(), or accumulate these, too")
        return sums

    def accumulate(self, grads: Any) -> None:
        """Add the gradients of a part of a batch; ``step()`` then takes their mean.

        A batch that does not fit in memory can be processed in parts, which should have the same size. The division by
        their number is part of the step's scale and costs nothing. The sums take as much memory as the parameters. With
        ``zero_grads``, the gradients passed here are set to zero.

        The sums are discarded by ``load_state_dict``, and by a step that is skipped or raises because they or their
        norm are not finite; ``state_dict`` raises between ``accumulate`` and ``step``.

        Parameters
        ----------
        grads : Flat, ndarray or nested container of ndarray
            Gradients as for `step`.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `step` does. Nothing is modified.

        Examples
        --------
        >>> import fastopt, numpy as np
        >>> params = np.zeros(2)
        >>> optimizer = fastopt.SGD(params, lr=1.0)
        >>> for grads in ([1.0, 2.0], [3.0, 6.0]):
        ...     optimizer.accumulate(np.array(grads))
        >>> optimizer.step()
        >>> params
        array([-2., -4.])
        """
        self._plan.accumulate(self._tree.flatten(grads, "grads"), aligned_zeros)

    def _sync(self) -> None:
        """Pass the core all settings that hold until hyperparameters change."""
        plan, decay = self._plan, self.ema_decay or 0.0
        plan.dirty = False  # first: a schedule may change hyperparameters while it is called here
        try:
            stages = {"ema_decay": decay, "one_minus_ema_decay": 1.0 - decay, "zero": 0.0}
            self._resolved = [group.at(plan.steps) for group in self.param_groups]
            for g, h in enumerate(self._resolved):
                plan.set_coefficients(g, {**self._all_static_coefficients(h), **stages})
        except BaseException:
            plan.dirty = True
            raise
        plan.dirty = plan.dirty or any(group.varies for group in self.param_groups)

    # Inspecting

    @property
    def steps(self) -> int:
        """The number of completed steps."""
        return self._plan.steps

    @property
    def grad_norm(self) -> float | None:
        """The global norm of the last step's gradients, divided by ``grad_scale``; None if it was not computed."""
        return self._plan.norm

    @property
    def skipped(self) -> int:
        """The number of steps that were skipped because a gradient was not finite."""
        return self._plan.skipped

    @property
    def lr(self) -> float:
        """The learning rate of the next step, of the first group; setting it sets that of all groups."""
        return float(hyperparameter_at("lr", self.param_groups[0]["lr"], self.steps))

    @lr.setter
    def lr(self, value: Any) -> None:
        for group in self.param_groups:
            group["lr"] = value

    @property
    def grad_scale(self) -> float:
        """The number that gradients are divided by; it may be set between steps."""
        return self._plan.grad_scale

    @grad_scale.setter
    def grad_scale(self, value: float) -> None:
        with self._plan:
            self._plan.grad_scale = CHECKS["grad_scale"]("grad_scale", value)

    def execution_info(self) -> dict[str, Any]:
        """Return how steps run.

        Returns
        -------
        dict
            The numbers of ``tensors``, ``elements`` and ``chunks``, the instruction set ``isa`` and the number of
            ``threads`` of the next step, if other work runs between steps (see `fastopt.runtime`).

        Examples
        --------
        >>> import fastopt, numpy as np
        >>> fastopt.SGD(np.zeros(1000)).execution_info()["threads"]
        1
        """
        return self._plan.info()

    @property
    def state(self) -> Any:
        """The states by name, each with the structure of the parameters; for groups, a list of these."""
        states = [group.state for group in self.param_groups]
        return states if self._has_groups else states[0]

    @property
    def ema(self) -> Any:
        """The moving average of the parameters, with their structure; None without ``ema_decay``."""
        if self.ema_decay is None:
            return None
        averages = [group.state["ema"] for group in self.param_groups]
        return averages if self._has_groups else averages[0]

    def __repr__(self) -> str:
        groups = "; ".join(", ".join(f"{k}={v!r}" for k, v in group.items()) for group in self.param_groups)
        return f"{type(self).__name__}({groups}; steps={self.steps})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled because it holds the memory of its parameters: "
            "make a new one and load the state_dict() of this one"
        )

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state of the optimizer: numbers of steps, numeric hyperparameters and state arrays.

        The parameters are not included.

        Returns
        -------
        dict
            Plain numbers, and arrays in lists and dictionaries. Hyperparameters that are functions are left out, except
            for the state of a `Plateau`, and so are the options of the whole step except for ``grad_scale``: make the
            new optimizer with the same ones.

        Raises
        ------
        RuntimeError
            If gradients were accumulated since the last step, or another thread uses the optimizer.
        """
        with self._plan:
            return _state.snapshot(self, np.array)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what ``state_dict`` returned; everything is checked before anything is modified.

        The saved hyperparameters replace those of this optimizer, ``decoupled_weight_decay`` included; the class is not
        compared.

        Parameters
        ----------
        state_dict : mapping
            The result of `state_dict`, of an optimizer with the same parameters, groups and options.

        Raises
        ------
        TypeError, ValueError
            If something is missing, unknown, out of range, or of another shape or dtype. Nothing is modified.
        RuntimeError
            If another thread uses the optimizer.
        """
        _state.apply(self, _state.checked(self, "state_dict", state_dict))
