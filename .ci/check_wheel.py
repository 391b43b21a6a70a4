"""Look into a wheel: Python files, stubs, the compiled module and the data; no C and no Cython source."""

from __future__ import annotations

import sys
import zipfile
from pathlib import PurePosixPath


def main(path: str) -> None:
    """Check the names in the wheel."""
    files = [PurePosixPath(name) for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name]
    suffixes = {"".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix for file in files}
    odd = [str(file) for file in files if file.suffix in (".c", ".h", ".pyx", ".def") or file.parts[0] != "fastopt"]
    compiled = [file for file in files if file.name.startswith("_core.") and file.suffix == ".so"]
    data = {f"fastopt/data/{name}" for name in ("LICENSE", "auto_mpg.csv.gz", "digits.csv.gz")}
    wanted = {"fastopt/py.typed", "fastopt/_kernels.pyi", *data}
    missing = wanted - set(map(str, files))
    print(path, len(files), "files:", *sorted(suffixes))
    if odd or missing or len(compiled) != 1:
        sys.exit(f"not wanted: {odd}; missing: {missing}; compiled: {compiled}")


if __name__ == "__main__":
    main(sys.argv[1])
