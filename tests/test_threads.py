"""Threads: how many a call gets, that results do not depend on them, and the two threading layers."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from cases import CASES, CHUNK, Reference, calls_on_rows, hard_numbers, same_bits, start_values
from fastopt._core.kernels import thread_count
from processes import LAYERS, needs_openmp, needs_proc, run_python

import fastopt
from fastopt import _core, runtime

# The rule ------------------------------------------------------------------------------------------------------------


def threads_of_a_step(*sizes):
    return fastopt.SGD([np.zeros(size, np.float32) for size in sizes]).execution_info()["threads"]


@pytest.mark.parametrize(
    ("available", "elements", "expected"),
    [
        (8, 0, 1),
        (8, 2**18 - 1, 1),
        (8, 2**18, 2),
        (8, 3 * 2**17 - 1, 2),
        (8, 3 * 2**17, 3),
        (8, 2**20 - 1, 7),
        (8, 2**20, 8),
        (8, 2**22, 8),
        (2, 2**18 - 1, 1),
        (2, 2**22, 2),
        (1, 2**22, 1),
    ],
)
def test_number_of_threads_follows_the_number_of_elements(available, elements, expected, monkeypatch):
    monkeypatch.setattr(runtime, "available_threads", lambda: available)
    fastopt.set_num_threads("auto")
    assert fastopt.num_threads() == available
    assert threads_of_a_step(elements) == expected


def test_elements_of_all_tensors_count(monkeypatch):
    monkeypatch.setattr(runtime, "available_threads", lambda: 8)
    fastopt.set_num_threads("auto")
    assert threads_of_a_step(*[2**12] * 63) == 1
    assert threads_of_a_step(*[2**12] * 64) == 2


@pytest.mark.parametrize(
    ("elements", "expected"),
    [(2**14 - 1, 1), (2**14, 2), (3 * 2**13, 3), (2**15, 4), (2**16, 8), (2**22, 8)],
)
def test_awake_workers_share_smaller_calls(elements, expected, monkeypatch):
    monkeypatch.setattr(runtime, "available_threads", lambda: 8)
    fastopt.set_num_threads("auto")
    assert thread_count(elements, 1000, awake=True) == expected
    assert thread_count(elements, 1000) == max(1, min(8, elements // 2**17))


@pytest.mark.parametrize("awake", [False, True])
def test_fixed_number_holds_for_all_sizes(awake):
    fastopt.set_num_threads(5)
    assert [thread_count(elements, 100, awake) for elements in (1, 2**15, 2**18, 2**22)] == [5] * 4
    fastopt.set_num_threads(1)
    assert [thread_count(elements, 100, awake) for elements in (1, 2**15, 2**18, 2**22)] == [1] * 4


def test_a_call_has_at_most_one_thread_for_each_chunk():
    fastopt.set_num_threads(1000)
    assert [threads_of_a_step(size) for size in (0, 1, CHUNK, CHUNK + 1, 16 * CHUNK)] == [1, 1, 1, 2, 16]


def test_execution_info_describes_a_step():
    fastopt.set_num_threads(5)
    info = fastopt.Adam(list(np.zeros((3, 2**19), np.float32))).execution_info()
    chunks = 3 * 2**19 // CHUNK
    assert info == {"tensors": 3, "elements": 3 * 2**19, "chunks": chunks, "isa": fastopt.isa(), "threads": 5}


def test_number_of_threads_can_change_between_steps():
    param = np.zeros(10 * CHUNK, np.float32)
    optimizer = fastopt.SGD(param, lr=1.0)
    for n in (1, 3, 2, 7, 1):
        fastopt.set_num_threads(n)
        assert optimizer.execution_info()["threads"] == n
        optimizer.step(np.ones_like(param))
    assert (param == -5).all()


COUNT_WORKERS = """
import os
import numpy as np
import fastopt
from fastopt import runtime

runtime.available_threads = lambda: 4
fastopt.set_num_threads("auto")
before = len(os.listdir("/proc/self/task"))
optimizer, grad = fastopt.Adam(np.zeros(SIZE, np.float32), max_grad_norm=1.0), np.ones(SIZE, np.float32)
for _ in range(50):
    optimizer.step(grad)
