"""One optimizer for arrays that arrive one by one, each under a key."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import check_keys, choice, flag
from fastopt.optimizers import Optimizer, _state


def _shared(name: str, doc: str) -> property:
    """Return a property whose value is set in the optimizers of all keys."""

    def set_all(self: Keyed, value: Any) -> None:
        for optimizer in self._all():
            setattr(optimizer, name, value)

    return property(lambda self: getattr(self._template, name), set_all, doc=doc)


class Keyed(Mapping[Hashable, Optimizer]):
    """One optimizer for arrays that arrive one by one, each under a key: ``w = update(key, w, grad)``.

    Many programs update their weights one array at a time, by a call that gets the weights, their gradient and a name.
    The first call with a key makes an optimizer for the array; later calls with that key do a step of it.

    Parameters
    ----------
    optimizer : type
        A class of `fastopt.optimizers`, for example `fastopt.Adam`.
    copy : bool, default False
        Return a new array and leave the one that was passed as it is, for programs that still read the old weights
        after the update. Otherwise the array is updated in place and returned.
    **options
        Arguments of the class, except for ``params`` and ``state_dir``. ``max_grad_norm`` and ``nonfinite`` hold for
        each array on its own.

    Attributes
    ----------
    lr : float
        Learning rate of the first step of an array; setting it sets that of all keys. A schedule is set like a number.
        It receives the number of steps of its key.
    grad_scale : float
        Divisor of the gradients; setting it sets that of all keys.
    max_grad_norm : float or None
        Largest norm of a gradient; setting it sets that of all keys.

    Raises
    ------
    TypeError, ValueError
        If an option is unknown or out of range.

    See Also
    --------
    fastopt.kernels : Functions for callers that manage the states themselves.

    Notes
    -----
    A ``Keyed`` is a mapping: ``keyed["w1"]`` is the optimizer of a key, with ``steps``, ``state``, ``ema``, and with
    hyperparameters that can be set for this key only. ``del keyed["w1"]`` forgets the states of a key.

    Another array under a known key continues with its states, for example the result of ``w = w - decay * w``. Its
    shape and dtype must be those of the first one. The change takes about as long as a small step, and as long as the
    first call if the axes have another order in memory.

    Code without names needs a key that stays the same: for nnfs's ``optimizer.update_params(layer)``, the keys can be
    ``(id(layer), "weights")`` and ``(id(layer), "biases")``; in ML-From-Scratch, where each layer copies the optimizer
    for each of its arrays and calls ``optimizer.update(w, grad)``, it is the ``id`` of the copy.

    Every array is bit-for-bit the same as with an optimizer of its own. If all arrays are known before the first
    step, one optimizer for all of them is faster, since it updates them in one call.

    Examples
    --------
    The weights of numpy-ml, for example, arrive as ``optimizer(param, grad, name)``:

    >>> import fastopt
    >>> import numpy as np
    >>> update = fastopt.Keyed(fastopt.SGD, lr=0.5, momentum=0.9)
    >>> weights = {"w": np.array([1.0, 2.0]), "b": np.zeros(1)}
    >>> for _ in range(2):
    ...     for name in weights:
    ...         weights[name] = update(name, weights[name], np.ones(weights[name].shape))
    >>> weights["w"], weights["b"]
    (array([-0.45,  0.55]), array([-1.45]))
    >>> update["w"].steps
    2

    The update rules of cs231n, ``next_w, next_config = rule(w, dw, config)``, return new arrays:

    >>> update = fastopt.Keyed(fastopt.Adam, copy=True, lr=0.1)
    >>> def adam(w, dw, config=None):
    ...     key = len(update) if config is None else config
    ...     return update(key, w, dw), key
    >>> w = np.zeros(2)
    >>> next_w, config = adam(w, np.array([1.0, -1.0]))
    >>> w, next_w.round(6)
    (array([0., 0.]), array([-0.1,  0.1]))
    """

    lr = _shared("lr", "Learning rate of the first step; setting it sets that of all keys.")
    grad_scale = _shared("grad_scale", "Divisor of the gradients; setting it sets that of all keys.")
    max_grad_norm = _shared("max_grad_norm", "Largest norm of a gradient; setting it sets that of all keys.")

    def __init__(self, optimizer: type[Optimizer], *, copy: bool = False, **options: Any) -> None:
        if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer) and hasattr(optimizer, "rule")):
            raise TypeError(f"optimizer must be a class of fastopt.optimizers, got {optimizer!r}")
        for name in ("params", "state_dir"):
            if name in options:
                raise TypeError(f"{name} must not be given, got {options[name]!r}")
        self.copy = flag("copy", copy)
        self._options = options
        self._template: Optimizer = optimizer(np.zeros(0), **options)  # has the hyperparameters of new keys
        self._optimizers: dict[Hashable, Optimizer] = {}

    def __call__(self, key: Hashable, params: Array, grads: Any) -> Array:
        """Do a step for the array of a key.

        Parameters
        ----------
        key : hashable
            Name of the array: a string, a number, a tuple of these, or anything else that can be a key of a dict.
        params : ndarray
            Array of float32 or float64, as an optimizer takes it. With ``copy`` it may be read-only or have gaps.
        grads : ndarray
            Gradient with the shape, dtype and order of axes of ``params``, or any other with ``convert_grads``.

        Returns
        -------
        ndarray
            ``params`` itself, updated, or with ``copy`` a new array.

        Raises
        ------
        TypeError, ValueError
            If an array cannot be used, or ``params`` does not have the shape and dtype of the first call
            with this key.
            Nothing is modified.
        FloatingPointError, OverflowError, RuntimeError
            As for ``step`` of an optimizer.
        """
        optimizer = self._optimizers.get(key)
        if self.copy:
            params = np.array(self._checked_params(params), subok=True)
        is_new = optimizer is None
        if optimizer is None:
            optimizer = self._optimizers[key] = self._new(self._checked_params(params))
        elif params is not optimizer._tree.arrays[0]:
            optimizer = self._optimizers[key] = self._continued(optimizer, self._checked_params(params))
        try:
            optimizer._plan.step(optimizer._tree.flatten(grads, "grads"), None, optimizer)
        except BaseException:
            if is_new and not optimizer.steps:  # an interrupt may come after the step
                del self._optimizers[key]
            raise
        return params

    @staticmethod
    def _checked_params(params: Any) -> Array:
        if not isinstance(params, np.ndarray):
            got = f"{type(params).__module__}.{type(params).__qualname__}{_core.remedy(params)}"
            raise TypeError(f"params must be a NumPy array, got {got}")
        return params

    def _new(self, params: Array) -> Optimizer:
        """Return an optimizer of one array with the current hyperparameters."""
        template = self._template
        options = {**self._options, **template.param_groups[0]}
        options |= {"grad_scale": template.grad_scale, "max_grad_norm": template.max_grad_norm}
        return type(template)(params, **options)

    def _continued(self, optimizer: Optimizer, params: Array) -> Optimizer:
        """Return an optimizer that continues with another array: the same one, unless the order of axes differs."""
        if optimizer._replace_param(params):
            return optimizer
        old = optimizer._tree.arrays[0]
        if (params.shape, params.dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"params must have shape {old.shape} and dtype {old.dtype} as in the first call with this key, "
                f"got {params.shape} and {params.dtype}"
            )
        new = self._new(params)
        new.load_state_dict(optimizer.state_dict())
        return new

    # The mapping

    def __getitem__(self, key: Hashable) -> Optimizer:
        return self._optimizers[key]

    def __delitem__(self, key: Hashable) -> None:
        del self._optimizers[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._optimizers)

    def __len__(self) -> int:
        return len(self._optimizers)

    def _all(self) -> list[Optimizer]:
        return [self._template, *self._optimizers.values()]

    @property
    def _plans(self) -> list[_core.Plan]:
        return [optimizer._plan for optimizer in self._all()]

    def set(self, **hyperparameters: Any) -> None:
        """Set hyperparameters of all keys, from their next steps on.

        Parameters
        ----------
        **hyperparameters
            New values, for example ``betas=(0.8, 0.99)``.

        Raises
        ------
        TypeError, ValueError
            If a name is unknown, a value is out of range, or the change would need other states. Nothing is modified.

        Examples
        --------
        >>> import fastopt
        >>> update = fastopt.Keyed(fastopt.AdamW, weight_decay=0.1)
        >>> update.set(weight_decay=0.0, betas=(0.8, 0.99))
        """
        for optimizer in self._all():
            optimizer.param_groups[0].update(hyperparameters)

    def __repr__(self) -> str:
        return f"Keyed({self._template!r}, keys={list(self)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Keyed cannot be copied or pickled: make a new one and load the state_dict() of this one")

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the states and hyperparameters of all keys, which `fastopt.save` saves, too.

        Returns
        -------
        dict
            ``template``, the state of an optimizer without elements, has the hyperparameters of new keys. ``arrays`` is
            a list of dictionaries with the ``key``, ``shape`` and ``dtype`` of an array and the ``state_dict()`` of its
            ``optimizer``.

        Raises
        ------
        TypeError
            If a key is neither a string, a number, None, nor a tuple of these.
        RuntimeError
            If another thread uses one of the optimizers.

        Examples
        --------
        >>> import fastopt, numpy as np
        >>> update, other = fastopt.Keyed(fastopt.Adam), fastopt.Keyed(fastopt.Adam)
        >>> w = update("w", np.zeros(2), np.ones(2))
        >>> other.load_state_dict(update.state_dict())
        >>> np.array_equal(other("w", w.copy(), np.ones(2)), update("w", w, np.ones(2)))
        True
        """
        with _state.locks(self):
            return self._snapshot(np.array)

    def load_state_dict(self, state_dict: Mapping[str, Any], *, keep_hyperparameters: bool = False) -> None:
        """Load what ``state_dict`` returned, in place of all states; arrays may, but need not have arrived before.

        Parameters
        ----------
        state_dict : mapping
            The result of `state_dict`, of a ``Keyed`` of the same class and options.
        keep_hyperparameters : bool, default False
            Keep the hyperparameters that were passed to or set in this object, for all keys. Those that differ for one
            key only are forgotten.

        Raises
        ------
        TypeError, ValueError
            As for ``load_state_dict`` of an optimizer. Nothing is modified.
        RuntimeError
            If another thread uses one of the optimizers.
        """
        keep = flag("keep_hyperparameters", keep_hyperparameters)
        _state.apply(self, self._checked("state_dict", state_dict, keep))

    def _snapshot(self, array: Callable[[Any], Array]) -> dict[str, Any]:
        """Return the state while the caller holds the locks; ``array`` copies the arrays, or not."""
        arrays = [
            {
                "key": _plain_key(key),
                "shape": list(optimizer._tree.arrays[0].shape),
                "dtype": str(optimizer._tree.arrays[0].dtype),
                "optimizer": _state.snapshot(optimizer, array),
            }
            for key, optimizer in self.items()
        ]
        return {"template": _state.snapshot(self._template, array), "arrays": arrays}

    def _checked(self, where: str, state_dict: Any, keep_hyperparameters: bool) -> _state.Changes:
        """Check what ``_snapshot`` returned, called ``where`` in errors, and return the changes that load it."""
        check_keys(where, state_dict, ["template", "arrays"])
        changes = _state.checked(self._template, f"{where}['template']", state_dict["template"], keep_hyperparameters)
        if not isinstance(state_dict["arrays"], list):
            raise TypeError(f"{where}['arrays'] must be a list, got {type(state_dict['arrays']).__name__!r}")
        optimizers: dict[Hashable, Optimizer] = {}
        for i, saved in enumerate(state_dict["arrays"]):
            place = f"{where}['arrays'][{i}]"
            check_keys(place, saved, ["key", "shape", "dtype", "optimizer"])
            key = _hashable_key(f"{place}['key']", saved["key"])
            if key in optimizers:
                raise ValueError(f"{place}['key'] must differ from the others, got {key!r}")
            dtype = choice("float32", "float64")(f"{place}['dtype']", saved["dtype"])
            try:
                optimizer = self._new(np.empty(saved["shape"], dtype))  # until the first call with the key
            except (MemoryError, TypeError, ValueError) as error:
                raise ValueError(f"{place} must describe an array, got shape {saved['shape']!r}: {error}") from None
            own = _state.checked(optimizer, f"{place}['optimizer']", saved["optimizer"], keep_hyperparameters)
            changes.copies.extend(own.copies)
            changes.updates.extend(own.updates)
            optimizers[key] = optimizer
        changes.updates.append((vars(self), {"_optimizers": optimizers}))
        return changes


def _plain_key(key: Hashable) -> Any:
    """Return a key with lists in place of tuples, as JSON does, or raise if it cannot be saved."""
    if isinstance(key, tuple):
        return [_plain_key(part) for part in key]
    if key is not None and not isinstance(key, (str, int, float)):
        raise TypeError(f"a key to be saved must be a string, a number, None or a tuple of these, got {key!r}")
    return key


def _hashable_key(where: str, saved: Any) -> Hashable:
    """Return the key that ``_plain_key`` was called with, or raise an error that calls it ``where``."""
    if isinstance(saved, (list, tuple)):
        return tuple(_hashable_key(where, part) for part in saved)
    if saved is not None and not isinstance(saved, (str, int, float)):
        raise TypeError(f"{where} must be a string, a number, None or a tuple of these, got {saved!r}")
    return saved
