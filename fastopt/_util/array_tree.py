"""Trees of arrays in a file: a JSON header with references in place of the arrays, and a digest of everything.

The module `fastopt.checkpoint` describes the format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from fastopt._util.array_file import OpenFile
from fastopt._util.arrays import Array
from fastopt._util.validation import python_scalar

FORMAT = 1  # increased when older versions can't read new files
REFERENCE = "__array__"  # key that stands for an array in the tree
DTYPES = {np.dtype(char).newbyteorder("<").str: np.dtype(char) for char in "?bhiqlBHIQLefd"}


def extract_arrays(node: Any, path: list[str], found: dict[str, Array]) -> Any:
    """Return a tree with references in place of arrays, which are added to ``found`` under the names of their paths."""
    where = "/".join(path)
    if isinstance(node, np.ndarray):
        stored = node.dtype.newbyteorder("<")
        if stored.str not in DTYPES:
            raise TypeError(f"{where} must be booleans, integers, or floats of at most 64 bits, got {node.dtype}")
        found["/".join(quote(key, safe="") for key in path)] = np.asarray(node, stored, order="C")
        return {REFERENCE: len(found) - 1}
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str):
                raise TypeError(f"the names in {where} must be strings, got {key!r}")
            if key.encode(errors="ignore").decode() != key:
                raise ValueError(f"the names in {where} must be encodable as UTF-8, got {key!r}")
        return {key: extract_arrays(child, [*path, key], found) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [extract_arrays(child, [*path, str(i)], found) for i, child in enumerate(node)]
    return python_scalar(node)


def insert_arrays(node: Any, arrays: list[Array]) -> Any:
    """Return a tree with arrays in place of references."""
    if isinstance(node, dict):
        if list(node) == [REFERENCE] and isinstance(node[REFERENCE], int):
            return arrays[node[REFERENCE]]
        return {key: insert_arrays(child, arrays) for key, child in node.items()}
    return [insert_arrays(child, arrays) for child in node] if isinstance(node, list) else node


def read_tree(file: OpenFile) -> tuple[dict[str, Any], Any]:
    """Return the tree and the metadata of a file, after comparing all of it with the digests."""
    digest, _, text = file.text.partition(" ")
    if digest != sha256(text):
        raise ValueError("the header does not match its SHA-256")
    try:
        header = json.loads(text)
        if header["format"] != FORMAT:
            raise ValueError(f"the format must be {FORMAT} for this version of fastopt, got {header['format']!r}")
        names = [name for name, *_ in header["arrays"]]
        if sorted(names) != sorted(file.names):  # a name listed twice would be read twice
            different = sorted(file.names.symmetric_difference(names)) or names
            raise ValueError(f"the arrays of the file differ from those of its header: {', '.join(different[:3])}")
        arrays = [_read_array(file, *row) for row in header["arrays"]]
        return dict(insert_arrays(header["tree"], arrays)), header["metadata"]
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"the header is malformed ({type(error).__name__}: {error})") from None


def _read_array(file: OpenFile, name: str, dtype: str, shape: list[int], digest: str) -> Array:
    if dtype not in DTYPES or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"the header of {name!r} is malformed: dtype {dtype!r}, shape {shape}")
    array = file.read(name, np.dtype(dtype), tuple(shape))
    if sha256(array) != digest:
        raise ValueError(f"{name!r} does not match its SHA-256")
    return array.astype(DTYPES[dtype], copy=False)


def sha256(content: Array | str) -> str:
    """Return the SHA-256 of a text, or of the bytes of a C-contiguous array, in hexadecimal digits."""
    data = content.encode() if isinstance(content, str) else content.reshape(-1).data
    return hashlib.sha256(data).hexdigest()


def python_scalars(node: Any) -> Any:
    """Return metadata with Python's scalars in place of NumPy's, also as keys, which ``json.dumps`` cannot convert."""
    if isinstance(node, Mapping):
        found = {python_scalar(key): python_scalars(value) for key, value in node.items()}
        if len(json.loads(json.dumps(dict.fromkeys(found)))) < len(found):
            raise ValueError(f"the keys {list(found)} are not distinct as strings")
        return found
    return list(map(python_scalars, node)) if isinstance(node, (list, tuple)) else python_scalar(node)
