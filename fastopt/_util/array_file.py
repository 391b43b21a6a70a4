"""Write and read files of named arrays and a text, as ``.npz`` or ``.safetensors``.

Files are not trusted. The reader states the dtype and shape that each array must have; a file that disagrees raises
`ValueError`, and reading an array takes no more memory than its bytes in the file.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from fastopt._util.arrays import Array, Shape

TEXT = "fastopt"  # name of the text in the file
BLOCK = 2**20  # bytes read at a time


class OpenFile(NamedTuple):
    """An open file: its text, the names of its arrays, and a function that reads an array of known dtype and shape."""

    text: str
    names: set[str]
    read: Callable[[str, np.dtype[Any], Shape], Array]


class Format(NamedTuple):
    """A file format: a function that writes C-contiguous arrays and a text, and one that opens a file for reading."""

    write: Callable[[IO[bytes], Mapping[str, Array], str], None]
    open: Callable[[Path], AbstractContextManager[OpenFile]]


def _write_npz(file: IO[bytes], arrays: Mapping[str, Array], text: str) -> None:
    members: dict[str, Any] = {TEXT: np.frombuffer(text.encode(), np.uint8), **arrays}
    np.savez(file, **members)


@contextmanager
def _open_npz(path: Path) -> Iterator[OpenFile]:
    """Open an .npz file without ``numpy.load``, which would allocate whatever the header of an array asks for."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > os.fstat(file.fileno()).st_size:
                raise ValueError("the members are larger than the file")
            # zipfile allocates the compressed size before it reads
            if any(info.compress_type or info.compress_size != info.file_size or info.flag_bits & 1 for info in infos):
                raise ValueError("a member is compressed or encrypted")
            offsets = {archive.start_dir, *(info.header_offset for info in infos)}
            if len(offsets) <= len(infos):  # zipfile only warns
                raise ValueError("two members begin at the same place")
            members = {info.filename.removesuffix(".npy"): info for info in infos}
            if TEXT not in members:
                raise ValueError(f"the file has no member {TEXT!r}")
            head = _npy_head(np.dtype(np.uint8), (members[TEXT].file_size,))
            text = archive.read(members[TEXT])[len(head) :].decode()

            def read(name: str, dtype: np.dtype[Any], shape: Shape) -> Array:
                return _read_npy(archive, members[name], dtype, shape)

            yield OpenFile(text, set(members) - {TEXT}, read)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:  # raised by zipfile
        raise ValueError(str(error)) from None


def _npy_head(dtype: np.dtype[Any], shape: Shape) -> bytes:
    """Return the bytes that precede the data in an .npy file; their number is a multiple of 64."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return head.getvalue()


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: np.dtype[Any], shape: Shape) -> Array:
    head, size = _npy_head(dtype, shape), math.prod(shape) * dtype.itemsize
    expected = f"{info.filename!r} must have dtype {dtype} and shape {shape}"
    if info.file_size != len(head) + size:
        raise ValueError(f"{expected}, got {info.file_size} bytes")
    array = np.empty(shape, dtype)
    content = array.reshape(-1).view(np.uint8).data
    with archive.open(info) as file:
        if file.read(len(head)) != head:
            raise ValueError(f"{expected}, got another .npy header")
        for begin in range(0, size, BLOCK):
            block = content[begin : begin + BLOCK]
            block[:] = file.read(len(block))
    return array


def _import_safetensors() -> Any:
    try:
        import safetensors.numpy  # noqa: PLC0415  an extra
    except ImportError:
        raise ImportError('.safetensors files require a package: pip install "fastopt[safetensors]"') from None
    return safetensors


def _write_safetensors(file: IO[bytes], arrays: Mapping[str, Array], text: str) -> None:
    file.write(_import_safetensors().numpy.save(dict(arrays), {TEXT: text}))


@contextmanager
def _open_safetensors(path: Path) -> Iterator[OpenFile]:
    safetensors = _import_safetensors()
    path.open("rb").close()  # the package's own OSErrors lack errno and the file name
    try:
        with safetensors.safe_open(path, "numpy") as file:

            def read(name: str, dtype: np.dtype[Any], shape: Shape) -> Array:
                array: Array = file.get_tensor(name)
                if array.dtype != dtype or array.shape != shape:
                    raise ValueError(
                        f"{name!r} must have dtype {dtype} and shape {shape}, got {array.dtype} and {array.shape}"
                    )
                return array

            metadata = file.metadata() or {}
            if TEXT not in metadata:
                raise ValueError(f"the file's metadata have no {TEXT!r}")
            yield OpenFile(metadata[TEXT], set(file.keys()), read)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


FORMATS = {
    ".npz": Format(_write_npz, _open_npz),
    ".safetensors": Format(_write_safetensors, _open_safetensors),
}
