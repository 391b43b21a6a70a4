"""Every example in a docstring or in the README runs and prints the documented output."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import fastopt
from fastopt import kernels, optimizers, reference, schedules

README = Path(__file__).parent.parent / "README.md"
MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(fastopt.__path__, "fastopt.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("module", [fastopt, *MODULES], ids=lambda module: module.__name__)
def test_docstrings(module):
    failures, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS, verbose=False)
    assert failures == 0


PUBLIC = {
    name: getattr(module, name)
    for module in (fastopt, kernels, reference, schedules)
    for name in (getattr(module, "__all__", None) or vars(module))
    if inspect.isfunction(getattr(module, name)) or inspect.isclass(getattr(module, name))
    if not name.startswith("_") and getattr(module, name).__module__.startswith("fastopt")
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_objects_have_an_example(name):
    assert ">>>" in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", optimizers.__all__)
def test_optimizers_have_equation_reference_and_example(name):
    text = inspect.getdoc(getattr(fastopt, name))
    assert ".. math::" in text or ":math:" in text
    assert "References" in text
    assert ">>> optimizer.step(" in text or "...     optimizer.step(" in text


@pytest.mark.skipif(not README.exists(), reason="needs the README")
def test_readme_examples_print_their_output(capsys):
    text = README.read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.MULTILINE | re.DOTALL)
    assert examples
    for source, output in examples:
        exec(compile(source, str(README), "exec"), {})
        assert capsys.readouterr().out == output


@pytest.mark.skipif(not README.exists(), reason="needs the README")
@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_and_headings_exist(page):
    text = (README.parent / page).read_text(encoding="utf-8")
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        target = README.parent / (path or page)
        assert target.exists(), path
        if anchor:
            titles = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles]
