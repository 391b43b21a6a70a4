"""Checkpoints: what is restored, and which arguments and files are rejected."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import layouts, leaves, read_only, same_bits
from processes import needs_posix, run_python
from resume import digest

import fastopt

HERE = Path(__file__).parent
SUFFIXES = [".npz", ".safetensors"]
RNG = np.random.default_rng(0)
WIDE = "g" if hasattr(np, "float128") else "c16"  # some systems have no real type wider than float64


def script(name, *arguments):
    done = run_python(HERE / name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_resuming_in_another_process_is_bit_for_bit_reproducible(suffix, tmp_path):
    """22 steps, or 11, a new process, and 11: every optimizer and option, both dtypes, also with arrays that are left
    out, groups that are added and batches in parts, and whole training runs."""
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    wanted = script("resume.py", tmp_path / "whole", suffix, 0, 22)
    halfway = script("resume.py", tmp_path / "parts", suffix, 0, 11)
    assert script("resume.py", tmp_path / "parts", suffix, 11, 22) == wanted
    lines = list(zip(wanted.splitlines(), halfway.splitlines(), strict=True))
    assert len(lines) > 120
    assert all(a != b for a, b in lines)


@pytest.mark.parametrize("kind", layouts(40))
def test_every_kind_of_parameters_is_restored(kind, file):
    make, read = layouts(40)[kind]
    start = RNG.normal(0, 1, 40).astype(np.float32)
    params, again = make(start), make(np.zeros(40, np.float32))
    fastopt.save(file, params=params)
    fastopt.load(file, params=again)
    assert same_bits(read(again), start)


DTYPES = [">f4", "f2", "f4", "f8", "?", "i1", "u1", ">i2", "u2", "i4", "u4", "i8", "u8"]


def test_arrays_and_metadata_are_restored(file):
    arrays = {dtype: np.arange(6).reshape(2, 3).astype(dtype) for dtype in DTYPES}
    arrays |= {"empty": np.zeros((0, 3)), "scalar": np.array(2.5), "transposed": np.arange(6.0).reshape(2, 3).T}
    arrays |= {
        "a/b": np.ones(1),
        "a": np.ones(2),
        "../../etc": np.ones(3),
        "ü": np.ones(4),
    }
    metadata = {"epoch": 3, "name": "ü\ud800", "list": [1, 2.5, None, True, {"__array__": 0}], "inf": math.inf}
    fastopt.save(file, arrays=arrays, metadata=metadata)
    found = fastopt.load(file)
    assert found.metadata == metadata
    assert list(found.arrays) == list(arrays)
    for name, array in arrays.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert found.arrays[name].tobytes() == native.tobytes()
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (native.dtype, array.shape)


def test_numpy_reads_npz_files_and_equal_runs_write_equal_files(tmp_path):
    params = {"w": np.arange(6.0).reshape(2, 3), "b": np.ones(2, np.float32)}
    fastopt.save(tmp_path / "a.npz", params=params)
    fastopt.save(tmp_path / "b.npz", params=params)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert np.array_equal(found["params/w"], params["w"])
        assert json.loads(bytes(found["fastopt"]).decode().split(" ", 1)[1])["format"] == 1


def test_load_ignores_parts_that_are_not_asked_for(file):
    params = {"w": np.ones(3)}
    optimizer = fastopt.Adam(params)
    optimizer.step({"w": np.ones(3)})
    fastopt.save(file, params=params, optimizer=optimizer)
    only = {"w": np.zeros(3)}
    fastopt.load(file, params=only)
    assert same_bits(only["w"], params["w"])


def test_file_of_format_1_still_loads():
    """The array bytes were written by version 0.1.0."""
    params, other = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)}, fastopt.schedules.Plateau(1.0)
    optimizer = fastopt.AdamW(params, lr=fastopt.schedules.Plateau(1.0), ema_decay=0.5, amsgrad=True)
    early_stopping = fastopt.EarlyStopping()
    found = fastopt.load(
        HERE / "data" / "format_1.npz",
        params=params,
        optimizer=optimizer,
        early_stopping=early_stopping,
        schedule=other,
    )
    assert found.metadata == {"epoch": 7}
    assert found.arrays["order"].tolist() == [2, 0, 1]
    assert (optimizer.steps, optimizer.lr, early_stopping.best, other(0)) == (3, 0.05, 1.5, 0.25)
    assert digest(params, optimizer.state_dict(), early_stopping.state_dict()) == (
        "d4d17d252bb4d94f8d7dffc5f85a58f13b0a8a1635b0b3de475f4a11c479647b"
    )


# Files that do not match the arguments


def saved_run(file):
    """Save a run, and return other objects that it could be loaded into."""
    for seed in (0, 1):
        params = {"w": np.full((2, 3), 1.0 + seed), "b": np.full(3, 2.0 + seed)}
        optimizer = fastopt.Adam(params, lr=fastopt.schedules.Plateau(0.1 + seed), ema_decay=0.5)
        early_stopping, schedule = fastopt.EarlyStopping(), fastopt.schedules.Plateau(0.5 + seed)
        for _ in range(2 - seed):
            optimizer.step({"w": np.ones((2, 3)), "b": np.ones(3)})
            early_stopping.update(1.0 + seed, params)
        things = {"params": params, "optimizer": optimizer, "early_stopping": early_stopping, "schedule": schedule}
        if not seed:
            fastopt.save(file, **things, arrays={"x": np.arange(3)}, metadata=[1])
    return things


def state_of(things):
    """Digest everything that a load could change."""
    return digest(
        things["params"], *(things[name].state_dict() for name in ("optimizer", "early_stopping", "schedule"))
    )


W, B = np.zeros((2, 3)), np.zeros(3)


def two_plateaus():
    return fastopt.schedules.Join([fastopt.schedules.Plateau(1.0), fastopt.schedules.Plateau(0.1)], [5])


OTHERS = {
    "additional name": (
        "params",
        lambda: {"w": W, "b": B, "c": B.copy()},
        r"params must have the names \['w', 'b', 'c'\], got \['c'\] missing",
    ),
    "other shape": (
        "params",
        lambda: {"w": W.T.copy(), "b": B},
        r"params\['w'\] must be float64 of shape \(3, 2\), got float64 of \(2, 3\)",
    ),
    "other dtype": ("params", lambda: {"w": W, "b": B.astype("f")}, r"params\['b'\] must be float32 .*, got float64"),
    "other kind": ("params", lambda: [W, B], "params must be a list or tuple .*, got 'dict'"),
    "other optimizer": (
        "optimizer",
        lambda: fastopt.SGD({"w": W, "b": B}),
        r"optimizer.* must have the keys .*, got \['dampening', .*\] missing and \['amsgrad",
    ),
    "other group": ("optimizer", lambda: fastopt.Adam([{"params": W}, {"params": B}]), "must have 2 groups, got 1"),
    "other number of plateaus": ("schedule", two_plateaus, "schedule must be a list of 2 states, .*, got "),
}


@pytest.mark.parametrize("case", OTHERS)
def test_load_that_does_not_match_changes_nothing(case, file):
    name, make, message = OTHERS[case]
    things = saved_run(file)
    before = state_of(things)
    with pytest.raises(ValueError, match=f"^cannot load {re.escape(str(file))}: .*{message}"):
        fastopt.load(file, **{**things, name: make()})
    assert state_of(things) == before
    fastopt.load(file, **things)
    assert state_of(things) != before


def test_load_rejects_parts_missing_from_the_file(file):
    params = {"w": np.ones(3)}
    fastopt.save(file, params=params)
    with pytest.raises(ValueError, match=r"cannot load .*: it has no optimizer, only params"):
        fastopt.load(file, params=params, optimizer=fastopt.SGD(params))
    with pytest.raises(FileNotFoundError, match="absent"):
        fastopt.load(file.with_name(f"absent{file.suffix}"))


P = {"w": np.ones(3)}
PARTS = fastopt.SGD(P)
REFUSED = [
    (lambda f: fastopt.save(f.with_suffix(".pt")), ValueError, "path must end in .npz or .safetensors, got '.*pt'"),
    (lambda f: fastopt.save(f, params={"w": 1.0}), TypeError, r"params\['w'\] must be an array .*, got 'float'"),
    (lambda f: fastopt.save(f, params={3: np.ones(3)}), TypeError, "the names in params must be strings, got 3"),
    (
        lambda f: fastopt.save(f, arrays={"\ud800": np.ones(3)}),
        ValueError,
        r"the names in arrays must be encodable as UTF-8, got '\\ud800'",
    ),
    (lambda f: fastopt.save(f, optimizer=P), TypeError, "optimizer must be a fastopt.Optimizer, got 'dict'"),
    (
        lambda f: fastopt.save(f, early_stopping=PARTS),
        TypeError,
        "early_stopping must be a fastopt.EarlyStopping, got 'SGD'",
    ),
    (lambda f: fastopt.save(f, schedule=0.1), TypeError, "schedule must be a schedule .*, got 0.1"),
    (
        lambda f: fastopt.save(f, schedule=fastopt.schedules.Constant(1.0)),
        ValueError,
        "schedule must be or contain a stateful one .*, got Constant",
    ),
    (lambda f: fastopt.load(f, schedule=0.1), TypeError, "schedule must be a schedule .*, got 0.1"),
    (lambda f: fastopt.save(f, arrays=[P["w"]]), TypeError, "arrays must be a mapping of names to arrays, got 'list'"),
    (lambda f: fastopt.save(f, arrays={"x": [1.0]}), TypeError, r"arrays\['x'\] must be an array .*, got 'list'"),
    (
        lambda f: fastopt.save(f, arrays={"x": np.ma.ones(3)}),
        TypeError,
        r"arrays\['x'\] must be an array without a mask, got 'MaskedArray'",
    ),
    (lambda f: fastopt.save(f, arrays={"x": np.array([None])}), TypeError, "arrays/x must be booleans, .*, got object"),
    (lambda f: fastopt.save(f, arrays={"x": np.ones(2, "c16")}), TypeError, "arrays/x must be .*, got complex128"),
    (
        lambda f: fastopt.save(f, arrays={"x": np.ones(2, WIDE)}),
        TypeError,
        f"arrays/x must be .*, got {np.dtype(WIDE)}",
    ),
    (
        lambda f: fastopt.save(f, metadata={1, 2}),
        TypeError,
        "metadata and states must be JSON, got {1, 2}",
    ),
    (
        lambda f: fastopt.save(f, metadata=np.ones(3)),
        TypeError,
        "metadata and states must be JSON, got array",
    ),
    *[
        (lambda f, wrong=wrong: fastopt.save(f, metadata=wrong), TypeError, f"metadata and states must be .*{message}")
        for wrong, message in [
            ({1: "a", "1": "b"}, r"the keys \[1, '1'\] are not distinct as strings"),
            ([{"a": {True: 1, "true": 2}}], r"the keys \[True, 'true'\] are not distinct"),
            ({np.int64(1): "a", "1": "b"}, r"the keys \[1, '1'\] are not distinct"),
            ({(1, 2): 3}, "keys must be str, int, float, bool or None, not tuple"),
            (np.longdouble(1), "(longdouble|float128) is not JSON serializable"),
            ({"a": np.ma.array(1)}, "MaskedArray is not JSON serializable"),
        ]
    ],
    (
        lambda f: fastopt.save(f, params=fastopt.SGD(P).ema),
        TypeError,
        "params, optimizer, .* must be given, got none",
    ),
    (
        lambda f: fastopt.save(f, metadata=np.timedelta64(1, "s")),
        TypeError,
        "metadata and states must be JSON",
    ),
    (lambda f: fastopt.save(str(f).encode()), TypeError, "path must be a string or a path of strings, got b'"),
    (lambda f: fastopt.load(3), TypeError, "path must be a string or a path of strings, got 3"),
    (lambda f: fastopt.save(f, keep=0), ValueError, "keep must be an int >= 1, got 0"),
    (
        lambda f: fastopt.load(f, params={"w": read_only(np.ones(3))}),
        ValueError,
        r"params\['w'\] must be writable, got a read-only array",
    ),
    (lambda f: fastopt.load(f, optimizer=P), TypeError, "optimizer must be a fastopt.Optimizer, got 'dict'"),
    (
        lambda f: fastopt.load(f, early_stopping=P),
        TypeError,
        "early_stopping must be a fastopt.EarlyStopping, got 'dict'",
    ),
    (lambda f: fastopt.load(f.with_suffix(".txt")), ValueError, "path must end in .*, got"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_invalid_argument_leaves_the_file_unchanged(call, error, message, file):
    fastopt.save(file, params=P)
    before = file.read_bytes()
    with pytest.raises(error, match=message):
        call(file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_save_rejects_accumulated_gradients(file):
    optimizer = fastopt.SGD({"w": np.ones(3)})
    optimizer.accumulate({"w": np.ones(3)})
    with pytest.raises(RuntimeError, match=r"step\(\) must be called after accumulate"):
        fastopt.save(file, optimizer=optimizer)
    assert not file.exists()


def test_missing_safetensors_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda path: fastopt.save(path, metadata=1), fastopt.load):
        with pytest.raises(ImportError, match=r'pip install "fastopt\[safetensors\]"'):
            call(tmp_path / "run.safetensors")
    assert not list(tmp_path.iterdir())


def test_numpy_scalars_are_saved_as_numbers(file):
    schedule, early_stopping = fastopt.schedules.Plateau(1.0), fastopt.EarlyStopping()
    schedule.value, early_stopping.best = np.float32(0.5), np.float64(2)
    metadata = {"loss": np.float32(0.5), "epoch": np.int64(3), "done": np.bool_(True), "names": ("a", "b"), 1: None}
    metadata |= {np.int64(2): [{np.float32(0.5): (np.int8(1),), np.True_: np.array(2.5), None: np.array(True)}]}
    metadata |= {np.str_("group"): fastopt.SGD(np.ones(1)).param_groups[0], "counts": {}}
    fastopt.save(file, schedule=schedule, early_stopping=early_stopping, metadata=metadata)
    schedule.value = 1.0
    found = fastopt.load(file, schedule=schedule).metadata
    assert repr(found) == repr(
        {"loss": 0.5, "epoch": 3, "done": True, "names": ["a", "b"], "1": None}
        | {"2": [{"0.5": [1], "true": 2.5, "null": True}]}
        | {"group": dict(fastopt.SGD(np.ones(1)).param_groups[0]), "counts": {}}
    )
    assert schedule.value == 0.5
    schedule.value = "0.5"
    with pytest.raises(TypeError, match=r"value must be a finite number, got '0\.5'"):
        fastopt.save(file, schedule=schedule)
    fastopt.load(file, early_stopping=early_stopping)


def test_results_of_other_functions_can_be_saved(file):
    """The averages of an optimizer with groups, arrays of a checkpoint, states of schedules and of a loss scale."""
    first, second = (
        fastopt.SGD([{"params": {"w": np.full(3, x)}}, {"params": [W + x]}], ema_decay=0.5, nonfinite="skip")
        for x in (1.0, 2.0)
    )
    wanted = [array.copy() for array in leaves(first.ema)]
    schedule, loss_scale = fastopt.schedules.Plateau(1.0), fastopt.DynamicLossScale(first, init_scale=4.0)
    metadata = [schedule.state_dict(), loss_scale.state_dict()]
    fastopt.save(file, params=first.ema, arrays={"x": W, "y": np.array(3)}, metadata=metadata)
    found = fastopt.load(file, params=second.ema)
    assert all(map(same_bits, leaves(second.ema), wanted))
    fastopt.save(file, arrays=found.arrays, metadata=found.metadata)
    schedule.update(1.0)
    loss_scale.load_state_dict({"scale": 8.0, "good_steps": 3})
    schedule.load_state_dict(fastopt.load(file).metadata[0])
    loss_scale.load_state_dict(found.metadata[1])
    assert [schedule.state_dict(), loss_scale.state_dict()] == metadata


@needs_posix
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_killed_run_leaves_whole_checkpoints(suffix, kills, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    total, within, steps = map(int, script("killed.py", tmp_path / f"run{suffix}", kills, 0).split())
    assert total >= within == kills
    assert steps > 0
