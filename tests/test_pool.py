"""Run the thread pool in a C program, also on systems on which Python does not run here."""

from __future__ import annotations

import pytest
from c_programs import ARM64, CC, EMULATED_ARM64, WINDOWS, built, needs_arm64, needs_cc, needs_wine, run, run_in_wine

PASSED = "0 failures\n"


@needs_cc
def test_every_index_runs_once(tmp_path):
    assert run(built(tmp_path, "pool", CC)) == (PASSED, 0)


@pytest.mark.slow
@needs_arm64
def test_every_index_runs_once_on_arm64(tmp_path):
    assert run(EMULATED_ARM64, built(tmp_path, "pool", ARM64)) == (PASSED, 0)


@pytest.mark.slow
@needs_wine
def test_every_index_runs_once_on_windows(tmp_path):
    assert run_in_wine(tmp_path / "wine", built(tmp_path, "pool", WINDOWS)) == (PASSED.splitlines(), 0)
