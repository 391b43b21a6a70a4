"""Which instruction set and how many threads the kernels use; neither changes a bit of any result."""

from __future__ import annotations

import math
import os
import warnings
from contextlib import suppress
from numbers import Integral
from pathlib import Path, PurePosixPath

from fastopt import _core

MOST_THREADS = 1024

_setting: int | str = "auto"
_threads = 1  # what a step uses, or the most that it may


def isa() -> str:
    """Give the name of the instruction set that the kernels use.

    >>> isa() in available_isas()
    True
    """
    return _core.isa()


def available_isas() -> list[str]:
    """Give the instruction sets that processor and operating system support, widest first."""
    return _core.isas()


def set_isa(name: str) -> None:
    """Use another instruction set from the next step on: ``"baseline"``, ``"avx2"`` or ``"avx512"``.

    At import the widest is chosen, or the one that the environment variable ``FASTOPT_ISA`` names. Raises
    ``ValueError`` for a name that is unknown or that this machine doesn't support.

    >>> set_isa("baseline")
    >>> isa()
    'baseline'
    >>> set_isa(available_isas()[0])
    """
    available = available_isas()
    if name not in available:
        raise ValueError(f"name is {name!r}; wants an instruction set of this machine: {', '.join(available)}")
    _core.use_isa(available.index(name))


def available_threads(root: Path = Path("/")) -> int:
    """Give the number of processors that this process may use: by affinity, and by the quota of its control group.

    ``root`` is where the file system begins.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, _quota(root)))


def _quota(root: Path) -> int:
    """Give the processors that the time of the control group, or of one above it, is worth, rounded up (Linux)."""
    quotas = [float(MOST_THREADS)]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):  # version 2 or 1
            mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
            path = PurePosixPath(group.lstrip("/"))
            quotas += [_quota_of(mount / folder) for folder in (path, *path.parents)]
    return math.ceil(min(quotas))


def _quota_of(folder: Path) -> float:
    """Give a control group's own quota over its period; infinite where it has none."""
    for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = " ".join((folder / file).read_text(encoding="ascii") for file in files).split()
            return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


def num_threads() -> int:
    """Give the number of threads that a step uses, or with ``"auto"`` the most that it may.

    >>> num_threads() >= 1
    True
    """
    return _threads


def set_num_threads(n: int | str) -> None:
    """Use ``n`` threads for every step, or with ``"auto"`` (the default) as many as each optimizer measures to be best.

    It measures in its first steps and now and then, in your own loop, and counts what its threads cost the rest of
    the loop; ``optimizer.execution_info()`` tells what it found. It takes no more threads than there are processors, as
    affinity and control group allow. Where that measures best, threads stay awake between steps, for 10 ms at most;
    ``OMP_WAIT_POLICY=passive`` in the environment forbids it. The environment variables ``FASTOPT_NUM_THREADS`` and
    ``OMP_NUM_THREADS`` set the number at import, ``threadpoolctl.threadpool_limits`` limits it.

    Raises ``ValueError`` for what is neither ``"auto"`` nor an int from 1 to 1024.

    >>> set_num_threads(1)
    >>> num_threads()
    1
    >>> set_num_threads("auto")
    """
    global _setting, _threads  # noqa: PLW0603  one setting for the process, as the cores are
    if n != "auto" and (isinstance(n, bool) or not isinstance(n, Integral) or not 1 <= n <= MOST_THREADS):
        raise ValueError(f"n is {n!r}; wants 'auto' or an int from 1 to {MOST_THREADS}")
    _setting = n
    _threads = available_threads() if isinstance(n, str) else int(n)
    _core.use_threads(0 if isinstance(n, str) else _threads, _threads)


def _from_environment() -> None:
    name = os.environ.get("FASTOPT_ISA")
    if name:
        try:
            set_isa(name)
        except ValueError as error:
            raise ValueError(f"FASTOPT_ISA: {error}") from None
    _core.use_spinning(os.environ.get("OMP_WAIT_POLICY", "").strip().lower() != "passive")
    mine, everyones = os.environ.get("FASTOPT_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS")
    # OpenMP's may be a list, one number for each level of nesting.
    text = mine or (everyones or "auto").split(",")[0].strip()
    try:
        set_num_threads(int(text) if text.isdecimal() else text)
    except ValueError as error:
        if mine:
            raise ValueError(f"FASTOPT_NUM_THREADS: {error}") from None
        # Not ours alone: other users of OpenMP go on with a warning, and so does this one.
        warnings.warn(f"OMP_NUM_THREADS is {everyones!r}, which is ignored: {error}", RuntimeWarning, stacklevel=2)
        set_num_threads("auto")


_from_environment()
