"""What does an option that is off cost? Each kernel in cache, on one thread, against its formula in plain C.

The bare formula (`bare_rules.c`) is compiled with the same flags; it has no options and keeps denormal numbers. A loop
of one division and one square root per element shows the limit of the processor for rules that have both. A time is
that of many steps (`KernelLoop.times`), so that only the ratios of a row can be compared.
"""

from __future__ import annotations

import pytest
from kernel_workloads import build

from fastopt import runtime

RULES = ["sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw", "amsgrad"]
CANDIDATES = [(rule, candidate) for rule in RULES for candidate in ("bare formula", "fastopt")]
CANDIDATES += [(rule, "division and root") for rule in RULES if rule not in {"sgd", "momentum"}]
SIZES = {"L1": 1_536, "L2": 16_384}  # elements of float32; Adam has four arrays


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    for isa in runtime.available_isas():
        build(folder, isa)
    return folder


@pytest.mark.parametrize("cache", SIZES)
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("isa", runtime.available_isas())
@pytest.mark.parametrize(("rule", "candidate"), CANDIDATES)
def test_kernel(measure, libraries, rule, isa, real, cache, candidate):
    size = SIZES[cache] // (2 if real == "float64" else 1)
    row = {"rule": rule, "isa": isa, "dtype": real, "cache": cache}
    measure(candidate, "kernel_workloads:KernelLoop", str(libraries), rule, isa, real, size, row=row, elements=size)
