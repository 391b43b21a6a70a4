"""Build a wheel for older or other systems than this one: ``python .ci/zig_wheel.py TARGET [FOLDER]``.

Needs CPython on x86-64 Linux and ``pip install ziglang``: clang with the libraries of old glibc and musl. The wheel is
for the version of the CPython that runs this. A wheel for arm64 is compiled with its headers, too, which differ only in
what Python itself was built with: all 64-bit Linux systems have the same sizes. The layer "openmp" is left out, because
ziglang has no OpenMP runtime.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import ziglang

TARGETS = {
    "manylinux_2_17_x86_64": ("x86_64-linux-gnu.2.17", "x86_64-linux-gnu"),
    "manylinux_2_17_aarch64": ("aarch64-linux-gnu.2.17", "aarch64-linux-gnu"),
    "musllinux_1_2_x86_64": ("x86_64-linux-musl", "x86_64-linux-musl"),
    "musllinux_1_2_aarch64": ("aarch64-linux-musl", "aarch64-linux-musl"),
}


def main(tag: str, folder: str = "dist") -> None:
    """Build the wheel into a folder."""
    target, suffix = TARGETS[tag]
    python = sysconfig.get_config_var("SOABI").removesuffix("-x86_64-linux-gnu")
    zig = Path(ziglang.__file__).parent / "zig"
    with tempfile.TemporaryDirectory() as temporary:
        config = Path(temporary) / "setup.cfg"
        # The folder build/ may contain modules for other systems, which would be packed.
        config.write_text(f"[build]\nbuild_base = {temporary}\n[bdist_wheel]\nplat_name = {tag}\n", encoding="utf-8")
        compiler = f"{zig} cc -target {target} -fno-sanitize=undefined"  # zig's default adds traps to C
        environment = {
            "CC": compiler,
            "LDSHARED": f"{compiler} -shared",  # Python's own contains folders of this machine
            "SETUPTOOLS_EXT_SUFFIX": f".{python}-{suffix}.so",
            "DIST_EXTRA_CONFIG": str(config),
        }
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, "."]
        subprocess.run(command, check=True, env=os.environ | environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
