"""Compile the C sources as setup.py does and check the machine code.

No register wider than 128 bits outside the units for AVX2 and AVX-512, packed square roots and divisions at full width
inside them, and no fused multiply-add anywhere: reproducible bits depend on it. Options that are off cost nothing: the
shortest vector loop of a kernel has the operations of its formula only. Each header must also compile alone.
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
# Operations of the formulas. A gradient that is squared is also flushed: and, compare, and. (gcc masks Adagrad's square
# as well.) RMSprop adds 0 in the root.
FORMULAS = {"sgd": 2, "momentum": 5, "rmsprop": 3 + 10, "adagrad": 4 + 7, "adam": 3 + 13, "amsgrad": 3 + 16}
OPERATION = re.compile(r"\bv?(mul|add|sub|div|sqrt|cmp\w*|andn?|or|blendv?|max|min)p[sd]\b")
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


def shortest_loop(code: str, function: str) -> int:
    """Return the number of operations in the vector loop of a function that has the fewest."""
    text = re.search(rf"<{function}>:\n(.*?)\n\n", code + "\n\n", re.DOTALL)
    assert text, function
    lines = [line.strip().split(":", 1) for line in text[1].splitlines() if ":" in line]
    places = {address: i for i, (address, _) in enumerate(lines)}
    bodies = []
    for end, (_, instruction) in enumerate(lines):
        jump = re.match(r"\s*j\w+\s+([0-9a-f]+) ", instruction)
        if jump and (begin := places.get(jump[1], end)) < end:
            bodies.append("\n".join(instruction for _, instruction in lines[begin:end]))
    counts = [len(OPERATION.findall(body)) for body in bodies]
    return min(count for count in counts if count)


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
        wrong += [
            f"{unit}: {kernel} of {real} has {count} operations per element, not {expected}"
            for unit in ("isa_baseline", "isa_avx2", "isa_avx512")
            for kernel, expected in FORMULAS.items()
            for real in ("float", "double")
            if (count := shortest_loop(code[unit], f"{kernel}_kernel_{real}")) > expected
        ]
        wrong += ["isa_avx2 has zmm"] if found["isa_avx2"]["zmm"] else []
        for unit, register in (("isa_avx2", "ymm"), ("isa_avx512", "zmm")):
            for instruction in ("vsqrtps", "vdivps", "vsqrtpd", "vdivpd"):
                if not re.search(rf"\b{instruction}\s[^\n]*%{register}", code[unit]):
                    wrong.append(f"{unit} has no {register} {instruction}")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
