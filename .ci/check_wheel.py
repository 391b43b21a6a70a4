"""Check a wheel: Python files, stubs, compiled modules and data, no C or Cython source, and at most 1 MB."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath

MAX_BYTES = 1_000_000
REQUIRED = {
    "fastopt/py.typed",
    "fastopt/_core/__init__.pyi",
    "fastopt/data/LICENSE",
    "fastopt/data/auto_mpg.csv.gz",
    "fastopt/data/digits.csv.gz",
}


def main(path: str) -> None:
    """Print what the wheel contains, and exit with a message if something is wrong."""
    names = [name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name]
    files = [PurePosixPath(name) for name in names]
    compiled = [file for file in files if file.suffix in (".so", ".pyd")]
    size = Path(path).stat().st_size
    print(f"{path}: {size / 1000:.0f} kB, {len(files)} files, compiled:", *compiled)
    unexpected = [file for file in files if file.suffix in (".c", ".h", ".pyx", ".pxd", ".def")]
    unexpected += [file for file in files if file.parts[0] != "fastopt"]
    errors = [f"unexpected file {file}" for file in unexpected]
    errors += [f"missing file {name}" for name in sorted(REQUIRED - set(names))]
    if not any(file.parent == PurePosixPath("fastopt/_core") for file in compiled):
        errors.append("no compiled module in fastopt/_core")
    if size > MAX_BYTES:
        errors.append(f"the wheel must have at most {MAX_BYTES:,} bytes, got {size:,}")
    sys.exit("\n".join(errors) or 0)


if __name__ == "__main__":
    main(sys.argv[1])
