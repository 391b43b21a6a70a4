"""Compile the C sources as setup.py does and check the machine code.

No register wider than 128 bits outside the units for AVX2 and AVX-512, packed square roots and divisions at full width
inside them, and no fused multiply-add anywhere: reproducible bits depend on it. Each header must also compile alone.
"""

from __future__ import annotations

import platform
import re
import runpy
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from unittest import mock

COMPILER = sysconfig.get_config_var("CC").split()
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
FUSED = re.compile(r"\bv?fn?m(add|sub|addsub|subadd)\d*[ps][sd]\b|\bfml[as]\b|\bfn?m(add|sub)\b")


def flags_of_the_build() -> list[str]:
    """Read the flags from setup.py, without building."""
    with mock.patch("setuptools.setup"), mock.patch("Cython.Build.cythonize"):
        settings = runpy.run_path("setup.py")
    return [*settings["EXACT_AND_FAST"], *settings["LESS_CODE"]]


def assembly(source: Path, folder: Path, flags: list[str]) -> str:
    """Compile, with every warning an error, and disassemble."""
    target = folder / f"{source.stem}.o"
    subprocess.run([*COMPILER, *flags, *STRICT, "-fPIC", "-c", str(source), "-o", str(target)], check=True)
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Check all units and headers, and print the counts per unit."""
    flags = flags_of_the_build()
    alone = [*COMPILER, *flags, "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-DISA=alone", "-fsyntax-only"]
    for header in sorted({*Path("csrc").rglob("*.h")} - {Path("csrc/for_each_real.h")}):
        subprocess.run([*alone, "-x", "c", str(header)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        code = {path.stem: assembly(path, Path(folder), flags) for path in sorted(Path("csrc").glob("*.c"))}
    found = {
        name: {
            "ymm": len(re.findall("%ymm", text)),
            "zmm": len(re.findall("%zmm", text)),
            "packed sqrt": len(re.findall(r"\bv?sqrtp[sd]\b|\bfsqrt\s+v\d+\.", text)),
            "fused": len(FUSED.findall(text)),
        }
        for name, text in code.items()
    }
    for name, counts in found.items():
        print(f"{name:14}", counts)
    wrong = [f"{name} has a fused multiply-add" for name, counts in found.items() if counts["fused"]]
    wrong += [f"{n} has no packed sqrt" for n in ("isa_baseline",) if not found[n]["packed sqrt"]]
    if platform.machine() == "x86_64":
        wrong += [
            f"{name} has registers wider than 128 bits"
            for name, counts in found.items()
            if name not in ("isa_avx2", "isa_avx512") and (counts["ymm"] or counts["zmm"])
        ]
        wrong += ["isa_avx2 has zmm"] if found["isa_avx2"]["zmm"] else []
        for unit, register in (("isa_avx2", "ymm"), ("isa_avx512", "zmm")):
            for instruction in ("vsqrtps", "vdivps", "vsqrtpd", "vdivpd"):
                if not re.search(rf"\b{instruction}\s[^\n]*%{register}", code[unit]):
                    wrong.append(f"{unit} has no {register} {instruction}")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
