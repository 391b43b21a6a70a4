"""How long does a training iteration of PyTorch take with each optimizer?

Models are a perceptron of 670,000 parameters, a small convolutional network, and a hundred parameters of 64 elements
whose gradients stay as they are, so that an iteration is a step. Ratios are to `fastopt.torch`.
"""

from __future__ import annotations

import pytest
from torch_workloads import ELEMENTS, OPTIMIZERS


@pytest.mark.parametrize("candidate", OPTIMIZERS)
@pytest.mark.parametrize("threads", ["default", "1"])
@pytest.mark.parametrize("clip", [False, True], ids=["step", "clip"])
@pytest.mark.parametrize("model", ELEMENTS)
def test_iteration(measure, model, clip, threads, candidate):
    environment = {} if threads == "default" else {"OMP_NUM_THREADS": "1", "FASTOPT_NUM_THREADS": "1"}
    row = {"model": model, "clipping": clip, "threads": threads}
    measure(
        candidate, "torch_workloads.Training", model, clip, row=row, elements=ELEMENTS[model], environment=environment
    )
