"""Do thousands of steps with zero gradients slow down, as the states approach zero?

The first 500 steps with zero gradients, after 100 normal steps, are compared with steps 4,500 to 5,000, for every
optimizer with states and for PyTorch's Adam. The normal gradients have magnitudes from 1e-18 to 1.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES
from table_workloads import TORCH_ADAM

WITH_STATE = {str(case): i for i, case in enumerate(CASES) if case.make(np.zeros(1)).state}


@pytest.mark.parametrize("candidate", ["at the start", "at the end"])
@pytest.mark.parametrize("case", [*WITH_STATE, TORCH_ADAM])
def test_zero_gradients(measure, case, candidate):
    index = WITH_STATE.get(case, TORCH_ADAM)
    measure(candidate, "table_workloads:ZeroGradients", index, 50_000, row={"case": case}, elements=50_000)
