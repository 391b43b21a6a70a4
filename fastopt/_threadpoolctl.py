"""What threadpoolctl sees of fastopt, if it is installed: ``threadpool_limits`` limits the threads of steps, too."""

from __future__ import annotations

from threadpoolctl import LibController, register

from fastopt import _core, runtime


class FastoptController(LibController):  # type: ignore[misc]
    """The threads of steps, as one of the pools of the process."""

    user_api = "fastopt"
    internal_api = "fastopt"
    filename_prefixes = ("_core",)
    check_symbols = ("fastopt_threads",)

    def get_num_threads(self) -> int:
        """Give the most threads that a step may use."""
        return _core.limited(runtime.num_threads())

    unlimited = 0
    """How many there were when a limit was set."""

    def set_num_threads(self, num_threads: int) -> None:
        """Limit them; to as many as there were is no limit."""
        cls = type(self)
        cls.unlimited = cls.unlimited or runtime.num_threads()
        if num_threads >= cls.unlimited:
            num_threads = cls.unlimited = 0
        _core.limit_threads(max(num_threads, 1 if cls.unlimited else 0))

    def get_version(self) -> str:
        """Give fastopt's version."""
        from fastopt import __version__  # noqa: PLC0415  the package is being imported when this module is

        return __version__


register(FastoptController)
