"""The compiled core: checked buffers, the plan of a step, the step of one array, ops, instruction sets and threads."""

from fastopt._core.buffers import (
    check_current,
    check_no_mask,
    check_no_overlap,
    check_on_cpu,
    commit,
    first_overlap,
    inspect_array,
    remedy,
)
from fastopt._core.kernels import (
    CHUNK,
    COMPILER,
    HYPERPARAMETERS,
    KERNELS,
    OPS,
    count_labels,
    isa,
    isas,
    limited,
    run,
    set_isa,
    set_parallel_for,
    set_spinning,
    set_thread_limit,
    set_threads,
)
from fastopt._core.plan import Locks, Plan, progress
from fastopt._core.step import BoundKernel, arguments_in_order, find_kernel, numbers_of
