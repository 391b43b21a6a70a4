"""The base class of all optimizers: parameters, groups, states, and the order inside a step.

A subclass adds its formula: the kernel that its hyperparameters need, and the coefficients of that kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast
from weakref import WeakSet

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import check_known, decay, flag
from fastopt.optimizers import _build, _state
from fastopt.optimizers._docs import insert_shared_sections
from fastopt.optimizers._options import GROUP_DEFAULTS, STEP_DEFAULTS, Common, StepOptions
from fastopt.optimizers._param_groups import CHECKS, Group, hyperparameter_at, result_at
from fastopt.optimizers._param_tree import ParamGroups, ParamTree, Watched

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _attributes(tree: ParamTree, groups: tuple[Group, ...], plan: _core.Plan) -> dict[str, Any]:
    """Return the attributes of an optimizer that depend on its parameter groups."""
    return {"_tree": tree, "_watched": tree.watched, "param_groups": groups, "_plan": plan}


class Optimizer(StepOptions):
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

    _start_values: ClassVar[dict[str, str]] = {}
    """The options that states start with, by the name of the state. They are in no group, since they are used once."""

    _tree: ParamTree
    _watched: list[Watched]
    param_groups: tuple[Group, ...]
    """The hyperparameters of each group; changes hold from the next step on."""

    def __init_subclass__(cls) -> None:
        if cls.__doc__:  # otherwise help() shows that of the base class
            cls.__doc__ = insert_shared_sections(inspect.cleandoc(cls.__doc__))

    def __init__(self, params: Any, hyperparameters: dict[str, Any], **common: Unpack[Common]) -> None:
        known = {**hyperparameters, **GROUP_DEFAULTS, **STEP_DEFAULTS}
        check_known(type(self).__name__, common, known)
        values = {**known, **common}
        self._options = cast(Common, {name: CHECKS[name](name, values[name]) for name in STEP_DEFAULTS})
        self._defaults = {name: values[name] for name in known if name not in STEP_DEFAULTS}
        tree, groups = _build.parse(type(self), params, self._defaults)
        for name, value in _attributes(tree, groups, _build.build(tree, groups, self._options)).items():
            setattr(self, name, value)  # not by vars(), after which Python looks attributes up more slowly
        for group in groups:
            group._plan = self._plan
        self._plan.grad_scale = self._options.pop("grad_scale")
        self._plan.max_norm = self._options.pop("max_grad_norm")
        self._loss_scales: WeakSet[Any] = WeakSet()  # every DynamicLossScale, which remembers the counts of steps

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a parameter group, for example layers that were frozen or did not exist before.

        From then on, ``step`` takes a list with the gradients of each group, the new one last, and ``state`` and
        ``ema`` are such lists. Parameters without groups become the first one. The number of steps of the new arrays
        starts at 0 for the bias corrections; schedules continue with the steps of the optimizer. Between ``accumulate``
        and ``step``, the gradients that were accumulated are kept, and the new group takes part in the step if later
        parts have gradients for it.

        Parameters
        ----------
        param_group : mapping
            ``{"params": ...}`` with parameters as for the optimizer, and the hyperparameters that differ from the
            arguments of the optimizer. Values that were set later (``optimizer.lr = ...``) are not inherited.

        Raises
        ------
        TypeError, ValueError, OSError
            As for the optimizer itself. Nothing is modified.
        RuntimeError
            If another thread, or a step that calls this from a schedule, uses the optimizer.

        Examples
        --------
        >>> import fastopt, numpy as np
        >>> head, body = np.zeros(2), np.zeros(3)
        >>> optimizer = fastopt.SGD(head, lr=1.0)
        >>> optimizer.step(np.ones(2))
        >>> optimizer.add_param_group({"params": body, "lr": 0.5})
        >>> optimizer.step([np.ones(2), np.ones(3)])
        >>> head, body
        (array([-2., -2.]), array([-0.5, -0.5, -0.5]))
        """
        plan = self._plan
        plan.__enter__()
        try:
            count = len(self.param_groups)
            added = _build.parse_group(type(self), count, param_group, "param_group", self._defaults)
            groups = (*self.param_groups, added)
            tree = ParamGroups(groups)
            whole = _build.build(tree, groups, self._options)
            whole.resume(plan)
            changes = [(vars(group), {"_plan": whole, "_where": f"params[{i}]"}) for i, group in enumerate(groups)]
            _core.commit([], [(vars(self), _attributes(tree, groups, whole)), *changes])
        except BaseException:  # otherwise it stays locked, so that a thread that still has it cannot step
            plan.__exit__()
            raise

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
    def _all_static_coefficients(cls, h: Mapping[str, Any]) -> dict[str, float]:
        """Return the static coefficients, with those that every rule begins with."""
        return {
            "scale": -1.0 if h["maximize"] else 1.0,
            "l2": 0.0 if h["decoupled_weight_decay"] else h["weight_decay"],
            "param_decay": 1.0,
            **cls._static_coefficients(h),
        }

    @classmethod
    def _all_step_coefficients(cls, h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Return the coefficients of one step, with those that every rule has."""
        coefficients = cls._step_coefficients(h, lr, step)
        coefficients["flush"] = float(step % _core.FLUSH_PERIOD == 0)
        if h["decoupled_weight_decay"]:
            coefficients.setdefault("param_decay", 1.0 - lr * h["weight_decay"])
        return coefficients

    def _coefficients(self) -> list[dict[str, float]]:
        """Return the coefficients of the next step for each of the plan's clocks."""
        plan = self._plan
        if plan.dirty:
            self._sync()
        steps, result = plan.steps, []
        rates: dict[int, float] = {}  # by group, because a group can have several clocks
        for g, missed in plan.clocks:
            h = self.param_groups[g].resolved
            lr = h["lr"]
            if callable(lr):
                if g not in rates:
                    rates[g] = hyperparameter_at("lr", lr, steps)
                lr = rates[g]
            result.append(self._all_step_coefficients(h, lr, steps + 1 - missed))
        ema_decay = self._options["ema_decay"]
        if callable(ema_decay):  # not by _sync, which takes longer than a small step
            own = result_at("ema_decay", decay, ema_decay, steps)
            for coefficients in result:
                coefficients.update(ema_decay=own, one_minus_ema_decay=1.0 - own)
        return result

    def _sync(self) -> None:
        """Pass the core all settings that hold until hyperparameters change."""
        plan = self._plan
        ema_decay = 0.0 if self.ema_decay is None or callable(self.ema_decay) else self.ema_decay
        plan.dirty = False  # first: a schedule may change hyperparameters while it is called here
        try:
            stages = {"ema_decay": ema_decay, "one_minus_ema_decay": 1.0 - ema_decay, "zero": 0.0}
            for group in self.param_groups:
                group.resolved = group.at(plan.steps)
            for g, group in enumerate(self.param_groups):
                plan.set_coefficients(g, {**self._all_static_coefficients(group.resolved), **stages})
        except BaseException:
            plan.dirty = True
            raise
        plan.dirty = plan.dirty or any(group.varies for group in self.param_groups)

    _snapshot, _checked = _state.snapshot, _state.checked

    @property
    def _plans(self) -> list[_core.Plan]:
        """The plans to lock while the optimizer is saved or loaded."""
        return [self._plan]

    def _replace_param(self, param: Array) -> bool:
        """Update another array from now on, in an optimizer of one; return False if its layout is another one."""
        if not self._plan.replace_param(param):
            return False
        self._tree.arrays[0] = param
        self.param_groups[0].source = {"params": param}
        return True

    # Stepping

    def step(self, grads: Any = None, skip: Iterable[Any] | None = None) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        grads : Flat, ndarray or nested container of ndarray, optional
            Gradients with the structure of the parameters, each with the shape, dtype and order of axes of its
            parameter; for groups, a list with an item for each group. None in place of an array, a container or the
            item of a group leaves its parameters out of the step: they, their states and averages do not change, they
            do not count in the norm, and the step does not count for their bias corrections. Without ``grads``, the
            step takes the mean of the accumulated gradients.
        skip : iterable of str, optional
            Names of the arrays of a `fastopt.Flat` to leave out, as a Flat cannot contain None; for groups, a list with
            the names of each group, or None. A Flat inside of a list or mapping can be left out as a whole, by None.

        Raises
        ------
        TypeError, ValueError
            If gradients or a scheduled hyperparameter cannot be used, or if a list or mapping of parameters contains
            another array than when the optimizer was made. Nothing is modified.
        FloatingPointError
            If a gradient is not finite and ``nonfinite="raise"``. Nothing is modified.
        OverflowError
            If gradients are finite but their norm is beyond float64 and ``max_grad_norm`` is finite.
        RuntimeError
            If another thread, or a call that this one makes, uses the optimizer at the same time.
        """
        if self._watched:
            _core.check_current(self._watched)
        arrays = None if grads is None else self._tree.flatten(grads, "grads")
        self._plan.step(arrays, None if skip is None else self._left_out(skip), self._coefficients)

    def _left_out(self, skip: Iterable[Any]) -> bytes | None:
        """Return a byte for each segment: whether it is left out; None if all take part."""
        flags = self._tree.left_out(skip, "skip")
        return bytes(flags) if any(flags) else None

    def accumulate(self, grads: Any, skip: Iterable[Any] | None = None) -> None:
        """Add the gradients of a part of a batch; ``step()`` then takes their mean.

        A batch that does not fit in memory can be processed in parts, which should have the same size. The division by
        their number is part of the step's scale and costs nothing. The sums take as much memory as the parameters. With
        ``zero_grads``, the gradients passed here are set to zero. A part without a gradient for an array counts as zero
        in the mean of that array; an array without a gradient in all parts is left out of the step.

        The sums are discarded by ``load_state_dict``, and by a step that is skipped or raises because they or their
        norm are not finite; ``state_dict`` raises between ``accumulate`` and ``step``.

        Parameters
        ----------
        grads : Flat, ndarray or nested container of ndarray
            Gradients as for `step`.
        skip : iterable of str, optional
            Names that are left out, as for `step`.

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
        if self._watched:
            _core.check_current(self._watched)
        self._plan.accumulate(self._tree.flatten(grads, "grads"), None if skip is None else self._left_out(skip))

    # Inspecting

    @property
    def steps(self) -> int:
        """The number of completed steps."""
        return self._plan.steps

    @property
    def micro_steps(self) -> int:
        """The number of gradients passed to ``step`` and ``accumulate``: it also moves between the parts of a batch."""
        return self._plan.micro_steps

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
        return states if isinstance(self._tree, ParamGroups) else states[0]

    @property
    def ema(self) -> Any:
        """The moving average of the parameters, with their structure; None without ``ema_decay``."""
        if self.ema_decay is None:
            return None
        averages = [group.state["ema"] for group in self.param_groups]
        return averages if isinstance(self._tree, ParamGroups) else averages[0]

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
            Plain numbers, and arrays in lists and dictionaries. Hyperparameters that are functions are None (``betas``
            if one of them is), except for the state of a `Plateau`. ``missed_steps`` has the number of steps that an
            array was left out of, by its path, if there were any. The options of the whole step are not included,
            except for ``grad_scale``: make the new optimizer with the same ones.

        Raises
        ------
        RuntimeError
            If gradients were accumulated since the last step, or another thread uses the optimizer.
        """
        with self._plan:
            return _state.snapshot(self, np.array)

    def load_state_dict(self, state_dict: Mapping[str, Any], *, keep_hyperparameters: bool = False) -> None:
        """Load what ``state_dict`` returned; everything is checked before anything is modified.

        Numbers and flags in ``param_groups`` are replaced by the saved ones, as in PyTorch, ``decoupled_weight_decay``
        included. A hyperparameter that is a function here, or was one in the saved optimizer, stays as it is here:
        functions are not saved. A `Plateau` takes over the state of a saved `Plateau`. The class is not compared.

        Parameters
        ----------
        state_dict : mapping
            The result of `state_dict`, of an optimizer with the same parameters, groups and options.
        keep_hyperparameters : bool, default False
            Keep all hyperparameters of this optimizer, to continue with others than the saved ones, which are not
            checked. The state of a `Plateau` is not loaded; ``grad_scale`` is.

        Raises
        ------
        TypeError, ValueError
            If something is missing, unknown, out of range, or of another shape or dtype. Nothing is modified.
        RuntimeError
            If another thread uses the optimizer.
        """
        keep = flag("keep_hyperparameters", keep_hyperparameters)
        _state.apply(self, _state.checked(self, "state_dict", state_dict, keep))
