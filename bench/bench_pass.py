"""How long do clipping, AdamW, a weight average and zeroing take together, compared with each peer's best sequence?"""

from __future__ import annotations

from math import prod

import pytest
from passes import PASSES
from peers import FASTOPT

from fastopt._bench.models import MODELS


@pytest.mark.parametrize("candidate", dict.fromkeys([*FASTOPT, *PASSES]))
@pytest.mark.parametrize("model", MODELS)
def test_pass(measure, model, candidate):
    elements = sum(map(prod, MODELS[model]))
    row = {"model": model, "parameters": elements}
    measure(candidate, "workloads:Pass", MODELS[model], row=row, elements=elements)
