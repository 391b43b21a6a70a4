"""How much faster is a step than the same formula in NumPy, for every optimizer and option?

The rows are those of ``tests/cases.py``, in float32. Both compute the same bits, which is checked before the timing.
"""

from __future__ import annotations

import pytest
from cases import CASES
from peers import FASTOPT

NAMES = [str(case) for case in CASES]


@pytest.mark.parametrize("candidate", [*FASTOPT, "reference"])
@pytest.mark.parametrize("exponent", [3, 5, 7])
@pytest.mark.parametrize("case", NAMES)
def test_case(measure, case, exponent, candidate):
    row, size = {"case": case, "parameters": 10**exponent}, 10**exponent
    measure(candidate, "table_workloads:Case", NAMES.index(case), size, row=row, elements=size)
