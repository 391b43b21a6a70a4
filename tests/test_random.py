"""Counter-based random numbers: the published values, identical on every instruction set and thread count."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import runtime
from fastopt._util import random
from fastopt.reference import _random as reference

KEYS = [(0, 0, 0), (1, 2, 3), (2**64 - 1, 2**53 - 1, 15), (2**32, 2**32, 1)]


@pytest.mark.parametrize(
    ("counter", "seed", "expected"),
    [  # the known-answer tests of Random123: zeros, ones and digits of pi
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_reference_returns_published_values(counter, seed, expected):
    first, second, third, fourth = counter
    counters = np.array([first | (second << 32)], np.uint64)
    assert tuple(int(w[0]) for w in reference.philox(counters, seed, third | (fourth << 32), 0)) == expected


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 5000, 100_001])
def test_numbers_match_reference_for_every_isa_and_thread_count(key, count):
    expected = reference.words(*key, count)
    for isa in runtime.available_isas():
        for threads in (1, 2, 4, "auto"):
            fastopt.set_isa(isa)
            fastopt.set_num_threads(threads)
            assert np.array_equal(random.random_uint32(*key, count), expected)


def test_seed_step_and_stream_change_the_numbers():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 2**32, 0)]
    assert len({random.random_uint32(*key, 4).tobytes() for key in keys}) == len(keys)
