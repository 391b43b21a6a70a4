"""Checkpoints that are damaged or made to do harm: refused by name, nothing changed, no memory taken, no crash.

``FASTOPT_HOSTILE_FILES=100000 pytest tests/test_hostile_files.py`` tries more of them.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from resume import digest

import fastopt
from fastopt import checkpoint

FILES = int(os.environ.get("FASTOPT_HOSTILE_FILES", "1600"))  # of each format, by changes of bytes
SUFFIXES = [".npz", ".safetensors"]


def run(seed):
    """Things that a checkpoint is loaded into."""
    params = {"w": np.full((4, 5), 1.0 + seed, np.float32), "b": np.full(3, seed)}
    optimizer = fastopt.Momentum(params, lr=fastopt.schedules.Plateau(0.1), ema_decay=0.5)
    early_stopping, schedule = fastopt.EarlyStopping(), fastopt.schedules.Plateau(0.5)
    for step in range(1 + int(seed)):
        optimizer.step({"w": np.ones((4, 5), np.float32), "b": np.ones(3)})
        early_stopping.update(2.0 - step, params)
    return {"params": params, "optimizer": optimizer, "early_stopping": early_stopping, "schedule": schedule}


def state_of(things):
    states = (things[name].state_dict() for name in ("optimizer", "early_stopping", "schedule"))
    return digest(things["params"], *states)


class Target:
    """Tries files, and tells what each did."""

    def __init__(self, folder, suffix):
        if suffix == ".safetensors":
            pytest.importorskip("safetensors")
        self.file, self.things = folder / f"run{suffix}", run(0.0)
        saved = run(2.0)
        fastopt.save(self.file, **saved, arrays={"order": np.arange(5)}, values={"epoch": 3})
        self.good, self.whole, self.before = self.file.read_bytes(), state_of(saved), state_of(self.things)

    def load(self, content):
        """Load a file: None, or the error, after which nothing has changed and no memory was taken."""
        self.file.write_bytes(content)
        tracemalloc.reset_peak()
        begun, error = tracemalloc.get_traced_memory()[0], None
        try:
            self.found = fastopt.load(self.file, **self.things)
        except (ValueError, OSError) as raised:
            error = raised
        taken = tracemalloc.get_traced_memory()[1] - begun
        assert taken < 8 * len(content) + 400_000, (taken, error)
        if error is not None:
            assert str(self.file) in str(error)
            assert state_of(self.things) == self.before
        return error

    def refuses(self, content, says):
        """Whether a file is refused, and why."""
        error = self.load(content)
        assert error is not None
        assert re.search(says, str(error)), error


@pytest.fixture
def target(request, tmp_path):
    tracemalloc.start()
    yield Target(tmp_path, request.param)
    tracemalloc.stop()


both = pytest.mark.parametrize("target", SUFFIXES, indirect=True)
npz = pytest.mark.parametrize("target", [".npz"], indirect=True)


def changed(good, rng):
    """A file with some bytes changed, cut off, doubled, or filled."""
    content, place = bytearray(good), int(rng.integers(0, len(good)))
    kind, length = int(rng.integers(0, 7)), int(2 ** rng.uniform(0, 10))
    if kind == 0:
        content[place] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1:
        del content[place:]
    elif kind == 2:
        content[place : place + length] = rng.bytes(length)
    elif kind == 3:
        content[place : place + length] = rng.choice([b"\0", b"\xff"]) * length
    elif kind == 4:
        del content[place : place + length]
    elif kind == 5:
        content[place:place] = content[place : place + length]
    else:
        other = int(rng.integers(0, len(good)))
        content[place : place + length] = content[other : other + length]
    return bytes(content)


@both
def test_changed_bytes_are_found_or_have_no_meaning(target):
    """A load that goes through, for the bytes were the date of a member, say, gives what was saved."""
    rng, loaded = np.random.default_rng(0), 0
    target.refuses(target.good[:-1], "can't be loaded")
    for _ in range(FILES):
        if target.load(changed(target.good, rng)) is None:
            loaded += 1
            assert state_of(target.things) == target.whole
            assert (target.found.values, target.found.arrays["order"].tolist()) == ({"epoch": 3}, [0, 1, 2, 3, 4])
            target.things = run(0.0)
    assert loaded < FILES / 2
    assert target.load(target.good) is None
    assert state_of(target.things) == target.whole


# Headers that say something else, with the right digest


def header_of(content):
    """The header of a good .npz file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read("fastopt.npy")[128:].split(b" ", 1)[1])


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return file.getvalue()


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def with_header(content, header):
    """A file with another header: text, or what JSON makes of it."""
    text = header if isinstance(header, str) else json.dumps(header)
    text = f"{checkpoint._digest(text)} {text}"
    return packed({**members(content), "fastopt.npy": npy(np.frombuffer(text.encode(), np.uint8))})


