"""The controller that makes threadpoolctl, if it is installed, limit the threads of fastopt."""

from __future__ import annotations

from threadpoolctl import LibController, register

from fastopt import _core, runtime


class FastoptController(LibController):  # type: ignore[misc]
    """fastopt's threads, as one of the thread pools of the process."""

    user_api = "fastopt"
    internal_api = "fastopt"
    filename_prefixes = ("kernels.",)
    check_symbols = ("fastopt_threads",)

    def get_num_threads(self) -> int:
        """Return the largest number of threads of a call."""
        return _core.limited(runtime.num_threads())

    unlimited = 0
    """The number of threads when a limit was set, or 0."""

    def set_num_threads(self, num_threads: int) -> None:
        """Limit the number of threads; the number from before the limit removes it."""
        cls = type(self)
        cls.unlimited = cls.unlimited or runtime.num_threads()
        if num_threads >= cls.unlimited:
            num_threads = cls.unlimited = 0
        _core.set_thread_limit(max(num_threads, 1 if cls.unlimited else 0))

    def get_version(self) -> str:
        """Return fastopt's version."""
        from fastopt import __version__  # noqa: PLC0415  it is still being imported when this module is

        return __version__


register(FastoptController)
