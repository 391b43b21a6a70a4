"""How many threads a step gets: the choice by measurement, its limits, and that it changes no bit."""

from __future__ import annotations

import os
import threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from cases import CASES, hard_numbers, same_bits, start_values
from processes import run_python

import fastopt
from fastopt import _core, runtime

US = 1e-6


class Loop:
    """A made-up training loop: ``step`` and ``rest`` give seconds for a number of threads, asleep or awake."""

    def __init__(self, step, rest, most=2, noise=0.0):
        self.step, self.rest, self.most, self.noise = step, rest, most, noise
        self.tuner, self.now, self.used = _core.Tuner(), 0.0, []
        self.random = np.random.default_rng(0)

    def seconds(self, about):
        return about * (1 + self.noise * self.random.random())

    def run(self, iterations):
        """Give the mean seconds of an iteration."""
        start = self.now
        for _ in range(iterations):
            self.tuner.ask(self.most)
            choice = self.tuner.threads, self.tuner.awake
            self.used.append(choice)
            begin = self.now
            self.now += self.seconds(self.step(*choice))
            self.tuner.tell(begin, self.now)
            self.now += self.seconds(self.rest(*choice))
        return (self.now - start) / iterations

    def best(self):
        """Give the seconds of an iteration with the best fixed choice."""
        choices = [(1, False), *((t, awake) for t in range(2, self.most + 1) for awake in (False, True))]
        return min(self.step(*choice) + self.rest(*choice) for choice in choices) * (1 + self.noise / 2)


def waking(threads, awake, us):
    """Seconds until the workers are there."""
    return 0.0 if threads == 1 or awake else us * US


LOOPS = {
    "two halve a long step": (lambda t, w: 2000 * US / t + waking(t, w, 60), lambda t, w: 6000 * US, 2),
    "waking costs more than it saves, spinning more": (
        lambda t, w: 100 * US / t + waking(t, w, 80),
        lambda t, w: (8000 if w else 300) * US,
        2,
    ),
    "waking costs more than it saves, spinning nothing": (
        lambda t, w: 100 * US / t + waking(t, w, 80),
        lambda t, w: 300 * US,
        2,
    ),
    "spinning workers take the cores of the product": (
        lambda t, w: 1000 * US / t + waking(t, w, 60),
        lambda t, w: (8000 if w else 4000) * US,
        2,
    ),
    "any workers do": (lambda t, w: 60 * US / t, lambda t, w: (90 if t == 1 else 8000) * US, 2),
    "the same": (lambda t, w: 1000 * US, lambda t, w: 3000 * US, 2),
    "memory is saturated by four": (
        lambda t, w: 9000 * US / min(t, 4) + 60 * US * t + waking(t, w, 100),
        lambda t, w: 9000 * US,
        16,
    ),
    "all sixteen": (lambda t, w: 90_000 * US / t + 10 * US * t, lambda t, w: 9000 * US, 16),
    "six processors": (lambda t, w: 90_000 * US / t, lambda t, w: 9000 * US, 6),
}


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("name", LOOPS)
def test_the_loop_is_hardly_slower_than_with_the_best_fixed_choice(name, noise):
    step, rest, most = LOOPS[name]
    loop = Loop(step, rest, most, noise)
    loop.run(400)
    assert loop.run(3000) <= 1.05 * loop.best()


@pytest.mark.parametrize("name", LOOPS)
def test_the_choice_is_made_within_a_few_steps(name):
    step, rest, most = LOOPS[name]
    loop = Loop(step, rest, most)
    loop.run(64 * (most.bit_length() - 1))
    loop.used.clear()
    loop.run(60)
    chosen, _ = Counter(loop.used).most_common(1)[0]
    assert step(*chosen) + rest(*chosen) <= 1.05 * loop.best()


def test_a_step_shorter_than_waking_a_worker_is_never_shared():
    loop = Loop(lambda t, w: 7 * US, lambda t, w: 100 * US)
    loop.run(5000)
    assert set(loop.used) == {(1, False)}
    assert loop.tuner.looks == 0


def test_workers_have_time_to_wake_up_in_a_look():
    """Steps of 12 us, and of 7 us once the workers are awake, which takes 80 us of such steps in a row."""
    since = None

    def step(threads, awake):
        nonlocal since
        if not awake:
            since = None
            return (12 if threads == 1 else 25) * US
        since = loop.now if since is None else since
        return (7 if loop.now - since > 80 * US else 25) * US

    loop = Loop(step, lambda t, w: 2 * US)
    loop.run(10_000)
    assert loop.used.count((2, True)) > 0.9 * len(loop.used)


def test_the_choice_follows_its_surroundings():
    now = SimpleNamespace(best=(2, False))
    loop = Loop(lambda t, w: (1000 if (t, w) == now.best else 2000) * US, lambda t, w: 5000 * US)
    for now.best in [(2, False), (1, False), (2, True), (2, False), (2, True), (1, False)]:
        loop.run(2000)
        assert loop.used.count(now.best) > len(loop.used) / 2
        loop.used.clear()