print(len(os.listdir("/proc/self/task")) - before)
"""


@needs_proc
@pytest.mark.parametrize(
    ("size", "wait_policy", "workers"),
    [(2**14 - 1, "active", "0"), (2**18 - 1, "passive", "0"), (2**18, "passive", "1"), (2**19, "active", "3")],
)
def test_workers_are_started_when_a_step_needs_them(size, wait_policy, workers):
    """With the passive policy, workers never stay awake, so that the size alone decides."""
    done = run_python("-c", COUNT_WORKERS.replace("SIZE", str(size)), OMP_WAIT_POLICY=wait_policy)
    assert (done.stdout.strip(), done.stderr) == (workers, "")


def test_threadpoolctl_sees_and_limits_the_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    fastopt.set_num_threads(1000)
    optimizer = fastopt.SGD(np.zeros(2**22, np.float32))
    assert optimizer.execution_info()["threads"] == 1000

    def own_pools():
        return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "fastopt"]

    assert [(pool["num_threads"], pool["version"]) for pool in own_pools()] == [(1000, fastopt.__version__)]
    with threadpoolctl.threadpool_limits(1):
        assert optimizer.execution_info()["threads"] == own_pools()[0]["num_threads"] == 1
        fastopt.set_num_threads(500)
        assert optimizer.execution_info()["threads"] == 1
    fastopt.set_num_threads(1000)
    assert optimizer.execution_info()["threads"] == 1000
    fastopt.set_num_threads(2)
    with threadpoolctl.threadpool_limits(1):
        fastopt.set_num_threads(8)
        assert optimizer.execution_info()["threads"] == 1
    assert optimizer.execution_info()["threads"] == 8


# Limits of the system ------------------------------------------------------------------------------------------------


def write_cgroup(root, path, **files):
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def write_membership(root, text):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("100000 100000", 1), ("max 100000", 1024), ("250000 100000", 3), ("5000 100000", 1), ("9900000 100000", 99)],
)
def test_quota_of_a_control_group_is_a_limit(tmp_path, quota, expected):
    write_membership(tmp_path, "0::/user/job\n")
    write_cgroup(tmp_path, "user/job", cpu__max=quota)
    assert runtime._quota(tmp_path) == expected


def test_quotas_of_outer_groups_and_of_version_1_count(tmp_path):
    write_membership(tmp_path, "5:memory:/job\n4:cpu,cpuacct:/job\n0::/a/b\n")
    assert runtime._quota(tmp_path) == runtime.MAX_THREADS  # no files, no limits
    write_cgroup(tmp_path, "a/b", cpu__max="max 100000")
    write_cgroup(tmp_path, "a", cpu__max="700000 100000")
    assert runtime._quota(tmp_path) == 7
    write_cgroup(tmp_path, "cpu/job", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert runtime._quota(tmp_path) == 7
    write_cgroup(tmp_path, "cpu", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    assert runtime._quota(tmp_path) == 2
    write_cgroup(tmp_path, "", cpu__max="not a quota")
    assert runtime._quota(tmp_path) == 2


def test_affinity_is_a_limit(monkeypatch):
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    monkeypatch.setattr(runtime, "_quota", lambda _: 1024)
    assert runtime.available_threads() == 3
    monkeypatch.setattr(runtime, "_quota", lambda _: 2)
    assert runtime.available_threads() == 2


# Results do not depend on threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_do_not_depend_on_threads(case, layer):
    sizes = [5 * CHUNK + 7, 1, 3 * CHUNK]
    starts = [start_values(size, np.float32, seed=i) for i, size in enumerate(sizes)]
    grads = [hard_numbers(size, np.float32, seed=i) for i, size in enumerate(sizes)]
    results = []
    fastopt.set_threading_layer(layer)
    for threads in (1, 2, 4):
        fastopt.set_num_threads(threads)
        params = [start.copy() for start in starts]
        optimizer = case.make(params)
        for _ in range(3):
            optimizer.step([grad.copy() for grad in grads])
        for _ in range(2):
            optimizer.accumulate([grad.copy() for grad in grads])
        optimizer.step()
        states = [array for arrays in optimizer.state.values() for array in arrays]
        results.append((optimizer.grad_norm, [*params, *states]))
    for norm, arrays in results[1:]:
        assert norm == results[0][0]
        assert all(map(same_bits, arrays, results[0][1]))


@pytest.mark.parametrize("layer", LAYERS)
def test_results_of_losses_and_layers_do_not_depend_on_threads(layer):
    rng = np.random.default_rng(0)
    rows, columns = 3000, 16
    x, target, grad = (rng.random((rows, columns)).astype(np.float32) for _ in range(3))
    target /= target.sum(axis=1, keepdims=True)
    labels = rng.integers(0, columns, rows)
    fastopt.set_threading_layer(layer)
    results = []
    for threads in (1, 2, 4):
        fastopt.set_num_threads(threads)
        more = [*(np.ones(columns, np.float32) for _ in range(4)), grad.copy()]
        calls = calls_on_rows(x.copy(), target, labels, more)
        results.append({name: [np.asarray(value) for value in call()] for name, call in calls.items()})
    for result in results[1:]:
        for name, arrays in result.items():
            assert all(map(same_bits, arrays, results[0][name])), name


EVERY_FOURTH = [
    pytest.param(case, marks=[] if i % 4 == 0 else pytest.mark.slow, id=str(case)) for i, case in enumerate(CASES)
]


@needs_openmp
@pytest.mark.parametrize("real", [np.float32, np.float64], ids=lambda real: real.__name__)
@pytest.mark.parametrize("case", EVERY_FOURTH)
def test_openmp_has_the_bits_of_the_reference(case, real):
    sizes = [2 * CHUNK + 5, CHUNK - 1, 1, 6 * CHUNK + 17]
    params = [start_values(size, real, seed=i) for i, size in enumerate(sizes)]
    expected = Reference(case, params)
    fastopt.set_threading_layer("openmp")
    fastopt.set_num_threads(4)
    optimizer = case.make(params)
    for step in range(5):
        grads = [hard_numbers(size, np.float32, seed=10 * step + i).astype(real) for i, size in enumerate(sizes)]
        expected.step([grad.copy() for grad in grads])
        optimizer.step(grads)
    for i, tensor in enumerate(expected.tensors):
        assert same_bits(params[i], tensor["param"])
        for name, state in optimizer.state.items():
            assert same_bits(state[i], tensor[name]), name
    if expected.grad_norm is not None:
        assert optimizer.grad_norm == expected.grad_norm


# The threading layers ------------------------------------------------------------------------------------------------


@needs_openmp
def test_threading_layer_can_be_chosen():
    assert fastopt.threading_layer() == "pool"
    fastopt.set_threading_layer("openmp")
    assert fastopt.threading_layer() == "openmp"
    fastopt.set_threading_layer("pool")
    assert fastopt.threading_layer() == "pool"


def test_layer_that_was_not_built_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastopt._core.openmp", None)
    monkeypatch.delattr(_core, "openmp", raising=False)
    with pytest.raises(ImportError, match=r"^the threading layer 'openmp' needs an OpenMP build and runtime: "):
        fastopt.set_threading_layer("openmp")
    assert fastopt.threading_layer() == "pool"


@needs_openmp
def test_environment_chooses_the_threading_layer():
    done = run_python("-c", "import fastopt; print(fastopt.threading_layer())", FASTOPT_THREADING_LAYER="openmp")
    assert (done.stdout, done.stderr) == ("openmp\n", "")


def test_wrong_threading_layer_in_the_environment_is_refused():
    done = run_python("-c", "import fastopt", FASTOPT_THREADING_LAYER="tbb")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: FASTOPT_THREADING_LAYER: name must be 'pool' or 'openmp', got 'tbb'\n")


LOADED_LIBRARIES = """
import sys
import numpy

