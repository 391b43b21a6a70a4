"""Counter-based random numbers: Philox4x32-10 as a function of seed, step, stream and index.

Dropout, augmentation and the order of batches use different streams, so that the same seed and step give each of them
independent numbers. Nothing is stored between calls, and results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt import _core
from fastopt._util.arrays import CHUNK_SIZE, Array
from fastopt._util.validation import is_int

# Stream ids. csrc/math/random.h uses 1 for dropout and 4 for noise.
BATCH_ORDER, AUGMENTATION = 2, 3

BLOCK_SIZE = 64  # uint32 per block of counters; CHUNK_SIZE is a multiple of it


def key(seed: Any, step: Any) -> dict[str, int]:
    """Return seed and step, after checks, as arguments of an op."""
    return {"seed": check_uint("seed", seed, 64), "step": check_uint("step", step, 53)}


def random_uint32(seed: Any, step: Any, stream: int, count: int) -> Array:
    """Return the first ``count`` numbers of a stream.

    >>> random_uint32(seed=0, step=0, stream=0, count=1)
    array([1713891541], dtype=uint32)
    """
    x = np.empty(count, np.uint32)
    _core.run("random_words", {"x": x, "blocks": None, **key(seed, step), "stream": stream}, count, CHUNK_SIZE, count)
    return x


def random_uint32_blocks(seed: Any, step: Any, stream: int, blocks: Array) -> Array:
    """Return the 64 numbers of each block, shape (len(blocks), 64); block b starts at index 64 b of the stream.

    >>> block = random_uint32_blocks(seed=0, step=0, stream=0, blocks=np.array([2]))[0]
    >>> bool((block == random_uint32(seed=0, step=0, stream=0, count=192)[128:]).all())
    True
    """
    x = np.empty((len(blocks), BLOCK_SIZE), np.uint32)
    arguments = {"x": x, "blocks": blocks, **key(seed, step), "stream": stream}
    _core.run("random_words", arguments, x.size, CHUNK_SIZE, x.size)
    return x


def check_uint(name: str, value: Any, bits: int) -> int:
    """Check an unsigned integer of that many bits."""
    expected = f"an int from 0 to 2**{bits} - 1"
    if not is_int(value):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not 0 <= int(value) < 2**bits:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return int(value)