def test_pauses_of_the_loop_are_not_blamed_on_threads():
    """A second of validation, say, in an iteration with more threads."""
    pauses = iter(range(10_000))
    loop = Loop(lambda t, w: 2000 * US / t, lambda t, w: 1.0 if next(pauses) % 7 == 0 else 5000 * US)
    loop.run(1000)
    assert loop.used.count((2, False)) > 700


def test_harm_that_comes_only_sometimes_is_seen():
    """The scheduler lets a product wait for a spinning worker in some iterations."""
    random = np.random.default_rng(0)
    loop = Loop(
        lambda t, w: (1000 if t == 1 else 1300 if not w else 850) * US,
        lambda t, w: (8000 if random.random() < (0.6 if w else 0.15) else 4000) * US,
    )
    loop.run(4000)
    assert loop.used.count((1, False)) > 0.8 * len(loop.used)


def test_a_change_of_the_limit_begins_anew():
    loop = Loop(lambda t, w: 2000 * US / t, lambda t, w: 6000 * US, most=4)
    loop.run(300)
    assert (4, False) in loop.used[-20:]
    loop.most = 1
    loop.run(20)
    assert set(loop.used[-20:]) == {(1, False)}
    loop.most = 2
    loop.run(100)
    assert (2, False) in loop.used[-20:]


def test_spinning_can_be_forbidden():
    _core.use_spinning(False)
    try:
        loop = Loop(lambda t, w: 1000 * US / t + waking(t, w, 300), lambda t, w: 6000 * US)
        loop.run(1000)
    finally:
        _core.use_spinning(True)
    assert {choice for choice in loop.used if choice[1]} == set()
    loop = Loop(lambda t, w: 1000 * US / t + waking(t, w, 300), lambda t, w: 6000 * US)
    loop.run(1000)
    assert loop.used.count((2, True)) > 800


# In a real optimizer


@pytest.mark.parametrize("case", CASES, ids=str)
def test_looking_changes_no_bit(case, monkeypatch):
    """Steps on one and two threads in turn, as the tuner asks for, against steps on one."""
    monkeypatch.setattr(runtime, "available_threads", lambda: 2)
    size = 2**20 + 1
    start = start_values(size, np.float32)
    gradients = [hard_numbers(size, np.float32, seed=seed) for seed in range(2)]
    results = []
    for threads in (1, "auto"):
        fastopt.set_num_threads(threads)
        param = start.copy()
        optimizer = case.make(param)
        for step in range(36):  # two looks, at two threads asleep and awake
            optimizer.step(gradients[step % 2].copy())
        results.append([param, optimizer.grad_norm, *optimizer.state.values()])
    assert optimizer.execution_info()["looks"] >= 2
    (param, norm, *states), (other, other_norm, *other_states) = results
    assert norm == other_norm
    assert same_bits(param, other)
    assert all(map(same_bits, states, other_states))


def test_plan_info_tells_what_was_measured(monkeypatch):
    monkeypatch.setattr(runtime, "available_threads", lambda: 2)
    fastopt.set_num_threads("auto")
    param = np.zeros((3, 2**19), np.float32)
    optimizer = fastopt.Adam(list(param))
    info = optimizer.execution_info()
    assert info["tensors"] == 3
    assert info["elements"] == param.size
    assert info["chunks"] == param.size // _core.CHUNK
    assert info["isa"] == fastopt.isa()
    assert (info["threads"], info["most_threads"], info["looks"], info["measured"]) == (1, 2, 0, [])
    assert info["awake"] is False
    grad = np.ones_like(param)
    for _ in range(18):  # two steps, and a look
        optimizer.step(list(grad))
    info = optimizer.execution_info()
    assert info["looks"] == 1
    assert [found["threads"] for found in info["measured"]] == [1, 2]
    assert all(0 < found["step"] < 10 and 0 <= found["rest"] < 10 for found in info["measured"])
    fastopt.set_num_threads(5)
    assert optimizer.execution_info()["threads"] == 5
    fastopt.set_num_threads(1)
    assert optimizer.execution_info()["threads"] == 1


def test_bare_calls_remember_the_choice(monkeypatch):
    monkeypatch.setattr(runtime, "available_threads", lambda: 2)
    fastopt.set_num_threads("auto")
    arrays = [np.ones(2**21 + 7) for _ in range(2)]
    for step in range(1, 19):
        fastopt.kernels.sgd(*arrays, step=step, lr=0.1)
    assert fastopt.kernels._tuners["sgd", 22, 2].looks == 1


def test_small_steps_are_not_even_timed():
    optimizer = fastopt.Adam(np.zeros(1000))
    for _ in range(100):
        optimizer.step(np.ones(1000))
    assert optimizer.execution_info()["looks"] == 0
    assert optimizer.execution_info()["most_threads"] == 1


