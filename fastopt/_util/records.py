"""Base class and repr for small classes: importing ``dataclasses`` and making 20 of them took 15 ms."""

from __future__ import annotations

from typing import Any


def attributes_repr(self: object) -> str:
    """Return the class name and the public attributes, as ``__repr__``."""
    attributes = [f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")]
    return f"{type(self).__name__}({', '.join(attributes)})"


def attributes_equal(self: object, other: object) -> bool:
    """Return whether two objects have the same class and equal attributes, as ``__eq__``."""
    return vars(self) == vars(other) if type(self) is type(other) else NotImplemented


class Frozen:
    """Base class of objects whose attributes are set once, in ``__init__``."""

    __repr__ = attributes_repr

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(self, name):  # not vars(), after which Python looks attributes up more slowly
            raise AttributeError(f"{type(self).__name__}.{name} is read-only")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is read-only")
