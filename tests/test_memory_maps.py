"""Memory-mapped parameters and optimizer states."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, hard_numbers, layouts, same_bits, start_values
from processes import needs_posix

import fastopt


@pytest.mark.parametrize("case", CASES, ids=str)
def test_mapped_states_are_bit_identical(case, tmp_path):
    start, grad = start_values(5000, np.float32), hard_numbers(5000, np.float32)
    params, mapped = start.copy(), np.memmap(tmp_path / "params", np.float32, "w+", shape=5000)
    mapped[:] = start
    optimizer, other = case.make(params), case.make(mapped, state_dir=tmp_path)
    for _ in range(4):
        optimizer.step(grad.copy())
        other.step(grad.copy())
    assert same_bits(np.asarray(mapped), params)
    files = {file.stem for file in tmp_path.glob("*.npy")}
    assert files == set(optimizer.state)
    for name, state in optimizer.state.items():
        assert same_bits(other.state[name], state)
        assert same_bits(np.load(tmp_path / f"{name}.npy"), state)  # the content of the file


@pytest.mark.parametrize("kind", layouts(40))
def test_mapped_states_for_every_kind_of_parameters(kind, tmp_path):
    make, read = layouts(40)[kind]
    start = np.arange(40.0)
    params, mapped = make(start), make(start)
    optimizer, other = fastopt.Adam(params), fastopt.Adam(mapped, state_dir=str(tmp_path))
    for one, things in ((optimizer, params), (other, mapped)):
        one.step(make(read(things)))
    assert same_bits(read(params), read(mapped))
    saved = other.state_dict()
    other.step(make(start))
    other.load_state_dict(saved)
    assert same_bits(read(other.state["exp_avg"]), read(optimizer.state["exp_avg"]))


def test_file_names_of_groups_and_odd_names_are_distinct(tmp_path):
    groups = [{"params": {"a/b": np.ones(2), "../c": np.ones(3)}}, {"params": [np.ones(4), np.zeros((0, 3))]}]
    optimizer = fastopt.Momentum(groups, state_dir=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "momentum_buffer[0]['a%2Fb'].npy",
        "momentum_buffer[0]['..%2Fc'].npy",
        "momentum_buffer[1][0].npy",
    }
    optimizer.step([{"a/b": np.ones(2), "../c": np.ones(3)}, [np.ones(4), np.zeros((0, 3))]])


def test_existing_files_are_not_overwritten_and_errors_leave_no_file(tmp_path):
    (tmp_path / "exp_avg_sq['v'].npy").write_text("precious")
    params = {"w": np.ones(3), "v": np.ones(3)}
    with pytest.raises(FileExistsError, match=re.escape("exp_avg_sq['v'].npy")):
        fastopt.Adam(params, state_dir=tmp_path)
    assert_only_precious(tmp_path)
    with pytest.raises(ValueError, match="overlap"):
        fastopt.Momentum([params["w"], params["w"]], state_dir=tmp_path)
    assert_only_precious(tmp_path)


def assert_only_precious(folder):
    """Check the files of a folder; Windows does not delete those that are mapped."""
    files = [file for file in folder.iterdir() if os.name == "posix" or "_sq" in file.name]
    assert [file.read_text() for file in files] == ["precious"]


def test_file_that_another_process_creates_first_is_not_deleted(tmp_path, monkeypatch):
    open_file = Path.open

    def open_second(file, mode):
        with open_file(file, "w") as first:
            first.write("precious")
        return open_file(file, mode)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_second)
        with pytest.raises(FileExistsError, match=re.escape("exp_avg.npy")):
            fastopt.Adam(np.ones(3), state_dir=tmp_path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


FULL = """
import os, resource, sys
import numpy as np, fastopt
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    fastopt.Adam([np.ones(1000), np.ones(10**6)], state_dir=sys.argv[1])
except OSError as error:
    print(type(error).__name__, error, os.listdir(sys.argv[1]))
"""


@needs_posix
def test_full_disk_raises_when_the_optimizer_is_built(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    assert re.search(r"OSError .*File too large: '.*exp_avg\[1\].npy' \[\]", done.stdout)


LARGE = """
import resource, sys
import numpy as np, fastopt
size = 40_000_000
params = np.memmap(sys.argv[1] + "/params", np.float32, "w+", shape=size)
grads = np.memmap(sys.argv[1] + "/grads", np.float32, "w+", shape=size)
grads[:] = 1
resource.setrlimit(resource.RLIMIT_DATA, (300 * 2**20, 300 * 2**20))  # private memory
try:
    fastopt.Adam(params)
except MemoryError:
    print("not in memory")
optimizer = fastopt.Adam(params, lr=0.5, state_dir=sys.argv[1])
optimizer.step(grads)
print(np.unique(params))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit private memory")
def test_mapped_states_exceed_the_memory_limit(tmp_path):
    """Two states of 160 MB with a limit of 300 MiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LARGE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("not in memory\n[-0.5]\n", "")
