"""Random numbers as functions of seed, step and index, for dropout, the order of batches and augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import is_int

# What the numbers are for: the same seed and step give other numbers to each. Those of csrc/random.h are 1 and 4.
ORDER, AUGMENTATION = 2, 3

BLOCK = 64  # numbers that are drawn together
GRAIN = 4096  # elements that a thread does at a time; whole blocks of csrc/random.h


def key(seed: Any, step: Any) -> dict[str, int]:
    """Return an op's arguments for a seed and a step."""
    return {"seed": of_bits(64, "seed", seed), "step": of_bits(53, "step", step)}


def words(seed: Any, step: Any, stream: int, count: int) -> Array:
    """Draw so many uint32.

    >>> words(seed=0, step=0, stream=0, count=1)
    array([1713891541], dtype=uint32)
    """
    x = np.empty(count, np.uint32)
    _core.run("random_words", {"x": x, "blocks": None, **key(seed, step), "stream": stream}, count, GRAIN, count)
    return x


def words_of_blocks(seed: Any, step: Any, stream: int, blocks: Array) -> Array:
    """Draw the 64 uint32 of some blocks, int64: those of block b begin with the word 64 b.

    >>> bool((words_of_blocks(0, 0, 0, np.array([2]))[0] == words(0, 0, 0, 192)[128:]).all())
    True
    """
    x = np.empty((len(blocks), BLOCK), np.uint32)
    _core.run("random_words", {"x": x, "blocks": blocks, **key(seed, step), "stream": stream}, x.size, GRAIN, x.size)
    return x


def of_bits(bits: int, name: str, value: Any) -> int:
    """Check an int that so many bits hold."""
    wanted = f"an int from 0 to 2**{bits} - 1"
    if not is_int(value):
        raise TypeError(f"{name} is {value!r}; wants {wanted}")
    if not 0 <= int(value) < 2**bits:
        raise ValueError(f"{name} is {value!r}; wants {wanted}")
    return int(value)
