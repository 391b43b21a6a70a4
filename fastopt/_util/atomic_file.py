"""Replace a file atomically and keep older versions of it."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO


def replace(path: Path, keep: int, write: Callable[[IO[bytes]], None]) -> None:
    """Replace a file by what ``write`` writes, so that a crash leaves the old or the new file whole.

    The new content is written to a temporary file in the same directory, flushed to the disk and renamed. An exception
    removes the temporary file; that of a killed process is removed by the next call. The last ``keep`` versions are
    kept, including this one. Calls for the same file wait for each other, in other processes too.

    Do not use ``@contextmanager`` here: the traceback of a `KeyboardInterrupt` keeps the generator's frame alive, and
    with it the lock, while the user's handler saves again.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))
    temporary, lock_path = (path.with_name(f".{path.name}.{suffix}") for suffix in ("tmp", "lock"))
    lock = _open_locked(lock_path)
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "x+b") as file:
            write(file)
            file.flush()
            if path.exists():
                temporary.chmod(path.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        _rotate(path, keep)
        _rename(temporary, path)
    finally:
        try:
            if _is_at(lock, lock_path):  # else it was deleted, and the names may belong to another call
                temporary.unlink(missing_ok=True)
                _delete_lock(lock_path)
        finally:
            lock.close()  # also after an interrupt here, whose traceback would keep it locked
    _flush_directory(path.parent)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _open_locked(path: Path) -> IO[bytes]:
        """Create a file, which Windows deletes when it is closed; wait while another call has it open."""
        while True:
            try:
                return open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_TEMPORARY), "rb")
            except FileExistsError:  # noqa: PERF203
                time.sleep(0.01)

    def _delete_lock(path: Path) -> None:
        """Do nothing: closing deletes the file."""

    def _rename(path: Path, target: Path) -> None:
        """Rename a file; try for a second, because Windows refuses while another call looks at the target."""
        for _ in range(100):
            try:
                path.replace(target)
            except PermissionError:  # noqa: PERF203
                time.sleep(0.01)
            else:
                return
        path.replace(target)

    def _flush_directory(path: Path) -> None:
        """Do nothing: Windows cannot open a directory, and NTFS keeps a journal of names."""

else:
    import fcntl

    def _open_locked(path: Path) -> IO[bytes]:
        """Open a file, or create it, and lock it; wait while another call has it locked."""
        while True:
            file = open(os.open(path, os.O_CREAT | os.O_NOFOLLOW, 0o666), "rb")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is_at(file, path):  # else the previous holder of the lock has deleted it
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _delete_lock(path: Path) -> None:
        path.unlink()

    def _rename(path: Path, target: Path) -> None:
        path.replace(target)

    def _flush_directory(path: Path) -> None:
        """Flush the names in a directory to the disk, else a power failure may undo the renaming."""
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _version(path: Path, i: int) -> Path:
    """Return the path of the i-th version before this one: model.npz, model.1.npz, model.2.npz."""
    return path.with_name(f"{path.stem}.{i}{path.suffix}") if i else path


def _rotate(path: Path, keep: int) -> None:
    """Move each version one place on, up to the first free place, and let the newest keep its name too."""
    # The first free number, else the number of the oldest version.
    free = next((i for i in range(1, keep) if not _version(path, i).exists()), keep - 1)
    for i in range(free, 1, -1):
        _rename(_version(path, i - 1), _version(path, i))
    if keep > 1 and path.exists():
        link = path.with_name(f".{path.name}.old")
        link.unlink(missing_ok=True)
        try:
            link.hardlink_to(path)  # renaming would leave a moment without a file at this path
        except OSError:  # the file system has no hard links
            shutil.copy2(path, link)
        _rename(link, _version(path, 1))
