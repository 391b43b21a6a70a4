"""Damaged and malicious checkpoints: the error names the file, nothing changes, memory is bounded, nothing crashes.

``FASTOPT_HOSTILE_FILES=100000 pytest tests/test_hostile_files.py`` tries more files.
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
from fastopt._util.array_tree import sha256

FILES = int(os.environ.get("FASTOPT_HOSTILE_FILES", "100"))  # changed files of each format
SUFFIXES = [".npz", ".safetensors"]


def run(seed):
    """Return objects that a checkpoint is loaded into."""
    params = {"w": np.full((4, 5), 1.0 + seed, np.float32), "b": np.full(3, seed)}
    optimizer = fastopt.Momentum(params, lr=fastopt.schedules.Plateau(0.1), ema_decay=0.5)
    early_stopping, schedule = fastopt.EarlyStopping(), fastopt.schedules.Plateau(0.5)
    for step in range(1 + int(seed)):
        optimizer.step({"w": np.ones((4, 5), np.float32), "b": np.ones(3) if step else None})  # it has missed a step
        early_stopping.update(2.0 - step, params)
    return {"params": params, "optimizer": optimizer, "early_stopping": early_stopping, "schedule": schedule}


def state_of(things):
    states = (things[name].state_dict() for name in ("optimizer", "early_stopping", "schedule"))
    return digest(things["params"], *states)


class Target:
    """Load files and check what each changed."""

    def __init__(self, folder, suffix):
        if suffix == ".safetensors":
            pytest.importorskip("safetensors")
        self.file, self.things = folder / f"run{suffix}", run(0.0)
        saved = run(2.0)
        fastopt.save(self.file, **saved, arrays={"order": np.arange(5)}, metadata={"epoch": 3})
        self.good, self.whole, self.before = self.file.read_bytes(), state_of(saved), state_of(self.things)

    def load(self, content):
        """Load a file and return the error, if any, after checking that nothing changed and memory was bounded."""
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
            assert self.file.name in str(error)  # on Windows, OSError doubles the backslashes of a path
            assert state_of(self.things) == self.before
        return error

    def rejects(self, content, message):
        """Check that a file is rejected with a message."""
        error = self.load(content)
        assert error is not None
        assert re.search(message, str(error)), error


@pytest.fixture
def target(request, tmp_path):
    tracemalloc.start()
    yield Target(tmp_path, request.param)
    tracemalloc.stop()


both = pytest.mark.parametrize("target", SUFFIXES, indirect=True)
npz = pytest.mark.parametrize("target", [".npz"], indirect=True)


def changed(good, rng):
    """Return a file with some bytes changed, removed, duplicated or overwritten."""
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
def test_changed_bytes_are_detected_or_irrelevant(target):
    """A load that succeeds, because the bytes were the date of a member, for example, restores what was saved."""
    rng, loaded = np.random.default_rng(0), 0
    target.rejects(target.good[:-1], "cannot load")
    for _ in range(FILES):
        if target.load(changed(target.good, rng)) is None:
            loaded += 1
            assert state_of(target.things) == target.whole
            assert (target.found.metadata, target.found.arrays["order"].tolist()) == ({"epoch": 3}, [0, 1, 2, 3, 4])
            target.things = run(0.0)
    assert loaded < FILES / 2
    assert target.load(target.good) is None
    assert state_of(target.things) == target.whole


# Changed headers with correct digests


def header_of(content):
    """Return the header of a valid .npz file."""
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
    """Return a file with another header, which is a text or is converted to JSON."""
    text = header if isinstance(header, str) else json.dumps(header)
    text = f"{sha256(text)} {text}"
    return packed({**members(content), "fastopt.npy": npy(np.frombuffer(text.encode(), np.uint8))})


def places(thing, path=()):
    """Yield the paths of all nodes of a header."""
    yield path
    items = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, own in items:
        yield from places(own, (*path, key))


JUNK = ["junk", {"junk": []}, [[]], {"__array__": 10**9}, {"__array__": -1000}, {"__array__": 0}, 1e999, -1, 2**70]


@npz
@pytest.mark.parametrize("junk_values", [JUNK[::4], pytest.param(JUNK, marks=pytest.mark.slow)], ids=["some", "all"])
def test_header_with_junk_in_any_place_is_rejected(target, junk_values):
    header, tried = header_of(target.good), 0
    assert target.load(with_header(target.good, header)) is None
    target.things = run(0.0)
    for path in places(header):
        if path[:1] == ("metadata",) or path == ():
            continue
        for junk in junk_values:
            other = json.loads(json.dumps(header))
            *outer, last = path
            inside = other
            for key in outer:
                inside = inside[key]
            if inside[last] == junk:
                continue
            inside[last] = junk
            error = target.load(with_header(target.good, other))
            if error is None:  # an unrestricted number, such as the best metric, or another reference to an array
                # The best parameters may be any tree, also one without arrays, until they are restored.
                is_tree = path[:3] == ("tree", "early_stopping", "params") and junk in ({"junk": []}, [[]])
                assert is_tree or junk in ({"__array__": 0}, -1, 1e999, 2**70), path
                target.things = run(0.0)
            tried += 1
    assert tried > 40 * len(junk_values)


DEEP = "[" * 100_000 + "]" * 100_000
HEADERS = {
    "not JSON": ("junk", "Expecting value"),
    "deep": (DEEP, "Recursion"),
    "deep in the tree": (f'{{"format": 1, "metadata": 0, "arrays": [], "tree": {{"x": {DEEP}}}}}', "Recursion"),
    "a list": ([], "the header is malformed"),
    "another format": ({"format": 2, "arrays": [], "tree": {}, "metadata": None}, "the format must be 1 .*, got 2"),
    "no format": ({"arrays": []}, "the header is malformed"),
    "a giant number": ('{"format": ' + "9" * 10_000 + "}", "cannot load"),
    "no arrays": ({"format": 1, "arrays": [], "tree": {}, "metadata": None}, "differ from those of its header"),
}


@npz
@pytest.mark.parametrize("name", HEADERS)
def test_malformed_header_is_rejected(name, target):
    header, message = HEADERS[name]
    target.rejects(with_header(target.good, header), message)


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
def test_wrong_dtype_or_shape_in_the_header_is_rejected(column, wrong, target):
    header = header_of(target.good)
    row = next(row for row in header["arrays"] if row[0] == "params/w")
    row[column] = wrong
    target.rejects(with_header(target.good, header), "cannot load")


class Bomb:
    """Exits when it is unpickled."""

    def __reduce__(self):
        return os._exit, (99,)


def malicious_files(good):
    """Return malicious files by name, with the expected messages."""
    parts = members(good)
    w, giant = "params/w.npy", npy(np.zeros(1, np.float32)).replace(b"(1,)", b"(9" + b"9" * 17 + b",)")
    renamed = {("../../../tmp/x.npy" if name == w else name): part for name, part in parts.items()}
    with_objects = npy(np.array([Bomb()], object), allow_pickle=True)
    doubled = io.BytesIO(packed(parts))
    with zipfile.ZipFile(doubled, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(w, npy(np.ones((4, 5), np.float32)))
    false_sizes = bytearray(packed(parts))
    at = false_sizes.rindex(b"PK\1\2")
    false_sizes[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)  # the sizes of the last member
    encrypted = bytearray(packed(parts))
    at = encrypted.index(b"PK\1\2")
    encrypted[at + 8] |= 1
    return {
        "empty": (b"", "cannot load"),
        "a pickle": (b"\x80\x04c", "cannot load"),
        "an empty archive": (packed({}), "has no member 'fastopt'"),
        "one array alone": (npy(np.zeros(3)), "not a zip file"),
        "another archive": (packed({"params/w.npy": parts[w]}), "has no member 'fastopt'"),
        "a path": (packed(renamed), "differ from those of its header"),
        "an additional member": (packed({**parts, "more.npy": parts[w]}), "differ from those of its header"),
        "a missing member": (
            packed({name: part for name, part in parts.items() if name != w}),
            "differ from those of its header: params/w",
        ),
        "a member twice": (doubled.getvalue(), "SHA-256|larger"),
        "an archive inside": (packed({**parts, w: good}), r"'params/w.npy' must have dtype float32 .*, got \d+ bytes"),
        "objects": (packed({**parts, w: with_objects}), r"'params/w.npy' must have dtype float32 .*, got \d+ bytes"),
        "a giant header": (packed({**parts, w: giant}), r"'params/w.npy' must have dtype float32 .*, got \d+ bytes"),
        "Fortran order": (packed({**parts, w: npy(np.ones((4, 5), "f", order="F"))}), "got another .npy header"),
        "other numbers": (packed({**parts, w: npy(np.ones((4, 5), "f"))}), "'params/w' does not match its SHA-256"),
        "compressed": (packed(parts, zipfile.ZIP_DEFLATED), "compressed|larger"),
        "a bomb": (packed({**parts, "x.npy": bytes(10**8)}, zipfile.ZIP_DEFLATED), "larger than the file"),
        "a false size": (bytes(false_sizes), "larger than the file"),
        "encrypted": (bytes(encrypted), "encrypted"),
    }


@npz
@pytest.mark.parametrize("last", [False, True], ids=["another member", "the directory"])
def test_members_that_begin_at_the_same_place_are_rejected(last, target):
    """Since Python 3.13, zipfile warns of them."""
    content = bytearray(target.good)
    first, *_, second = (found.start() for found in re.finditer(b"PK\x01\x02", content))
    offset = first if last else struct.unpack_from("<I", content, second + 42)[0]
    struct.pack_into("<I", content, first + 42, offset)
    target.rejects(bytes(content), "two members begin at the same place")


@npz
def test_stored_member_with_a_huge_compressed_size_is_rejected(target):
    content = bytearray(target.good)
    content[content.index(b"PK\x01\x02") + 23] |= 0x40  # 2^30 bytes, in the entry of the first member
    target.rejects(bytes(content), "a member is compressed or encrypted")


@npz
def test_malicious_npz_is_rejected(target):
    cases = malicious_files(target.good)
    for content, message in cases.values():
        target.rejects(content, message)
    assert len(cases) > 15


SAFETENSORS = {
    "a header beyond the file": struct.pack("<Q", 2**60) + b"{}",
    "no header": struct.pack("<Q", 0),
    "no JSON": struct.pack("<Q", 4) + b"junk",
    "deep": struct.pack("<Q", len(DEEP)) + DEEP.encode(),
    "without text": struct.pack("<Q", 2) + b"{}",
    "offsets beyond": b'{"x":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}',
    "a dtype that NumPy lacks": b'{"params/w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}',
}


@pytest.mark.parametrize("name", SAFETENSORS)
@pytest.mark.parametrize("target", [".safetensors"], indirect=True)
def test_malicious_safetensors_is_rejected(name, target):
    content = SAFETENSORS[name]
    if content[:1] == b"{":
        content = struct.pack("<Q", len(content)) + content + b"\0\0"
    target.rejects(content, "cannot load")


@pytest.mark.parametrize("target", [".safetensors"], indirect=True)
def test_changed_safetensors_header_is_rejected(target):
    """The digest of the text is wrong, or arrays have another dtype or shape than in it."""
    size = struct.unpack("<Q", target.good[:8])[0]
    header, data = json.loads(target.good[8 : 8 + size]), target.good[8 + size :]

    def rejected(header, message):
        text = json.dumps(header).encode()
        target.rejects(struct.pack("<Q", len(text)) + text + data, message)

    for change, message in [
        (lambda h: h["params/w"].update(shape=[5, 4]), r"must have dtype float32 and shape \(4, 5\)"),
        (lambda h: h["params/w"].update(dtype="I32"), "got int32"),
        (lambda h: h["params/w"].update(dtype="BF16", shape=[8, 5]), "cannot load"),
        (lambda h: h.update(other=h.pop("params/w")), "cannot load"),
        (
            lambda h: h["__metadata__"].update(fastopt=h["__metadata__"]["fastopt"][:-1]),
            "the header does not match its SHA-256",
        ),
        (lambda h: h["__metadata__"].clear(), "the file's metadata have no 'fastopt'"),
    ]:
        other = json.loads(json.dumps(header))
        change(other)
        rejected(other, message)