def places(thing, path=()):
    """The paths of everything in the tree of a header."""
    yield path
    items = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, own in items:
        yield from places(own, (*path, key))


JUNK = ["junk", {"junk": []}, [[]], {"__array__": 10**9}, {"__array__": -1000}, {"__array__": 0}, 1e999, -1, 2**70]


@npz
def test_a_header_with_junk_in_any_place_is_refused(target):
    header, tried = header_of(target.good), 0
    assert target.load(with_header(target.good, header)) is None
    target.things = run(0.0)
    for path in places(header):
        if path[:1] in {("values",), ("version",)} or path == ():
            continue
        for junk in JUNK:
            other = json.loads(json.dumps(header))
            *outer, last = path
            inside = other
            for key in outer:
                inside = inside[key]
            if inside[last] == junk:
                continue
            inside[last] = junk
            error = target.load(with_header(target.good, other))
            if error is None:  # a number that may be anything, such as the best metric, or another place for an array
                assert junk in ({"__array__": 0}, -1, 1e999, 2**70), path
                target.things = run(0.0)
            tried += 1
    assert tried > 400


DEEP = "[" * 100_000 + "]" * 100_000
HEADERS = {
    "no JSON": ("junk", "Expecting value"),
    "deep": (DEEP, "Recursion"),
    "deep in the tree": (f'{{"format": 1, "values": 0, "arrays": [], "tree": {{"x": {DEEP}}}}}', "Recursion"),
    "a list": ([], "of another form"),
    "another format": (
        {"format": 2, "arrays": [], "tree": {}, "values": None},
        "the format 2; this version .* up to 1",
    ),
    "no format": ({"arrays": []}, "of another form"),
    "a giant number": ('{"format": ' + "9" * 10_000 + "}", "can't be loaded"),
    "no arrays": ({"format": 1, "arrays": [], "tree": {}, "values": None}, "not those of its header"),
}


@npz
@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_another_form(name, target):
    header, says = HEADERS[name]
    target.refuses(with_header(target.good, header), says)


SHAPES = [
    [2**62],
    [2**31, 2**31],
    [0, 2**70],
    [-4, -5],
    [4, 5, 1],
    [5, 4],
    [20],
    [],
    [True],
    ["4"],
    [4.0, 5],
    "45",
    None,
]
TYPES = ["<f8", ">f4", "|O", "O", "<i4", "<f4,<f4", "V4", "|S4", "<M8[s]", "object", "(2,)f4", 4, None, "x" * 10**5]


@npz
@pytest.mark.parametrize(("column", "wrong"), [(2, shape) for shape in SHAPES] + [(1, kind) for kind in TYPES])
def test_arrays_that_are_said_to_be_others(column, wrong, target):
    header = header_of(target.good)
    row = next(row for row in header["arrays"] if row[0] == "params/w")
    row[column] = wrong
    target.refuses(with_header(target.good, header), "can't be loaded")


class Bomb:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return os._exit, (99,)


