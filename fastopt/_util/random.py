"""Counter-based random numbers: Philox4x32-10 as a function of seed, step, stream and index.

Dropout, augmentation and the order of batches use different streams, so that the same seed and step give each of them
independent numbers. Nothing is stored between calls, and results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import integer

# Stream ids. csrc/math/random.h uses 1 for dropout and 4 for noise.
BATCH_ORDER, AUGMENTATION = 2, 3

BLOCK_SIZE = 64  # uint32 per block of counters; _core.CHUNK is a multiple of it

check_seed = integer("an int from 0 to 2**64 - 1", 0, 64)
check_step = integer("an int from 0 to 2**53 - 1", 0, 53)


def key(seed: Any, step: Any) -> dict[str, int]:
    """Return seed and step, after checks, as arguments of an op."""
    return {"seed": check_seed("seed", seed), "step": check_step("step", step)}


def random_uint32(seed: Any, step: Any, stream: int, count: int, blocks: Array | None = None) -> Array:
    """Return the first ``count`` numbers of a stream, or those of its blocks with the given numbers.

    >>> random_uint32(seed=0, step=0, stream=0, count=1)
    array([1713891541], dtype=uint32)
    """
    x = np.empty(count, np.uint32)
    arguments = {"x": x, "blocks": blocks, **key(seed, step), "stream": stream}
    _core.run("random_words", arguments, count, _core.CHUNK, count)
    return x


def random_uint32_blocks(seed: Any, step: Any, stream: int, blocks: Array) -> Array:
    """Return the 64 numbers of each block, shape (len(blocks), 64); block b starts at index 64 b of the stream.

    >>> block = random_uint32_blocks(seed=0, step=0, stream=0, blocks=np.array([2]))[0]
    >>> bool((block == random_uint32(seed=0, step=0, stream=0, count=192)[128:]).all())
    True
    """
    return random_uint32(seed, step, stream, BLOCK_SIZE * len(blocks), blocks).reshape(-1, BLOCK_SIZE)
