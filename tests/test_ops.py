"""Ops take exactly the arguments that csrc/ops.def names."""

from __future__ import annotations

import numpy as np
import pytest

from fastopt import _core


def test_run_returns_the_sum_of_an_op():
    x = np.array([3.0, 4.0])
    assert _core.run("l2_penalty", {"x": x, "grad": None, "factor": 1.0}, 2, 2, 2) == 25.0


@pytest.mark.parametrize("names", [("x", "grad"), ("x", "factor"), ("x", "grad", "factor", "lam")], ids=str)
def test_run_rejects_missing_and_unknown_arguments(names):
    x = np.zeros(2)
    given = {"x": x, "grad": x.copy(), "factor": 1.0, "lam": 1.0}
    arguments = {name: given[name] for name in names}
    expected = f"op 'l2_penalty' must get the arguments x, grad, factor, got {', '.join(names)}"
    with pytest.raises(TypeError, match=expected):
        _core.run("l2_penalty", arguments, 2, 2, 2)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_run_rejects_integers_out_of_range(seed):
    arguments = {"x": np.zeros(2, np.uint32), "blocks": None, "seed": seed, "step": 0, "stream": 0}
    with pytest.raises(OverflowError):
        _core.run("random_words", arguments, 2, 64, 2)


def test_run_keeps_all_bits_of_a_seed():
    words = [np.zeros(64, np.uint32) for _ in range(2)]
    for seed, x in enumerate(words, 2**64 - 2):
        _core.run("random_words", {"x": x, "blocks": None, "seed": seed, "step": 0, "stream": 0}, 64, 64, 64)
    assert (words[0] != words[1]).any()
