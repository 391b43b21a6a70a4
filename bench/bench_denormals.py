"""Do thousands of steps with zero gradients slow a step down, as their states approach zero?

The first 500 steps with zero gradients, after a normal phase, against those from the 4,500th to the 5,000th, in
turn; for every optimizer with state, and for PyTorch's Adam. The gradients before were of all sizes from 1e-18 to 1.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from cases import CASES
from table_jobs import TORCH_ADAM

WITH_STATE = {str(case): i for i, case in enumerate(CASES) if case.make(np.zeros(1)).state}


ONE_THREAD = {"FASTOPT_NUM_THREADS": "1"}  # a new optimizer would choose its threads at the start, not at the end
NO_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


@pytest.mark.parametrize("name", [*WITH_STATE, pytest.param(TORCH_ADAM, marks=NO_TORCH)])
def test_steps_of_zeros(compare, name):
    size = 50_000
    arguments = [WITH_STATE.get(name, TORCH_ADAM), size]
    compare({"case": name}, "table_jobs.Zeros", arguments, ["at the start", "at the end"], size, ONE_THREAD)
