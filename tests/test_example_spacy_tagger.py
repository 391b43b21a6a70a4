"""The example of spaCy: its text, the one line that differs, and training that agrees with thinc's optimizer."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import numpy as np
import pytest

spacy = pytest.importorskip("spacy")
pytest.importorskip("pysblgnt")

from fastopt.examples import spacy_tagger  # noqa: E402  it imports spaCy

registered = pytest.mark.skipif(
    not any(entry.name == "fastopt.Adam.v1" for entry in entry_points(group="thinc_optimizers")),
    reason="fastopt is not installed",
)


def test_data():
    verses = spacy_tagger.verses()
    assert len(verses) == 7927
    assert sum(len(words) for words, _ in verses) == 137_554
    assert all(len(words) == len(tags) for words, tags in verses)
    assert len({tag for _, tags in verses for tag in tags}) == 13
    assert verses[0][0][:3] == ["Βίβλος", "γενέσεως", "Ἰησοῦ"]


def test_one_line_of_the_config_differs(tmp_path):
    theirs, mine = (
        spacy_tagger.config(tmp_path, name, steps=8, seed=0).to_str().splitlines() for name in spacy_tagger.OPTIMIZERS
    )
    assert [pair for pair in zip(theirs, mine, strict=True) if pair[0] != pair[1]] == [
        ('@optimizers = "Adam.v1"', '@optimizers = "fastopt.Adam.v1"')
    ]


def weights(nlp):
    """Return all arrays of the tagger's network."""
    nodes = list(nlp.get_pipe("tagger").model.walk())
    return [node.get_param(name) for node in nodes for name in node.param_names if node.has_param(name)]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder with the first book only."""
    monkeypatch.setattr(spacy_tagger, "BOOKS", 1)
    spacy_tagger.write_docs(tmp_path)
    return tmp_path


@registered
def test_training_agrees_with_thincs_optimizer(folder):
    """After four steps, whose size is about 1e-3, the weights differ by less than a hundredth of a step."""
    theirs, mine = (spacy_tagger.train(folder, name, steps=4, seed=0) for name in spacy_tagger.OPTIMIZERS)
    for a, b in zip(weights(mine.nlp), weights(theirs.nlp), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert mine.accuracy == pytest.approx(theirs.accuracy, abs=0.01)


@registered
def test_averages_are_saved_with_the_pipeline(folder):
    """`spacy train` evaluates and saves the averages, and trains the weights themselves."""
    config = spacy_tagger.config(folder, "fastopt.AdamW.v1", steps=4, seed=0)
    config["training"]["optimizer"]["use_averages"] = True
    nlp = spacy_tagger.init_nlp(config)
    spacy_tagger.train_nlp(nlp, folder)
    for name in ("model-best", "model-last"):
        saved = spacy.load(folder / name)
        differences = [np.abs(a - b).max() for a, b in zip(weights(nlp), weights(saved), strict=True)]
        assert 1e-4 < max(differences) < 1


@registered
@pytest.mark.slow
def test_default_run(capsys):
    spacy_tagger.main([])
    accuracies = re.findall(r"^(?:fastopt\.)?Adam\.v1 +([\d.]+) %", capsys.readouterr().out, re.MULTILINE)
    assert len(accuracies) == 2
    assert all(float(accuracy) > 90 for accuracy in accuracies)


def test_rejects_invalid_arguments(capsys):
    with pytest.raises(SystemExit):
        spacy_tagger.main(["--steps", "0"])
    assert "--steps: must be a finite number >= 1, got 0" in capsys.readouterr().err