def openmp_runtimes():
    with open("/proc/self/maps") as maps:
        return {line.split("/")[-1].strip() for line in maps if "libgomp" in line or "libomp" in line}

before = openmp_runtimes()
import fastopt
fastopt.Adam(numpy.zeros(2**19)).step(numpy.ones(2**19))
assert openmp_runtimes() == before, openmp_runtimes()
assert "fastopt._core.openmp" not in sys.modules
"""


@needs_proc
def test_import_loads_no_openmp_runtime():
    done = run_python("-c", LOADED_LIBRARIES)
    assert done.returncode == 0, done.stderr


@needs_proc
@needs_openmp
def test_chosen_openmp_layer_loads_an_openmp_runtime():
    done = run_python("-c", LOADED_LIBRARIES + "fastopt.set_threading_layer('openmp')\nassert openmp_runtimes()\n")
    assert done.returncode == 0, done.stderr


# The pool ------------------------------------------------------------------------------------------------------------


def run_in_threads(train, params):
    workers = [threading.Thread(target=train, args=(param,)) for param in params]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@pytest.mark.parametrize("layer", LAYERS)
def test_python_threads_step_their_own_optimizers_at_once(layer, monkeypatch):
    monkeypatch.setattr(runtime, "available_threads", lambda: 2)
    fastopt.set_num_threads("auto")
    fastopt.set_threading_layer(layer)
    params = [np.ones(2**18, np.float32) for _ in range(3)]

    def train(param):
        optimizer = fastopt.Adam(param, max_grad_norm=1.0)
        grad = np.linspace(-1, 1, param.size, dtype=np.float32)
        for _ in range(20):
            optimizer.step(grad)

    run_in_threads(train, params)
    alone = np.ones(2**18, np.float32)
    fastopt.set_threading_layer("pool")
    fastopt.set_num_threads(1)
    train(alone)
    assert all(same_bits(param, alone) for param in params)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_chunk_is_processed_once(layer):
    """Hundreds of steps that count, on more threads than processors, from several Python threads at once."""
    fastopt.set_num_threads(7)
    fastopt.set_threading_layer(layer)
    steps = 1500 if layer == "pool" else 30  # OpenMP waits for each worker, and there are not as many processors
    params = [np.zeros(size, np.float32) for size in (1, 4097, 20_000, 65_536)]

    def count(param):
        optimizer, grad = fastopt.SGD(param, lr=1.0), -np.ones_like(param)
        for _ in range(steps):
            optimizer.step(grad)

    run_in_threads(count, params)
    for param in params:
        assert (param == steps).all()


MOVING_CALLER = """
import ctypes, os
import numpy as np
import fastopt

