"""Instruction sets and threads. Neither changes a bit of any result.

To fix the number of threads: `set_num_threads`, or ``FASTOPT_NUM_THREADS`` or ``OMP_NUM_THREADS`` in the environment at
import. ``threadpoolctl.threadpool_limits`` limits it for a while.

**Number of threads.** A training step lies between matrix products, whose threads want the same cores, so more threads
can cost more there than they save here. By default the number follows a rule that is right from the first step: one
thread below 2^18 elements, then one more for each 2^17, up to the number of processors. Where calls follow each other
at once, without work between them, sharing pays earlier: from 2^14 elements on, one thread for each 2^13. Processor
affinity and the CPU quota of a control group (a container's) count as limits; they are read at import and when
``set_num_threads("auto")`` is called.

**Threading layer.** The default is fastopt's own thread pool. Its workers sleep between steps; they stay awake for 50
us only after a call that followed another within 20 us, or between the passes of one step
(``OMP_WAIT_POLICY=passive`` forbids that). The other layer is OpenMP, for programs that share one OpenMP runtime and
for comparisons: `set_threading_layer`, or ``FASTOPT_THREADING_LAYER=openmp`` at import. OpenMP's workers busy-wait
after a loop and oversubscribe the cores together with those of BLAS.

**Instruction set.** The widest one that the processor and the operating system support is used. `set_isa`, or
``FASTOPT_ISA`` at import, choose another: ``baseline``, ``avx2`` or ``avx512``.

**Python threads, forks, signals.** Calls release the GIL, and Python threads may step different optimizers at the same
time. One optimizer is used by one thread at a time: another one gets ``RuntimeError``. A forked child can continue
stepping, unless another thread of its parent was stepping that optimizer; with the OpenMP layer it runs on one thread.
Ctrl-C is delivered after the step, which is counted.
"""

from __future__ import annotations

import math
import os
import warnings
from contextlib import suppress
from pathlib import Path, PurePosixPath

from fastopt import _core
from fastopt._util.validation import is_int

__all__ = ["available_isas", "available_threads", "isa", "num_threads"]
__all__ += ["set_isa", "set_num_threads", "set_threading_layer", "threading_layer"]

MAX_THREADS = 1024
LAYERS = ("pool", "openmp")

_threads = 1  # of each call, or with "auto" the maximum
_layer = "pool"


def isa() -> str:
    """Return the name of the instruction set in use.

    Returns
    -------
    str
        One of `available_isas`.

    Examples
    --------
    >>> isa() in available_isas()
    True
    """
    return _core.isa()


def available_isas() -> list[str]:
    """Return the instruction sets that the processor and the operating system support, widest first.

    Returns
    -------
    list of str
        Some of "avx512", "avx2" and "baseline".

    Examples
    --------
    >>> available_isas()[-1]
    'baseline'
    """
    return _core.isas()


def set_isa(name: str) -> None:
    """Use another instruction set from the next call on.

    Parameters
    ----------
    name : str
        One of `available_isas`.

    Raises
    ------
    ValueError
        If the name is unknown or this machine does not support it.

    Examples
    --------
    >>> set_isa("baseline")
    >>> isa()
    'baseline'
    >>> set_isa(available_isas()[0])
    """
    available = available_isas()
    if name not in available:
        raise ValueError(f"name must be an instruction set of this machine ({', '.join(available)}), got {name!r}")
    _core.set_isa(available.index(name))


def available_threads() -> int:
    """Return the number of processors that this process may use.

    Returns
    -------
    int
        The number of processors, limited by the affinity of the process and the CPU quota of its control group.

    Examples
    --------
    >>> available_threads() >= 1
    True
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, _quota(Path("/"))))


def _quota(root: Path) -> int:
    """Return the CPU quota of the control group and those above it (Linux) in processors, rounded up."""
    quotas = [float(MAX_THREADS)]
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
    """Return a control group's own quota in processors, infinite if it has none."""
    for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with suppress(OSError, ValueError):  # the file does not exist, or contains "max"
            quota, period = " ".join((folder / file).read_text(encoding="ascii") for file in files).split()
            return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


def num_threads() -> int:
    """Return the number of threads of a call, or with ``"auto"`` the maximum.

    Returns
    -------
    int
        The number set by `set_num_threads`, or `available_threads`.

    Examples
    --------
    >>> num_threads() >= 1
    True
    """
    return _threads


def set_num_threads(n: int | str) -> None:
    """Set the number of threads of every call.

    Parameters
    ----------
    n : int or "auto"
        A number from 1 to 1024, or "auto" (the default setting) for the rule that the page of this module describes.

    Raises
    ------
    ValueError
        If ``n`` is neither.

    Examples
    --------
    >>> set_num_threads(1)
    >>> num_threads()
    1
    >>> set_num_threads("auto")
    """
    global _threads  # noqa: PLW0603  one setting for the process, as the cores are
    if not (n == "auto" if isinstance(n, str) else is_int(n) and 1 <= int(n) <= MAX_THREADS):
        raise ValueError(f"n must be 'auto' or an int from 1 to {MAX_THREADS}, got {n!r}")
    _threads = available_threads() if isinstance(n, str) else int(n)
    _core.set_threads(0 if isinstance(n, str) else _threads, _threads)


def threading_layer() -> str:
    """Return the threading layer in use.

    Returns
    -------
    {"pool", "openmp"}

    Examples
    --------
    >>> threading_layer() in ("pool", "openmp")
    True
    """
    return _layer


def set_threading_layer(name: str) -> None:
    """Use another threading layer from the next call on.

    Parameters
    ----------
    name : {"pool", "openmp"}
        fastopt's own thread pool, or the OpenMP runtime of the compiler.

    Raises
    ------
    ValueError
        If the name is neither.
    ImportError
        If fastopt was built without OpenMP, or the runtime is not installed. Released wheels for Linux need the
        ``libgomp.so.1`` of the system; those for macOS and Windows have no OpenMP.

    Examples
    --------
    >>> set_threading_layer("pool")
    """
    global _layer  # noqa: PLW0603  one setting for the process
    if name not in LAYERS:
        raise ValueError(f"name must be 'pool' or 'openmp', got {name!r}")
    if name == "openmp":
        try:
            from fastopt._core import openmp  # noqa: PLC0415  loading an OpenMP runtime is the user's choice
        except ImportError as error:
            raise ImportError(f"the threading layer 'openmp' needs an OpenMP build and runtime: {error}") from None

        _core.set_parallel_for(openmp.parallel_for)
    else:
        _core.set_parallel_for(None)
    _layer = name


def _read_environment() -> None:
    for variable, setter in (("FASTOPT_ISA", set_isa), ("FASTOPT_THREADING_LAYER", set_threading_layer)):
        if name := os.environ.get(variable):
            try:
                setter(name)
            except ValueError as error:
                raise ValueError(f"{variable}: {error}") from None
    _core.set_spinning(os.environ.get("OMP_WAIT_POLICY", "").strip().lower() != "passive")
    own, shared = os.environ.get("FASTOPT_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS")
    # OpenMP's may be a list, one number for each level of nesting.
    text = own or (shared or "auto").split(",")[0].strip()
    try:
        set_num_threads(int(text) if text.isdecimal() else text)
    except ValueError as error:
        if own:
            raise ValueError(f"FASTOPT_NUM_THREADS: {error}") from None
        # The variable is not ours alone: other users of OpenMP continue with a warning, and so does fastopt.
        warnings.warn(f"OMP_NUM_THREADS is ignored: {error}", RuntimeWarning, stacklevel=2)
        set_num_threads("auto")


_read_environment()
