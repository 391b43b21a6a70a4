"""How much faster is a step than the same formula in NumPy, for every optimizer and option?

Every row of ``tests/cases.py`` against ``fastopt.reference``, in float32, with the default threads. Both give the same
bits, which is checked before anything is timed.
"""

from __future__ import annotations

import pytest
from cases import CASES


@pytest.mark.parametrize("exponent", [3, 5, 7])
@pytest.mark.parametrize("row", range(len(CASES)), ids=[str(case) for case in CASES])
def test_case(compare, row, exponent):
    size = 10**exponent
    compare(
        {"case": str(CASES[row]), "parameters": size}, "table_jobs.Case", [row, size], ["fastopt", "reference"], size
    )
