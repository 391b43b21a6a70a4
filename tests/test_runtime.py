"""Instruction sets, threads and environment variables."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from processes import run_python

import fastopt
from fastopt import runtime


def printed(code, **environment):
    done = run_python("-c", f"import fastopt; {code}", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_widest_instruction_set_is_the_default():
    names = runtime.available_isas()
    assert names[-1] == "baseline"
    assert printed("print(fastopt.isa())") == names[0]
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        with open("/proc/cpuinfo", encoding="ascii") as file:
            flags = next(line for line in file if line.startswith("flags")).split()
        assert ("avx2" in names) == ("avx2" in flags)
        assert ("avx512" in names) == ("avx512f" in flags)


def test_instruction_sets_can_be_set():
    for name in runtime.available_isas():
        fastopt.set_isa(name)
        assert fastopt.isa() == name
        assert printed("print(fastopt.isa())", FASTOPT_ISA=name) == name


def test_rejects_unknown_instruction_set_in_the_environment():
    done = run_python("-c", "import fastopt", FASTOPT_ISA="mmx")
    assert done.returncode != 0
    assert "ValueError: FASTOPT_ISA: name must be an instruction set of this machine (" in done.stderr
    assert "got 'mmx'" in done.stderr


def test_threads_can_be_set():
    for n in (1, 2, np.int64(4)):
        fastopt.set_num_threads(n)
        assert fastopt.num_threads() == n
    fastopt.set_num_threads("auto")
    assert fastopt.num_threads() == runtime.available_threads()


def test_threads_in_the_environment():
    for environment, wanted in (
        ({"FASTOPT_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"FASTOPT_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"FASTOPT_NUM_THREADS": "auto", "OMP_NUM_THREADS": "5"}, runtime.available_threads()),
    ):
        assert printed("print(fastopt.num_threads())", **environment) == str(wanted)
    done = run_python("-c", "import fastopt", FASTOPT_NUM_THREADS="many")
    assert done.returncode != 0
    assert "ValueError: FASTOPT_NUM_THREADS: n must be 'auto' or an int from 1 to 1024, got 'many'" in done.stderr


@pytest.mark.parametrize("text", ["0", "-1", "abc", ",", "40000"])
def test_warns_of_invalid_omp_num_threads(text):
    code = "import fastopt; print(fastopt.num_threads())"
    done = run_python("-c", code, OMP_NUM_THREADS=text, PYTHONWARNINGS="default")
    assert "RuntimeWarning: OMP_NUM_THREADS is ignored: n must be 'auto' or an int from 1 to 1024, got " in done.stderr
    assert done.stdout.strip() == str(runtime.available_threads())


def test_fixed_threads_are_used():
    """Small steps start no worker thread, unless the number of threads is set."""
    if sys.platform != "linux":
        pytest.skip("counts the threads of a Linux process")
    code = (
        "import os, numpy as np; count = lambda: len(os.listdir('/proc/self/task')); p = np.zeros(2**13); "
        "before = count(); fastopt.SGD(p).step(p.copy()); print(count() - before)"
    )
    assert printed(code, OPENBLAS_NUM_THREADS="1") == "0"
    code = code.replace("before = ", "fastopt.set_num_threads(2); before = ")
    assert printed(code, OPENBLAS_NUM_THREADS="1") == "1"


def test_import_loads_only_what_it_needs():
    lazy = ("fastopt.reference.losses", "fastopt.checkpoint", "matplotlib", "safetensors", "torch", "tqdm")
    assert printed(f"import sys; print([name for name in {lazy} if name in sys.modules])") == "[]"
    assert printed("print(fastopt.reference.losses.mse.__name__, fastopt.save.__name__)") == "mse save"


def test_power_agrees_with_the_operator():
    assert fastopt.reference.power(0.5, -1) == 1.0  # and no endless loop
    for base in (0.0, 0.5, 0.9, 0.999, 1 - 1e-9):
        for exponent in (0, 1, 2, 3, 10, 1000, 123457):
            assert fastopt.reference.power(base, exponent) == pytest.approx(base**exponent, rel=1e-9, abs=5e-324)


def test_several_threads_step_their_own_optimizers():
    def train(param):
        optimizer = fastopt.Adam(param, max_grad_norm=1.0)
        grad = np.linspace(-1, 1, param.size)
        for _ in range(50):
            optimizer.step(grad)

    params = [np.ones(50_000) for _ in range(4)]
    workers = [threading.Thread(target=train, args=(param,)) for param in params[1:]]
    for worker in workers:
        worker.start()
    train(params[0])
    for worker in workers:
        worker.join()
    assert all((param == params[0]).all() for param in params)


@pytest.mark.slow
def test_more_than_2_31_elements():
    """Steps reach elements past 2^31. The gradient needs no memory; the second half of the test needs 8.6 GB."""
    size = 2**31 + 5
    try:
        grad, param = np.zeros(size, np.float32), np.zeros(size, np.float32)
    except MemoryError:
        pytest.skip("needs 17 GB of addresses")
    grad[-1] = np.inf
    optimizer = fastopt.SGD(param, lr=1.0, nonfinite="skip", max_grad_norm=2.0)
    optimizer.step(grad)  # reads all, writes nothing
    assert optimizer.skipped == 1
    if memory_available() < 11e9:
        pytest.skip("the part that writes needs 11 GB")
    where = [0, 2**31 - 1, 2**31, size - 1]
    grad[where] = 1.0
    optimizer.step(grad)
    assert optimizer.grad_norm == 2.0
    assert np.flatnonzero(param).tolist() == where
    np.testing.assert_allclose(param[where], -1, rtol=1e-6)


def memory_available():
    """Return the available bytes of the machine, or of the container."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            available = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except OSError:
        return 0
    limits = [Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes")]
    texts = [limit.read_text(encoding="ascii").strip() for limit in limits if limit.exists()]
    return min([available, *(int(text) for text in texts if text.isdecimal())])