def test_threadpoolctl_sees_and_limits_the_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    fastopt.set_num_threads(1000)
    optimizer = fastopt.SGD(np.zeros(2**22, np.float32))
    assert optimizer.execution_info()["threads"] == 1000

    def ours():
        return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "fastopt"]

    assert [(pool["num_threads"], pool["version"]) for pool in ours()] == [(1000, fastopt.__version__)]
    with threadpoolctl.threadpool_limits(1):
        assert optimizer.execution_info()["threads"] == ours()[0]["num_threads"] == 1
        fastopt.set_num_threads(500)
        assert optimizer.execution_info()["threads"] == 1
    fastopt.set_num_threads(2000 // 2)
    assert optimizer.execution_info()["threads"] == 1000
    fastopt.set_num_threads(2)
    with threadpoolctl.threadpool_limits(1):
        fastopt.set_num_threads(8)
        assert optimizer.execution_info()["threads"] == 1
    assert optimizer.execution_info()["threads"] == 8


def group(root, path, **files):
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def belongs_to(root, text):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [("100000 100000", 1), ("max 100000", 64), ("250000 100000", 3), ("5000 100000", 1), ("9900000 100000", 64)],
)
def test_the_quota_of_a_control_group_is_a_limit(tmp_path, monkeypatch, quota, wanted):
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    belongs_to(tmp_path, "0::/user/job\n")
    group(tmp_path, "user/job", cpu__max=quota)
    assert runtime.available_threads(tmp_path) == wanted


def test_the_quota_above_a_group_and_version_1_count_too(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    belongs_to(tmp_path, "5:memory:/job\n4:cpu,cpuacct:/job\n0::/a/b\n")
    assert runtime.available_threads(tmp_path) == 64  # no files, no limits
    group(tmp_path, "a/b", cpu__max="max 100000")
    group(tmp_path, "a", cpu__max="700000 100000")
    assert runtime.available_threads(tmp_path) == 7
    group(tmp_path, "cpu/job", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert runtime.available_threads(tmp_path) == 7
    group(tmp_path, "cpu", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    assert runtime.available_threads(tmp_path) == 2
    group(tmp_path, "", cpu__max="what is this")
    assert runtime.available_threads(tmp_path) == 2


def test_affinity_is_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    assert runtime.available_threads(tmp_path) == 3
    assert runtime.available_threads() <= 3


def test_nothing_changes_under_a_running_step():
    class Sneaky:
        @property
        def __array_interface__(self):
            with pytest.raises(RuntimeError, match="in use already"):
                optimizer._plan.set(0, {"rate": 5.0})
            with pytest.raises(RuntimeError, match="in use already"):
                optimizer._plan.set_norm(2.0, None, False)
            return np.ones(3).__array_interface__

    optimizer = fastopt.SGD(np.zeros(3), lr=1.0)
    optimizer.step(Sneaky())
    assert optimizer.steps == 1


def each_in_a_thread(train, params):
    workers = [threading.Thread(target=train, args=(param,)) for param in params]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_three_python_threads_look_at_once(monkeypatch):
    monkeypatch.setattr(runtime, "available_threads", lambda: 2)
    fastopt.set_num_threads("auto")
    params = [np.ones(2**18, np.float32) for _ in range(3)]

    def train(param):
        optimizer = fastopt.Adam(param, max_grad_norm=1.0)
        grad = np.linspace(-1, 1, param.size, dtype=np.float32)
        for _ in range(60):
            optimizer.step(grad)

    each_in_a_thread(train, params)
    assert (params[0] == params[1]).all()
    assert (params[0] == params[2]).all()


def test_every_chunk_is_visited_once_however_threads_come_and_go():
    """Thousands of steps that count, on more threads than processors, from several Python threads at once."""
    fastopt.set_num_threads(7)
    sizes = [1, 4097, 20_000, 65_536]
    params = [np.zeros(size, np.float32) for size in sizes]
    steps = 1500

    def count(param):
        optimizer, grad = fastopt.SGD(param, lr=1.0), -np.ones_like(param)
        for _ in range(steps):
            optimizer.step(grad)

    each_in_a_thread(count, params)
    for param in params:
        assert (param == steps).all()


AWAY = """
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
def test_workers_run_elsewhere_than_their_caller():
    done = run_python("-c", AWAY)
    assert done.returncode == 0, done.stderr


def test_a_short_soak():
    """Random steps, checkpoints, forks, threads; an hour of it is in tests/README.md."""
    script = os.path.join(os.path.dirname(__file__), "soak.py")
    done = run_python(script, 300)
    assert done.returncode == 0, done.stderr
    counts = done.stdout
    assert all(f"'{action}'" in counts for action in ("step", "checkpoint", "fork", "threads", "new"))
