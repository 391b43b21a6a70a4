"""Random numbers by a counter: the published ones, the same everywhere, and even."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import runtime
from fastopt._util import random
from fastopt.reference import _random as reference

KEYS = [(0, 0, 0), (1, 2, 3), (2**64 - 1, 2**53 - 1, 15), (2**32, 2**32, 1)]


@pytest.mark.parametrize(
    ("counter", "seed", "wanted"),
    [  # the vectors that Random123 is tested with: counters of one word repeated, and digits of pi
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_reference_gives_the_published_numbers(counter, seed, wanted):
    first, second, third, fourth = counter
    counters = np.array([first | (second << 32)], np.uint64)
    assert tuple(int(w[0]) for w in reference.philox(counters, seed, third | (fourth << 32), 0)) == wanted


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 5000, 100_001])
def test_the_same_numbers_on_every_instruction_set_and_number_of_threads(key, count):
    wanted = reference.words(*key, count)
    for isa in runtime.available_isas():
        for threads in (1, 2, 4, "auto"):
            fastopt.set_isa(isa)
            fastopt.set_num_threads(threads)
            assert np.array_equal(random.words(*key, count), wanted)


def test_another_seed_step_or_stream_gives_other_numbers():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 2**32, 0)]
    assert len({random.words(*key, 4).tobytes() for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("seed", "step", "error", "says"),
    [
        (-1, 0, ValueError, "seed is -1"),
        (2**64, 0, ValueError, r"seed is 18446744073709551616; wants an int from 0 to 2\*\*64 - 1"),
        (1.0, 0, TypeError, "seed is 1.0"),
        (0, 2**53, ValueError, "step is 9007199254740992"),
        (0, None, TypeError, "step is None"),
    ],
)
def test_keys_that_are_refused(seed, step, error, says):
    with pytest.raises(error, match=says):
        random.words(seed, step, 0, 1)