here = ctypes.CDLL(None).sched_getcpu
processors = os.sched_getaffinity(0)
fastopt.set_num_threads(3)
optimizer, grad = fastopt.SGD(np.zeros(100_000, np.float32), lr=1.0), np.ones(100_000, np.float32)
others = set(os.listdir("/proc/self/task"))
stepped_on = set()
for i in range(100):
    os.sched_setaffinity(0, {sorted(processors)[i % 2]})
    os.sched_setaffinity(0, processors)
    before = here()
    optimizer.step(grad)
    if before == here():
        stepped_on.add(before)
        workers = set(os.listdir("/proc/self/task")) - others
        assert len(workers) == 2
        for worker in workers:
            assert os.sched_getaffinity(int(worker)) == processors - {before}
assert os.sched_getaffinity(0) == processors
assert len(stepped_on) > 1, stepped_on
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity of threads")
@pytest.mark.skipif(runtime.available_threads() < 2, reason="there is one processor")
def test_workers_run_on_other_processors_than_their_caller():
    done = run_python("-c", MOVING_CALLER)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_short_soak():
    """Random steps, checkpoints, forks and thread changes; tests/README.md has a longer run."""
    done = run_python(os.path.join(os.path.dirname(__file__), "soak.py"), 300)
    assert done.returncode == 0, done.stderr
    assert all(f"'{action}'" in done.stdout for action in ("step", "checkpoint", "fork", "threads", "new"))