def other_files(good):
    """Files that are something else, by name, and what is said of them."""
    parts = members(good)
    w, giant = "params/w.npy", npy(np.zeros(1, np.float32)).replace(b"(1,)", b"(9" + b"9" * 17 + b",)")
    renamed = {("../../../tmp/x.npy" if name == w else name): part for name, part in parts.items()}
    with_objects = npy(np.array([Bomb()], object), allow_pickle=True)
    doubled = io.BytesIO(packed(parts))
    with zipfile.ZipFile(doubled, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(w, npy(np.ones((4, 5), np.float32)))
    lying = bytearray(packed(parts))
    at = lying.rindex(b"PK\1\2")
    lying[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)  # the sizes of the last member
    encrypted = bytearray(packed(parts))
    at = encrypted.index(b"PK\1\2")
    encrypted[at + 8] |= 1
    return {
        "empty": (b"", "can't be loaded"),
        "a pickle": (b"\x80\x04c", "can't be loaded"),
        "an empty archive": (packed({}), "no member 'fastopt'"),
        "one array alone": (npy(np.zeros(3)), "not a zip file"),
        "another archive": (packed({"params/w.npy": parts[w]}), "no member 'fastopt'"),
        "a path": (packed(renamed), "not those of its header"),
        "a member more": (packed({**parts, "more.npy": parts[w]}), "not those of its header"),
        "a member less": (
            packed({name: part for name, part in parts.items() if name != w}),
            "not those of its header: params/w",
        ),
        "a member twice": (doubled.getvalue(), "damaged|larger"),
        "an archive inside": (packed({**parts, w: good}), r"'params/w.npy' has \d+ bytes; wants float32"),
        "objects": (packed({**parts, w: with_objects}), "'params/w.npy' has .* bytes; wants float32"),
        "a header that is giant": (packed({**parts, w: giant}), "'params/w.npy' has .* bytes; wants float32"),
        "Fortran's order": (packed({**parts, w: npy(np.ones((4, 5), "f", order="F"))}), "has another header"),
        "other numbers": (packed({**parts, w: npy(np.ones((4, 5), "f"))}), "'params/w' is damaged"),
        "compressed": (packed(parts, zipfile.ZIP_DEFLATED), "compressed|larger"),
        "a bomb": (packed({**parts, "x.npy": bytes(10**8)}, zipfile.ZIP_DEFLATED), "larger than the file"),
        "a size that lies": (bytes(lying), "larger than the file"),
        "encrypted": (bytes(encrypted), "encrypted"),
    }


@npz
def test_files_that_are_something_else(target):
    cases = other_files(target.good)
    for content, says in cases.values():
        target.refuses(content, says)
    assert len(cases) > 15


SAFETENSORS = {
    "a header beyond the file": struct.pack("<Q", 2**60) + b"{}",
    "no header": struct.pack("<Q", 0),
    "no JSON": struct.pack("<Q", 4) + b"junk",
    "deep": struct.pack("<Q", len(DEEP)) + DEEP.encode(),
    "no text": struct.pack("<Q", 2) + b"{}",
    "offsets beyond": b'{"x":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}',
    "a type that NumPy lacks": b'{"params/w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}',
}


@pytest.mark.parametrize("name", SAFETENSORS)
@pytest.mark.parametrize("target", [".safetensors"], indirect=True)
def test_safetensors_that_are_something_else(name, target):
    content = SAFETENSORS[name]
    if content[:1] == b"{":
        content = struct.pack("<Q", len(content)) + content + b"\0\0"
    target.refuses(content, "can't be loaded")


@pytest.mark.parametrize("target", [".safetensors"], indirect=True)
def test_safetensors_with_another_header(target):
    """The digest of the text, and the arrays of another type or shape than it says."""
    size = struct.unpack("<Q", target.good[:8])[0]
    header, data = json.loads(target.good[8 : 8 + size]), target.good[8 + size :]

    def refused(header, says):
        text = json.dumps(header).encode()
        target.refuses(struct.pack("<Q", len(text)) + text + data, says)

    for change, says in [
        (lambda h: h["params/w"].update(shape=[5, 4]), r"wants float32 of \(4, 5\)"),
        (lambda h: h["params/w"].update(dtype="I32"), "is int32 of shape"),
        (lambda h: h["params/w"].update(dtype="BF16", shape=[8, 5]), "can't be loaded"),
        (lambda h: h.update(other=h.pop("params/w")), "can't be loaded"),
        (lambda h: h["__metadata__"].update(fastopt=h["__metadata__"]["fastopt"][:-1]), "its header is damaged"),
        (lambda h: h["__metadata__"].clear(), "its metadata have no 'fastopt'"),
    ]:
        other = json.loads(json.dumps(header))
        change(other)
        refused(other, says)
