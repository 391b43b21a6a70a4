"""Train spaCy's tagger on the Greek New Testament with thinc's Adam, then with fastopt's.

``python -m fastopt.examples.spacy_tagger`` needs ``pip install fastopt[spacy]``. It makes the default config of
``spacy init config``, changes one line of it, and runs what ``spacy train`` runs. The text is that of the package
py-sblgnt: the SBL edition with the MorphGNT analysis, 137,554 words with their parts of speech. Each verse is a
document, without punctuation; every tenth one is held out.
"""

from __future__ import annotations

import time
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import spacy
from pysblgnt import morphgnt_rows
from spacy.cli.init_config import init_config
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as train_nlp
from thinc.api import Config

from fastopt.examples import common

BOOKS = 27
HELD_OUT = 10  # one verse of as many
EVALUATIONS = 4
OPTIMIZERS = ("Adam.v1", "fastopt.Adam.v1")


class Result(NamedTuple):
    """A trained pipeline, its accuracy on the held-out verses, and the seconds of training with evaluations."""

    nlp: Language
    accuracy: float
    seconds: float


def verses() -> list[tuple[list[str], list[str]]]:
    """Return the words of each verse, and their parts of speech."""
    rows = [row for book in range(1, BOOKS + 1) for row in morphgnt_rows(book)]
    grouped = [list(verse) for _, verse in groupby(rows, key=lambda row: row["bcv"])]
    return [([row["word"] for row in verse], [row["ccat-pos"] for row in verse]) for verse in grouped]


def write_docs(folder: Path) -> None:
    """Write the files train.spacy and dev.spacy."""
    vocab = spacy.blank("grc").vocab
    docs = [Doc(vocab, words=words, tags=tags) for words, tags in verses()]
    DocBin(docs=[doc for i, doc in enumerate(docs) if i % HELD_OUT]).to_disk(folder / "train.spacy")
    DocBin(docs=docs[::HELD_OUT]).to_disk(folder / "dev.spacy")


def config(folder: Path, optimizer: str, steps: int, seed: int) -> Config:
    """Return the default config of a tagger of ancient Greek, with another optimizer."""
    config = init_config(lang="grc", pipeline=["tagger"], optimize="efficiency")
    config["training"]["optimizer"]["@optimizers"] = optimizer  # the line that selects fastopt
    config["paths"].update(train=str(folder / "train.spacy"), dev=str(folder / "dev.spacy"))
    evaluate_every = max(1, steps // EVALUATIONS)
    config["training"].update(max_steps=steps, eval_frequency=evaluate_every, patience=0, seed=seed)
    return config


def train(folder: Path, optimizer: str, steps: int, seed: int) -> Result:
    """Train a tagger; spaCy prints the losses and scores meanwhile."""
    nlp = init_nlp(config(folder, optimizer, steps, seed))
    start = time.perf_counter()
    train_nlp(nlp)
    seconds = time.perf_counter() - start
    accuracy = nlp.evaluate(list(Corpus(folder / "dev.spacy")(nlp)))["tag_acc"]
    return Result(nlp, accuracy, seconds)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train with both optimizers and print the table."""
    parser = common.parser("spacy_tagger", "Tag the Greek New Testament with spaCy.")
    parser.add_argument("--steps", type=common.number(int, 1), default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=common.number(int, 0, 2**31), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        write_docs(Path(folder))
        results = {}
        for name in OPTIMIZERS:
            print(f'\n[training.optimizer]\n@optimizers = "{name}"', flush=True)
            results[name] = train(Path(folder), name, options.steps, options.seed)
    print(f"\n{'optimizer':18}accuracy   time   per step")
    for name, result in results.items():
        milliseconds = 1000 * result.seconds / options.steps
        print(f"{name:18}{100 * result.accuracy:6.2f} %{result.seconds:6.1f} s{milliseconds:8.1f} ms")


if __name__ == "__main__":
    main()
