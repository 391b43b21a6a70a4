"""How long does a step of Adam take on the shapes of real models, beside every peer and the memory wall?

Defaults everywhere. The wall is the same seven streams with trivial arithmetic, on one thread and on two.
"""

from __future__ import annotations

from math import prod

import pytest
from models import MODELS
from peers import PEERS
from wall import WALLS


@pytest.mark.parametrize("model", MODELS)
def test_model(compare, model):
    shapes = MODELS[model]
    elements = sum(map(prod, shapes))
    candidates = ["fastopt", "fastopt Flat", *PEERS, *WALLS]
    compare(
        {"model": model, "tensors": len(shapes), "parameters": elements}, "jobs.Steps", [shapes], candidates, elements
    )
