"""How much faster do thinc and spaCy train with fastopt's Adam than with thinc's?"""

from __future__ import annotations

import pytest

CANDIDATES = ["fastopt", "thinc"]


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("hidden", [64, 256, 1024])
def test_finish_update(measure, hidden, averages, candidate):
    row = {"call": "finish_update", "hidden": hidden, "averages": averages}
    measure(candidate, "thinc_workloads:FinishUpdate", hidden, averages, row=row, elements=800 * hidden + hidden**2)


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("hidden", [64, 256, 1024])
def test_training_iteration(measure, hidden, candidate):
    row = {"call": "iteration", "hidden": hidden, "averages": True}
    measure(candidate, "thinc_workloads:Iteration", hidden, True, row=row, elements=800 * hidden + hidden**2)


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("words", [100, 1000])
def test_spacy_tagger(measure, words, candidate):
    row = {"call": "spaCy's tagger", "words": words}
    measure(candidate, "thinc_workloads:Tagger", words, row=row, elements=600_000)
