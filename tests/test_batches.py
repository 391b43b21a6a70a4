"""Mini-batches: every row once, in an order that depends only on the seed and the epoch."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import runtime
from fastopt._util import random
from fastopt.batches import batches
from fastopt.reference import _random as reference


def order(seed, epoch, rows):
    """Return the order of the rows, computed with the reference's random numbers."""
    words = reference.words(seed, epoch, random.BATCH_ORDER, 2 * rows).astype(np.uint64)
    keys = [int(low) + (int(high) << 32) for low, high in words.reshape(-1, 2)]
    return sorted(range(rows), key=keys.__getitem__)


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1797])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (1, 0), (2**64 - 1, 2**53 - 1)])
def test_order_sorts_random_keys(seed, epoch, rows):
    wanted = order(seed, epoch, rows)
    for isa in runtime.available_isas():
        fastopt.set_isa(isa)
        (got,) = batches(np.arange(rows), batch_size=None, seed=seed, epoch=epoch)
        assert got.tolist() == wanted


@pytest.mark.parametrize(
    ("size", "drop_last"),
    [(size, drop) for size in (1, 2, 3, 10, 29, 30, None) for drop in (False, True)] + [(31, False), (1000, False)],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_epoch_has_every_row_once_and_can_start_at_any_batch(size, drop_last, shuffle):
    rows, labels = np.arange(60.0).reshape(30, 2), np.arange(30)
    options = {"batch_size": size, "seed": 3, "epoch": 5, "shuffle": shuffle, "drop_last": drop_last}
    whole = list(batches(rows, labels, **options))
    size = size or 30
    sizes = [size] * (30 // size) + [30 % size] * (30 % size > 0 and not drop_last)
    assert [len(x) for x, _ in whole] == [len(y) for _, y in whole] == sizes
    seen = order(3, 5, 30) if shuffle else list(range(30))
    assert np.concatenate([y for _, y in whole]).tolist() == seen[: sum(sizes)]
    for x, y in whole:
        assert np.array_equal(x, rows[y])
    for start in range(len(whole) + 1):
        rest = batches(rows, labels, start=start, **options)
        for left, (x, y) in zip(range(len(whole) - start, 0, -1), whole[start:], strict=True):
            assert len(rest) == left
            again, same = next(rest)
            assert np.array_equal(again, x)
            assert np.array_equal(same, y)
        assert len(rest) == 0
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(rest)


def test_each_epoch_and_seed_has_its_own_order():
    orders = {
        tuple(np.concatenate(list(batches(np.arange(100), batch_size=7, seed=seed, epoch=epoch))))
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(orders) == 25
    assert all(sorted(one) == list(range(100)) for one in orders)


def test_first_row_is_uniformly_distributed():
    rows, epochs = 8, 4000
    first = [int(next(batches(np.arange(rows), batch_size=1, epoch=epoch))[0]) for epoch in range(epochs)]
    share = epochs / rows
    assert ((np.bincount(first, minlength=rows) - share) ** 2 / share).sum() < 24.3  # chi squared, 7 degrees, 0.001


def test_order_is_independent_of_numpys_random_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one = np.concatenate(list(batches(np.arange(50), batch_size=8)))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(one, np.concatenate(list(batches(np.arange(50), batch_size=8))))


def test_batches_are_arrays_for_one_array_and_tuples_for_several():
    x = np.arange(6)
    assert [type(batch) for batch in batches(x, batch_size=3)] == [np.ndarray] * 2
    assert [type(batch) for batch in batches(x, x, x, batch_size=3)] == [tuple] * 2


KINDS = {
    "float16": lambda x: x.astype(np.float16),
    "bool": lambda x: x > 70,
    "text": lambda x: x.astype("U5"),
    "objects": lambda x: x.astype(object),
    "records": lambda x: np.array([(i, str(i)) for i in range(24)], [("i", int), ("s", "U3")]),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "one-dimensional": lambda x: x[:, 0, 0].copy(),
    "empty rows": lambda x: x[:, :0],
    "Fortran": np.asfortranarray,
    "strided": lambda x: x[:, ::2],
    "reversed": lambda x: x[::-1],
    "transposed": lambda x: x.transpose(0, 2, 1),
    "transposed 3-D": lambda x: np.ascontiguousarray(x.T).T,
    "read-only": lambda x: np.broadcast_to(x[:1], x.shape),
    "misaligned": lambda x: np.frombuffer(b"?" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_dtype_and_layout(kind):
    array = KINDS[kind](np.arange(24 * 3 * 4.0).reshape(24, 3, 4))
    wanted = order(0, 0, 24)
    for i, batch in enumerate(batches(array, batch_size=5)):
        assert batch.dtype == array.dtype
        assert np.array_equal(batch, array[wanted[5 * i : 5 * i + 5]])
        assert batch.flags.c_contiguous
        assert batch.flags.writeable
        assert not np.shares_memory(batch, array)
    for i, batch in enumerate(batches(array, batch_size=5, shuffle=False)):
        assert np.array_equal(batch, array[5 * i : 5 * i + 5])
        assert batch.base is not None
        assert array.size == 0 or np.shares_memory(batch, array)


def test_memory_map_is_not_read_as_a_whole(tmp_path):
    rows = np.arange(120, dtype=np.float32).reshape(40, 3)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for batch, wanted in zip(batches(mapped, batch_size=16), batches(rows, batch_size=16), strict=True):
        assert type(batch) is np.ndarray
        assert np.array_equal(batch, wanted)
    assert all(np.shares_memory(batch, mapped) for batch in batches(mapped, batch_size=16, shuffle=False))


def test_progress_bar_knows_the_total():
    tqdm = pytest.importorskip("tqdm")
    with tqdm.tqdm(batches(np.arange(10), batch_size=3, start=1), disable=True) as bar:
        assert len(bar) == 3
        assert len(list(bar)) == 3
