"""The random number generator Philox4x32-10 in NumPy; ``csrc/math/random.h`` describes how it is used."""

from __future__ import annotations

import numpy as np

from fastopt.reference._common import Array

BLOCK = 64  # consecutive elements that share 16 counters


def words(seed: int, step: int, stream: int, count: int, first_block: int = 0) -> Array:
    """Return `count` random uint32 from the block `first_block` on.

    Element i is word (i / 16) % 4 of the counter 16 (first_block + i / 64) + i % 16.

    >>> words(seed=0, step=0, stream=0, count=17)[[0, 16]]
    array([1713891541, 3781805453], dtype=uint32)
    """
    counters = np.arange(-(-count // BLOCK) * 16, dtype=np.uint64) + np.uint64(16 * first_block)
    return philox(counters, seed, step, stream).reshape(4, -1, 16).swapaxes(0, 1).ravel()[:count]


def philox(counters: Array, seed: int, step: int, stream: int) -> Array:
    """Return the four random words of each counter, a row for each of the four (Salmon et al., 2011).

    >>> [hex(word[0]) for word in philox(np.zeros(1, np.uint64), 0, 0, 0)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    low, shift = np.uint64(2**32 - 1), np.uint64(32)
    c0, c1 = counters & low, counters >> shift | np.uint64(stream << 28)
    c2, c3 = np.full_like(counters, step % 2**32), np.full_like(counters, step // 2**32)
    k0, k1 = seed % 2**32, seed // 2**32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = p1 >> shift ^ c1 ^ np.uint64(k0), p1 & low, p0 >> shift ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)
