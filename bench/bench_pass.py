"""What do clipping, AdamW, a weight average and zeroing cost together, beside the best sequence of each peer?"""

from __future__ import annotations

from math import prod

import pytest
from models import MODELS
from passes import PASSES


@pytest.mark.parametrize("model", MODELS)
def test_pass(compare, model):
    elements = sum(map(prod, MODELS[model]))
    compare({"model": model, "parameters": elements}, "jobs.Pass", [MODELS[model]], list(PASSES), elements)
