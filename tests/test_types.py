"""Promise: code of users passes ``mypy --strict``, which finds their mistakes; stubs match the compiled modules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typed_user
from processes import run_python

ROOT = Path(__file__).parent.parent


def run_mypy(*arguments):
    pytest.importorskip("mypy")
    done = run_python("-m", *arguments, PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stdout + done.stderr


def test_user_code_runs(tmp_path):
    typed_user.main(tmp_path / "run.npz")


def test_user_code_passes_mypy(tmp_path):
    """With fastopt installed and its ``py.typed``, or its sources, whose own errors users do not see, either."""
    code = shutil.copy(typed_user.__file__, tmp_path)
    run_mypy("mypy", "--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path}", code)


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs the sources")
@pytest.mark.slow
def test_stubs_match_the_compiled_modules():
    options = ["--mypy-config-file", ROOT / "pyproject.toml", "--allowlist", ROOT / ".ci" / "stubtest_allowlist.txt"]
    run_mypy("mypy.stubtest", "fastopt", *options, "--ignore-unused-allowlist")
