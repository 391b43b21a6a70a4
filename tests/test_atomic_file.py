"""Atomic replacement of checkpoint files: older versions, errors, interrupts and concurrent saves."""

from __future__ import annotations

import gc
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from interrupts import interrupts, leaves_files_open
from processes import needs_posix

import fastopt
from fastopt._util import atomic_file
from fastopt._util.array_file import FORMATS, Format


def saved_numbers(directory):
    return {path.name: int(fastopt.load(path).metadata) for path in directory.iterdir()}


def test_keep_older_versions(file):
    for number in range(6):
        fastopt.save(file, metadata=number, keep=3)
    names = [f"run{part}{file.suffix}" for part in ("", ".1", ".2")]
    assert saved_numbers(file.parent) == dict(zip(names, (5, 4, 3), strict=True))
    fastopt.save(file, metadata=6)
    assert saved_numbers(file.parent) == dict(zip(names, (6, 4, 3), strict=True))
    (file.parent / names[1]).unlink()
    fastopt.save(file, metadata=7, keep=2**60)  # a gap is filled first, and a large keep costs no time
    assert saved_numbers(file.parent) == dict(zip(names, (7, 6, 3), strict=True))


def test_file_system_without_hard_links(file, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    for number in range(3):
        fastopt.save(file, metadata=number, keep=2)
    assert saved_numbers(file.parent) == {f"run{file.suffix}": 2, f"run.1{file.suffix}": 1}


@needs_posix
def test_permissions_and_symbolic_links_are_kept(file):
    umask = os.umask(0o027)
    try:
        fastopt.save(file, metadata=0)
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        file.chmod(0o604)
        link = file.with_name(f"link{file.suffix}")
        link.symlink_to(file.name)
        fastopt.save(link, metadata=1)
    finally:
        os.umask(umask)
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    assert fastopt.load(file).metadata == 1


@needs_posix
def test_suffix_of_a_symbolic_link_selects_the_format(file):
    link, data = file.with_name(f"link{file.suffix}"), file.with_name("data")
    link.symlink_to(data)
    fastopt.save(link, metadata=1)
    assert sorted(path.name for path in file.parent.iterdir()) == ["data", link.name]
    assert fastopt.load(link).metadata == 1


@pytest.mark.parametrize("kind", ["mkdir", pytest.param("mkfifo", marks=needs_posix)])
def test_only_regular_files_are_replaced(kind, file):
    getattr(os, kind)(file)
    with pytest.raises(FileExistsError, match=rf"Not a regular file: {re.escape(repr(str(file)))}"):
        fastopt.save(file, metadata=1)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert not file.is_file()


def test_exception_of_a_signal_handler_is_passed_on(file, monkeypatch):
    def fail(*_):
        raise TimeoutError("time limit")

    monkeypatch.setitem(FORMATS, file.suffix, Format(fail, fail))
    for call in (lambda: fastopt.save(file, metadata=1), lambda: fastopt.load(file)):
        with pytest.raises(TimeoutError, match=r"^time limit$"):
            call()


def test_temporary_file_of_a_killed_process_is_overwritten(file):
    left = file.with_name(f".{file.name}.tmp")
    left.write_bytes(b"x" * 10**6)
    fastopt.save(file, metadata=1)
    assert fastopt.load(file).metadata == 1
    assert not left.exists()


def test_failed_save_leaves_the_old_file(file, monkeypatch):
    fastopt.save(file, metadata=1, keep=2)
    before = file.read_bytes()

    def fail(file, arrays, text):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(FORMATS, file.suffix, Format(fail, FORMATS[file.suffix].open))
    with pytest.raises(KeyboardInterrupt):
        fastopt.save(file, metadata=2, keep=2)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


SAVE_20 = """
import sys
import numpy as np, fastopt
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 20):
    fastopt.save(sys.argv[1], arrays={"x": np.full(3000, number)}, metadata=number, keep=2)
"""


def test_concurrent_saves_wait_for_each_other(file):
    """In two other processes and two threads of this one."""
    processes = [subprocess.Popen([sys.executable, "-c", SAVE_20, file, str(100 * i)]) for i in range(2)]

    def work(first):
        for number in range(first, first + 20):
            fastopt.save(file, arrays={"x": np.full(3000, number)}, metadata=number, keep=2)

    threads = [threading.Thread(target=work, args=(first,)) for first in (200, 300)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or any(process.poll() is None for process in processes):
        # Windows neither opens a file that is being replaced nor replaces one that is open.
        if os.name == "posix" and file.exists():
            found = fastopt.load(file)
            assert (found.arrays["x"] == found.metadata).all()
    assert [process.returncode for process in processes] == [0, 0]
    assert fastopt.load(file).metadata % 100 == 19
    assert {path.name for path in file.parent.iterdir()} == {f"run{file.suffix}", f"run.1{file.suffix}"}


FULL = """
import resource, sys
import numpy as np, fastopt
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fastopt.save(sys.argv[1], arrays={"x": np.zeros(10**5)}, metadata=2)
except OSError as error:
    print(type(error).__name__, error)
"""
UNWRITABLE = """
import os, sys
import fastopt
fastopt.load(sys.argv[1])  # imports the modules that the other user may not be able to read
if os.geteuid() == 0:
    os.setuid(65534)
try:
    fastopt.save(sys.argv[1], metadata=2)
except OSError as error:
    print(type(error).__name__, error)
"""


@needs_posix
def test_full_disk_leaves_the_old_file(file):
    fastopt.save(file, metadata=1)
    done = subprocess.run([sys.executable, "-c", FULL, file], capture_output=True, text=True, check=True)
    assert re.search(rf"OSError .*File too large: '{re.escape(str(file))}'", done.stdout)
    assert saved_numbers(file.parent) == {file.name: 1}


@needs_posix
def test_read_only_or_missing_directory(file):
    fastopt.save(file, metadata=1)
    for directory in [file.parent, *file.parent.parents][:3]:
        directory.chmod(0o755)  # so that another user can enter
    file.parent.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", UNWRITABLE, file], capture_output=True, text=True, check=True)
    file.parent.chmod(0o755)
    assert re.search(rf"PermissionError .*{re.escape(str(file.parent))}", done.stdout)
    assert saved_numbers(file.parent) == {file.name: 1}
    with pytest.raises(FileNotFoundError, match="missing"):
        fastopt.save(file.parent / "missing" / file.name, metadata=1)


@leaves_files_open
@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_interrupted_save_leaves_the_old_or_the_new_file(links, file, monkeypatch):
    """And the handler of the exception can save again."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: os.link("/", "/"))
    fastopt.save(file, metadata=0)
    rng, caught, number = np.random.default_rng(0), 0, 0
    for number in range(1, 101):
        try:
            with interrupts(rng.uniform(1e-5, 2e-3)):
                fastopt.save(file, metadata=number, keep=2)
        except (KeyboardInterrupt, ValueError) as error:
            # zipfile raises ValueError when it closes an archive after an interrupt within the opening of a member.
            if KeyboardInterrupt not in {type(error), type(error.__context__)}:
                raise
            caught += 1
            assert fastopt.load(file).metadata in {number - 1, number}
            fastopt.save(file, metadata=number)
        assert fastopt.load(file).metadata == number
    gc.collect()
    assert caught > 10


def test_save_follows_an_interrupt_of_the_cleanup(file, monkeypatch):
    """The exception, which a handler may keep, does not keep the lock."""

    def interrupt(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, "_delete_lock", interrupt)
        with pytest.raises(KeyboardInterrupt) as kept:
            fastopt.save(file, metadata=1)
    fastopt.save(file, metadata=2)
    assert kept.value.__traceback__
    assert saved_numbers(file.parent) == {file.name: 2}


@needs_posix
def test_signal_handler_cannot_save_an_optimizer_in_use(file):
    optimizer = fastopt.SGD(np.zeros(100_000))
    rng, refused = np.random.default_rng(0), []

    def handler(*_):
        try:
            fastopt.save(file, optimizer=optimizer, metadata="handler")
        except RuntimeError as error:
            refused.append(str(error))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(50):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 5e-3))
            fastopt.save(file, optimizer=optimizer, arrays={"x": np.zeros(100_000)}, metadata="interrupted")
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert any("in use" in text for text in refused)
    assert fastopt.load(file).metadata in {"interrupted", "handler"}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@needs_posix
def test_failed_save_removes_only_its_own_files(file, monkeypatch):
    """Its files were deleted, and another save has begun."""
    others = [file.with_name(f".{file.name}.{suffix}") for suffix in ("lock", "tmp")]

    def fail(own, arrays, text):
        for other in others:
            other.unlink()
            other.write_bytes(b"of another save")
        raise KeyboardInterrupt

    monkeypatch.setitem(FORMATS, file.suffix, Format(fail, fail))
    with pytest.raises(KeyboardInterrupt):
        fastopt.save(file, metadata=1)
    assert [other.read_bytes() for other in others] == [b"of another save"] * 2


def test_save_rejects_arrays_that_change_meanwhile(file, monkeypatch):
    fastopt.save(file, metadata=1)
    x, original = np.zeros(1000), FORMATS[file.suffix]

    def write(own, arrays, text):
        original.write(own, arrays, text)
        x[5] = 1

    monkeypatch.setitem(FORMATS, file.suffix, Format(write, original.open))
    with pytest.raises(RuntimeError, match="arrays/x changed while it was saved"):
        fastopt.save(file, arrays={"x": x})
    assert saved_numbers(file.parent) == {file.name: 1}
