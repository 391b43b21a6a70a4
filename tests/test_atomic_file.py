"""Checkpoint files: what happens to the old one, to older ones, and beside others who save."""

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

import fastopt
from fastopt import checkpoint
from fastopt._util import atomic_file as files


def saved_numbers(folder):
    return {path.name: int(fastopt.load(path).values) for path in folder.iterdir()}


def test_older_files_stay_as_many_as_wanted(file):
    for number in range(6):
        fastopt.save(file, values=number, keep=3)
    names = [f"run{part}{file.suffix}" for part in ("", ".1", ".2")]
    assert saved_numbers(file.parent) == dict(zip(names, (5, 4, 3), strict=True))
    fastopt.save(file, values=6)
    assert saved_numbers(file.parent) == dict(zip(names, (6, 4, 3), strict=True))
    (file.parent / names[1]).unlink()
    fastopt.save(file, values=7, keep=2**60)  # a gap is filled first, and places without a file cost no time
    assert saved_numbers(file.parent) == dict(zip(names, (7, 6, 3), strict=True))


def test_a_file_system_without_hard_links(file, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    for number in range(3):
        fastopt.save(file, values=number, keep=2)
    assert saved_numbers(file.parent) == {f"run{file.suffix}": 2, f"run.1{file.suffix}": 1}


def test_permissions_and_links_stay(file):
    umask = os.umask(0o027)
    try:
        fastopt.save(file, values=0)
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        file.chmod(0o604)
        link = file.with_name(f"link{file.suffix}")
        link.symlink_to(file.name)
        fastopt.save(link, values=1)
    finally:
        os.umask(umask)
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    assert fastopt.load(file).values == 1


def test_a_link_says_what_the_file_is(file):
    """Whatever the file that it leads to is called."""
    link, data = file.with_name(f"link{file.suffix}"), file.with_name("data")
    link.symlink_to(data)
    fastopt.save(link, values=1)
    assert sorted(path.name for path in file.parent.iterdir()) == ["data", link.name]
    assert fastopt.load(link).values == 1


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)], ids=["folder", "fifo", "loop"]
)
def test_what_is_no_file_is_not_replaced(make, file):
    make(file)
    with pytest.raises(FileExistsError, match=f"no file: '{re.escape(str(file))}'"):
        fastopt.save(file, values=1)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert not file.is_file()


def test_what_a_signal_raises_stays_what_it_is(file, monkeypatch):
    def fail(*_):
        raise TimeoutError("it takes too long")

    monkeypatch.setitem(checkpoint.CONTAINERS, file.suffix, files.Container(fail, fail))
    for call in (lambda: fastopt.save(file), lambda: fastopt.load(file)):
        with pytest.raises(TimeoutError, match="it takes too long"):
            call()


def test_what_a_killed_process_left_is_written_over(file):
    left = file.with_name(f".{file.name}.tmp")
    left.write_bytes(b"x" * 10**6)
    fastopt.save(file, values=1)
    assert fastopt.load(file).values == 1
    assert not left.exists()


def test_an_error_while_it_writes_leaves_the_old_file(file, monkeypatch):
    fastopt.save(file, values=1, keep=2)
    before = file.read_bytes()

    def fail(file, arrays, text):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(checkpoint.CONTAINERS, file.suffix, files.Container(fail, files.CONTAINERS[file.suffix].open))
    with pytest.raises(KeyboardInterrupt):
        fastopt.save(file, values=2, keep=2)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_those_who_save_at_once_wait_for_each_other(file):
    def work(first):
        for number in range(first, first + 20):
            fastopt.save(file, arrays={"x": np.full(3000, number)}, values=number, keep=2)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if file.exists():
            found = fastopt.load(file)
            assert (found.arrays["x"] == found.values).all()
    assert fastopt.load(file).values % 100 == 19
    assert {path.name for path in file.parent.iterdir()} == {f"run{file.suffix}", f"run.1{file.suffix}"}


