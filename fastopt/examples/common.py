"""Code that the examples share: data, a network in plain NumPy, command-line options and progress bars."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

import fastopt

try:
    from tqdm import tqdm
except ImportError:
    tqdm = None  # type: ignore[assignment, misc]

Array: TypeAlias = npt.NDArray[Any]
Loss: TypeAlias = Callable[..., tuple[Any, Array]]  # a loss of fastopt, such as huber
Item = TypeVar("Item")


def load_table(name: str, **options: Any) -> Array:
    """Return the numbers in a file of `fastopt.data`."""
    with resources.as_file(resources.files("fastopt.data") / name) as path:
        return np.loadtxt(path, delimiter=",", dtype=np.float32, **options)


def split(arrays: Sequence[Array], seed: int, held_out: int = 1) -> list[list[Array]]:
    """Return a random part of the rows of arrays for training, and one or two fifths that are held out."""
    order = np.random.default_rng(seed).permutation(len(arrays[0]))
    *fifths, rest = np.split(order, [i * len(order) // 5 for i in range(1, held_out + 1)])
    return [[array[rows] for array in arrays] for rows in (rest, *reversed(fifths))]


class Network:
    """A network with one hidden layer of rectified linear units.

    Inputs are rows. They may have more axes in front, such as those of pixels, if there is no batch norm.
    """

    def __init__(
        self, sizes: Sequence[int], seed: int, dropout: float = 0.0, batch_norm: bool = False, dtype: type = np.float32
    ) -> None:
        inputs, hidden, outputs = sizes
        self.seed, self.dropout = seed, dropout
        rng = np.random.default_rng(seed)
        w1 = rng.normal(0, np.sqrt(2 / inputs), (inputs, hidden))  # He et al., 2015
        w2 = rng.normal(0, np.sqrt(2 / hidden), (hidden, outputs))
        scale = {"scale": np.ones(hidden)} if batch_norm else {}
        self.params = fastopt.Flat({"w1": w1, "b1": hidden, "w2": w2, "b2": outputs, **scale}, dtype)
        self.grads = self.params.zeros_like()
        self.averages = fastopt.Flat({"mean": np.zeros(hidden), "var": np.ones(hidden)}, dtype)  # of batch norm

    def state(self) -> dict[str, Array]:
        """Return all arrays that training changes, which early stopping has to restore."""
        return {**self.params, **self.averages}

    def _normalize(self, x: Array, training: bool) -> tuple[Array, Any]:
        if "scale" not in self.params:
            return x + self.params["b1"], None
        mean, var = self.averages.values()
        return fastopt.batch_norm(x, self.params["scale"], self.params["b1"], mean, var, training=training)

    def predict(self, x: Array) -> Array:
        """Return the outputs at inference."""
        hidden, _ = self._normalize(x @ self.params["w1"], training=False)
        return np.maximum(hidden, 0) @ self.params["w2"] + self.params["b2"]

    def accuracy(self, x: Array, labels: Array) -> float:
        """Return the fraction of inputs that are classified correctly."""
        return float((self.predict(x).argmax(axis=1) == labels).mean())

    def loss_and_gradients(self, loss: Loss, x: Array, target: Array, step: int = 0) -> float:
        """Return the loss of a batch, and write its gradients to ``grads``. Dropout depends on the step."""
        params, grads = self.params, self.grads
        hidden, cache = self._normalize(x @ params["w1"], training=True)
        np.maximum(hidden, 0, out=hidden)
        if self.dropout:
            fastopt.dropout(hidden, self.dropout, seed=self.seed, step=step, out=hidden)
        outputs = hidden @ params["w2"] + params["b2"]

        value, doutputs = loss(outputs, target, out=outputs)
        x, hidden, doutputs = (array.reshape(-1, array.shape[-1]) for array in (x, hidden, doutputs))
        np.matmul(hidden.T, doutputs, out=grads["w2"])
        np.sum(doutputs, axis=0, out=grads["b2"])
        dhidden = doutputs @ params["w2"].T
        if self.dropout:
            fastopt.dropout(dhidden, self.dropout, seed=self.seed, step=step, out=dhidden)
        dhidden *= hidden > 0
        if cache is not None:
            fastopt.batch_norm_backward(dhidden, cache, out=dhidden, grad_weight=grads["scale"], grad_bias=grads["b1"])
        else:
            np.sum(dhidden, axis=0, out=grads["b1"])
        np.matmul(x.T, dhidden, out=grads["w1"])
        return float(value)


def parser(example: str, description: str) -> argparse.ArgumentParser:
    """Return a parser of the command line of an example."""
    return argparse.ArgumentParser(prog=f"python -m fastopt.examples.{example}", description=description)


def number(kind: Callable[[str], Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    """Return a type for argparse: an int or a float in [low, high)."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value < high:
            below = f" and < {high}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"must be a finite number >= {low}{below}, got {text}")
        return value

    parse.__name__ = kind.__name__  # for argparse's message if the text is not a number
    return parse


def progress(items: Iterator[Item], total: int, unit: str) -> Iterator[Item]:
    """Wrap an iterator in a progress bar, if tqdm is installed and the output is a terminal."""
    return iter(tqdm(items, total=total, unit=unit, disable=None, leave=False)) if tqdm is not None else items


def write(line: str) -> None:
    """Print a line above the progress bar."""
    if tqdm is not None:
        tqdm.write(line)
    else:
        print(line)


def check_plot(option: str, path: str, parser: argparse.ArgumentParser) -> None:
    """Exit with an error before the training if the plot could not be written."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  optional
    except ImportError:
        parser.error(f'{option} needs matplotlib: pip install "fastopt[examples]"')
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in formats:
        parser.error(f"{option} must end in one of {', '.join(sorted(formats))}, got {path}")
    if not Path(path).absolute().parent.is_dir():
        parser.error(f"{option} must name a file in an existing folder, got {path}")
