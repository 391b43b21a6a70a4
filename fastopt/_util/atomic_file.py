"""Files of named arrays and a text: written so that a crash leaves the old one whole, read without trust."""

from __future__ import annotations

import errno
import fcntl
import io
import math
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np

from fastopt._util.arrays import Array

TEXT = "fastopt"  # the name that the text goes by
BLOCK = 2**20  # bytes that are read or written at a time

Shape: TypeAlias = "tuple[int, ...]"


class Contents(NamedTuple):
    """What an open file has: a text, the names of its arrays, and how to read one, of a dtype and a shape."""

    text: str
    names: set[str]
    array: Callable[[str, np.dtype[Any], Shape], Array]


class Container(NamedTuple):
    """A format: how C-contiguous arrays and a text are written, and how a file is opened to read them.

    Reading raises ``ValueError`` for a file that can't be used, and takes no more memory than an array of the file has
    bytes, whatever the file says of itself.
    """

    write: Callable[[IO[bytes], Mapping[str, Array], str], None]
    open: Callable[[Path], Any]


# .npz: what numpy.load reads, too. Nothing is compressed, and no array's header is parsed: what it must be is known.


def _write_npz(file: IO[bytes], arrays: Mapping[str, Array], text: str) -> None:
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in {TEXT: np.frombuffer(text.encode(), np.uint8), **arrays}.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    member.write(_npy_head(array.dtype, array.shape))
                    content = array.reshape(-1).view(np.uint8).data
                    for begin in range(0, len(content), BLOCK):
                        member.write(content[begin : begin + BLOCK])
    except ValueError as error:  # of closing the archive, where a signal came just as a member was opened
        raise error.__context__ or error from None


@contextmanager
def _open_npz(path: Path) -> Iterator[Contents]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if sum(member.file_size for member in archive.infolist()) > os.fstat(file.fileno()).st_size:
                raise ValueError("its members are larger than the file")
            if any(member.compress_type or member.flag_bits & 1 for member in members.values()):
                raise ValueError("a member is compressed or encrypted")

            def array(name: str, dtype: np.dtype[Any], shape: Shape) -> Array:
                if name not in members:
                    raise ValueError(f"it has no member {name!r}")
                return _read_npy(archive, members[name], dtype, shape)

            text = members.get(TEXT)
            if text is None:
                raise ValueError(f"it has no member {TEXT!r}")
            size = text.file_size - len(_npy_head(np.dtype(np.uint8), (text.file_size,)))
            decoded = array(TEXT, np.dtype(np.uint8), (max(size, 0),)).tobytes().decode()
            yield Contents(decoded, set(members) - {TEXT}, array)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:  # all that zipfile raises
        raise ValueError(str(error)) from None


def _npy_head(dtype: np.dtype[Any], shape: Shape) -> bytes:
    """Give what stands before the numbers in an .npy file: a whole number of 64 bytes."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return head.getvalue()


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: np.dtype[Any], shape: Shape) -> Array:
    head, size = _npy_head(dtype, shape), math.prod(shape) * dtype.itemsize
    if member.file_size != len(head) + size:
        raise ValueError(f"{member.filename!r} has {member.file_size} bytes; wants {dtype} of shape {shape}")
    array = np.empty(shape, dtype)
    content = array.reshape(-1).view(np.uint8).data
    with archive.open(member) as file:
        if file.read(len(head)) != head:
            raise ValueError(f"{member.filename!r} has another header than that of {dtype} of shape {shape}")
        for begin in range(0, size, BLOCK):
            part = content[begin : begin + BLOCK]
            part[:] = file.read(len(part))
    return array


# .safetensors


def _safetensors() -> Any:
    try:
        import safetensors.numpy  # noqa: PLC0415  an extra
    except ImportError:
        raise ImportError('a .safetensors file needs that package: pip install "fastopt[safetensors]"') from None
    return safetensors


def _write_safetensors(file: IO[bytes], arrays: Mapping[str, Array], text: str) -> None:
    file.write(_safetensors().numpy.save(dict(arrays), {TEXT: text}))


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Contents]:
    safetensors = _safetensors()
    with path.open("rb"):  # which says what it is where there is none to be read
        pass
    try:
        with safetensors.safe_open(path, "numpy") as file:

            def array(name: str, dtype: np.dtype[Any], shape: Shape) -> Array:
                found: Array = file.get_tensor(name)
                if found.dtype != dtype or found.shape != shape:
                    raise ValueError(f"{name!r} is {found.dtype} of shape {found.shape}; wants {dtype} of {shape}")
                return found

            metadata = file.metadata() or {}
            if TEXT not in metadata:
                raise ValueError(f"its metadata have no {TEXT!r}")
            yield Contents(metadata[TEXT], set(file.keys()), array)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


CONTAINERS = {
    ".npz": Container(_write_npz, _open_npz),
    ".safetensors": Container(_write_safetensors, _open_safetensors),
}


# A file that takes the place of another


_writers: set[tuple[str, int, int]] = set()  # files, by what hashes without Python code, and who writes them


def replace(path: Path, keep: int, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file that, once it is whole and on the disk, takes the place of another, of which ``keep`` - 1 stay.

    Until then it has a name of its own in the same folder, which goes when an exception comes; what a killed process
    left there is written over by the next. Others that want to write the same file wait. No generators here: what the
    traceback of a Ctrl-C holds of them would stay open, and locked, for those who save because of it.
    """
    mine = str(path), os.getpid(), get_ident()  # a child's threads have the numbers of its parent's
    if mine in _writers:  # a signal handler, which would wait for what it has interrupted
        raise OSError(errno.EDEADLK, "This thread is saving there already", str(path))
    try:
        _writers.add(mine)
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "There is something that is no file", str(path))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _replace(path, keep, write)
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise named(error, path) from error
    finally:
        _writers.discard(mine)


def _replace(path: Path, keep: int, write: Callable[[IO[bytes]], None]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    file = _locked(temporary)
    try:
        file.truncate(0)
        write(file)
        file.flush()
        with suppress(FileNotFoundError):
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
        os.fsync(file.fileno())
        _rotate(path, keep)
        temporary.replace(path)
    except BaseException:
        if _is_at(file, temporary):
            temporary.unlink()
        raise
    finally:
        file.close()


def named(error: OSError, path: Path) -> OSError:
    """Give an error that names a file, as that of a full disk does not; what a signal raised stays what it is."""
    known = error.filename is not None or error.errno is None
    return error if known else OSError(error.errno, error.strerror, str(path))


def _locked(path: Path) -> IO[bytes]:
    """Open a file that nobody else has open here, new or as it is."""
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+b")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):  # else who had it has renamed it
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def older(path: Path, i: int) -> Path:
    """Name the i-th file before this one: model.npz, model.1.npz, model.2.npz."""
    return path.with_name(f"{path.stem}.{i}{path.suffix}") if i else path


def _rotate(path: Path, keep: int) -> None:
    free = next((i for i in range(1, keep) if not older(path, i).exists()), keep - 1)  # or the eldest, which goes
    for i in range(free, 1, -1):
        with suppress(FileNotFoundError):  # somebody took it away meanwhile
            older(path, i - 1).replace(older(path, i))
    if keep > 1 and path.exists():
        second = path.with_name(f".{path.name}.old")
        second.unlink(missing_ok=True)
        try:
            second.hardlink_to(path)  # so that there is a file of this name at any time
        except OSError:  # a file system without them, or somebody else's file
            shutil.copy2(path, second)
        second.replace(older(path, 1))