FULL = """
import resource, sys
import numpy as np, fastopt
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fastopt.save(sys.argv[1], arrays={"x": np.zeros(10**5)}, values=2)
except OSError as error:
    print(type(error).__name__, error)
"""
UNWRITABLE = """
import os, sys
import fastopt
if os.geteuid() == 0:
    os.setuid(65534)
try:
    fastopt.save(sys.argv[1], values=2)
except OSError as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_leaves_the_old_file(file):
    fastopt.save(file, values=1)
    done = subprocess.run([sys.executable, "-c", FULL, file], capture_output=True, text=True, check=True)
    assert re.search(rf"OSError .*File too large: '{re.escape(str(file))}'", done.stdout)
    assert saved_numbers(file.parent) == {file.name: 1}


def test_a_folder_that_can_not_be_written_to(file):
    fastopt.save(file, values=1)
    for folder in [file.parent, *file.parent.parents][:3]:
        folder.chmod(0o755)  # for another user to come in
    file.parent.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", UNWRITABLE, file], capture_output=True, text=True, check=True)
    file.parent.chmod(0o755)
    assert re.search(rf"PermissionError .*{re.escape(str(file.parent))}", done.stdout)
    assert saved_numbers(file.parent) == {file.name: 1}
    with pytest.raises(FileNotFoundError, match="no such folder"):
        fastopt.save(file.parent / "no such folder" / file.name, values=1)


# Signals


@leaves_files_open
@pytest.mark.parametrize("links", [True, False], ids=["with links", "without"])
def test_an_interrupted_save_leaves_one_file_or_the_other(links, file, monkeypatch):
    """And can be followed by another, in the handler of its exception."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: os.link("/", "/"))
    fastopt.save(file, values=0)
    rng, caught, number = np.random.default_rng(0), 0, 0
    for number in range(1, 301):
        try:
            with interrupts(rng.uniform(1e-5, 2e-3)):
                fastopt.save(file, values=number, keep=2)
        except KeyboardInterrupt:
            caught += 1
            assert fastopt.load(file).values in {number - 1, number}
            fastopt.save(file, values=number)
        assert fastopt.load(file).values == number
    gc.collect()
    assert caught > 30


def test_a_signal_handler_may_not_save_what_it_interrupts(file):
    """It would wait for itself."""
    refused = []

    def handler(*_):
        try:
            fastopt.save(file, values="handler")
        except OSError as error:
            refused.append(str(error))

    before = signal.signal(signal.SIGALRM, handler)
    rng = np.random.default_rng(0)
    try:
        for _ in range(200):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 5e-3))
            fastopt.save(file, values="interrupted", arrays={"x": np.zeros(100_000)})
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert any("saving there already" in text for text in refused)
    assert fastopt.load(file).values in {"interrupted", "handler"}  # which came behind it
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_saver_takes_away_no_file_but_its_own(file, monkeypatch):
    """Another has begun to save, for the name was free."""
    other = file.with_name(f".{file.name}.tmp")

    def fail(own, arrays, text):
        other.unlink()
        other.write_bytes(b"of another")
        raise KeyboardInterrupt

    monkeypatch.setitem(checkpoint.CONTAINERS, file.suffix, files.Container(fail, fail))
    with pytest.raises(KeyboardInterrupt):
        fastopt.save(file, values=1)
    assert other.read_bytes() == b"of another"


def test_what_changes_while_it_is_saved_is_not_saved(file, monkeypatch):
    fastopt.save(file, values=1)
    x, container = np.zeros(1000), files.CONTAINERS[file.suffix]

    def write(own, arrays, text):
        container.write(own, arrays, text)
        x[5] = 1

    monkeypatch.setitem(checkpoint.CONTAINERS, file.suffix, files.Container(write, container.open))
    with pytest.raises(RuntimeError, match="arrays/x has changed while it was saved"):
        fastopt.save(file, arrays={"x": x})
    assert saved_numbers(file.parent) == {file.name: 1}
