"""Do thousands of steps with zero gradients slow a step down, as their states approach zero?

The first 500 steps with zero gradients, after a normal phase, against those from the 4,500th to the 5,000th, in
turn; for every optimizer with state, and for PyTorch's Adam.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES
from table_jobs import TORCH_ADAM

WITH_STATE = {str(case): i for i, case in enumerate(CASES) if case.make(np.zeros(1)).state}


@pytest.mark.parametrize("name", [*WITH_STATE, TORCH_ADAM])
def test_steps_of_zeros(compare, name):
    size = 50_000
    arguments = [WITH_STATE.get(name, TORCH_ADAM), size]
    compare({"case": name}, "table_jobs.Zeros", arguments, ["at the start", "at the end"], size)
