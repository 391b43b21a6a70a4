"""Every example in a docstring or in the README runs and prints the documented output."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from processes import run_python

import fastopt
from fastopt import kernels, optimizers, reference, schedules
from fastopt.optimizers._options import Common

README = Path(__file__).parent.parent / "README.md"
MODULES = [
    module.name
    for module in pkgutil.walk_packages(fastopt.__path__, "fastopt.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["fastopt", *MODULES])
def test_docstrings(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:  # the library that an adapter is for
        if error.name.startswith("fastopt"):
            raise
        pytest.skip(f"needs {error.name}")
    failures, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS, verbose=False)
    assert failures == 0


PUBLIC = {
    name: getattr(module, name)
    for module in (fastopt, kernels, reference, schedules)
    for name in (getattr(module, "__all__", None) or vars(module))
    if inspect.isfunction(getattr(module, name)) or inspect.isclass(getattr(module, name))
    if not name.startswith("_") and getattr(module, name).__module__.startswith("fastopt")
}


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - {"Optimizer"}))  # a base class, for annotations only
def test_public_objects_have_an_example(name):
    assert ">>>" in inspect.getdoc(PUBLIC[name])


SECTIONS = ["Parameters", "Attributes", "Raises", "Notes", "References", "Examples"]


def sections(text):
    """Return the titles of a docstring's sections, in order."""
    return re.findall(r"^(.+)\n-+$", text, re.MULTILINE)


def parameters(text):
    """Return the documented parameters, with the line of the type of each."""
    section = text.split("Parameters\n----------\n")[1].split("\n\n")[0]
    return dict(re.findall(r"^(\w+) : (.+)$", section, re.MULTILINE))


@pytest.mark.parametrize("name", optimizers.__all__)
def test_optimizer_docstring_is_complete(name):
    text = inspect.getdoc(getattr(fastopt, name))
    assert sections(text) == SECTIONS
    assert ".. math::" in text
    assert re.search(r"^\.\. \[1\] \w", text.split("References\n----------\n")[1], re.MULTILINE)
    assert re.search(r"^(>>>|\.\.\.)\s+optimizer\.step\(", text, re.MULTILINE)
    assert not re.search(r"^\s*<[\w ]+>$", text, re.MULTILINE)  # the shared text has replaced its markers
    assert "{" not in parameters(text)["lr"]


@pytest.mark.parametrize("name", optimizers.__all__)
def test_optimizer_docstring_has_the_parameters_of_the_signature_and_the_shared_options(name):
    cls = getattr(fastopt, name)
    documented = parameters(inspect.getdoc(cls))
    own = inspect.signature(cls).parameters
    shared = list(Common.__annotations__)
    assert list(documented) == [*(p for p in own if p != "common"), *(option for option in shared if option not in own)]
    group = cls(np.zeros(1)).param_groups[0]
    for option, line in documented.items():
        if option in group:  # the documented default is the default
            default = re.search(r"default (.+)$", line)
            assert default, option
            assert eval(default[1]) == group[option], option


def test_subclass_of_an_optimizer_keeps_its_own_docstring():
    class Documented(fastopt.Adam):
        """Do something else."""

    class Undocumented(fastopt.Adam):
        pass

    assert inspect.getdoc(Documented) == "Do something else."
    assert inspect.getdoc(Undocumented) == inspect.getdoc(fastopt.Adam)


def test_import_works_without_docstrings():
    done = run_python("-OO", "-c", "import fastopt; print(fastopt.Adam.__doc__)")
    assert done.stdout == "None\n", done.stderr


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
