"""Check the numpydoc sections of every public callable: python .ci/check_docstrings.py [MODULE ...].

The parameters in a docstring must be those of the signature, in the same order, each with a type. Sections must be
known and in the usual order. A function that returns a value must describe it. Without arguments, check all modules.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType

from numpydoc.validate import validate

MODULES = [
    "fastopt.augment",
    "fastopt.batches",
    "fastopt.checkpoint",
    "fastopt.early_stopping",
    "fastopt.flat",
    "fastopt.kernels",
    "fastopt.keyed",
    "fastopt.layers",
    "fastopt.loss_scale",
    "fastopt.losses",
    "fastopt.lr_finder",
    "fastopt.optimizers",
    "fastopt.reference",
    "fastopt.runtime",
    "fastopt.schedules",
    "fastopt.sklearn",
    "fastopt.torch",
    "fastopt",  # last, because names such as fastopt.batches.batches must be used for what the modules define
]
CHECKED = {
    *("GL03", "GL06", "GL07"),  # blank lines, unknown sections, order of sections
    *("SS01", "SS03", "SS04"),  # the summary
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR07", "PR10"),  # parameters
    *("RT01", "YD01"),  # returned values; not all other checks, because ruff and tests/test_docs.py have theirs
}

NOT_CONSTRUCTED = {"fastopt.batches.Batches"}  # users get these objects from a function
# All parameters but one are those of the base class, and depend on its version.
EXTENDED = {"fastopt.sklearn.MLPClassifier", "fastopt.sklearn.MLPRegressor"}


def public_callables(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the dotted name and the object of each function, class and method that a module of fastopt makes public."""
    for name in getattr(module, "__all__", vars(module)):
        thing = getattr(module, name)
        if name.startswith("_") or not callable(thing) or not thing.__module__.startswith("fastopt"):
            continue
        if not hasattr(module, "__all__") and thing.__module__ != module.__name__:
            continue
        yield f"{module.__name__}.{name}", thing
        for method, function in vars(thing).items() if inspect.isclass(thing) else ():
            if inspect.isfunction(function) and not method.startswith("_"):
                yield f"{module.__name__}.{name}.{method}", function


def findings(name: str, thing: object) -> list[str]:
    """Return numpydoc's findings for a callable, as lines."""
    parameters = inspect.signature(thing).parameters.values()  # type: ignore[arg-type]
    # The docstring describes the options one by one that a signature has as ``**common``.
    options = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    skipped = {"PR01", "PR02", "PR03"} if options or name in NOT_CONSTRUCTED | EXTENDED else set()
    return [f"{name}: {code} {text}" for code, text in validate(name)["errors"] if code in CHECKED - skipped]


def main(names: list[str]) -> None:
    """Check modules, print the findings and their number in each module, and exit with 1 if there are any."""
    seen: set[int] = set()
    lines = defaultdict(list)
    for module in map(importlib.import_module, names):
        for name, thing in public_callables(module):
            if id(thing) not in seen:
                seen.add(id(thing))
                lines[thing.__module__] += findings(name, thing)
    for module_name, found in lines.items():
        print(*found, f"{module_name}: {len(found)} findings", sep="\n")
    sys.exit(any(lines.values()))


if __name__ == "__main__":
    main(sys.argv[1:] or MODULES)
