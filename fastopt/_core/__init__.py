"""The compiled core: checked buffers, plans, ops and threads."""

from fastopt._core._kernels import *  # noqa: F403
