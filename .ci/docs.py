"""Build the web site from the docstrings: python .ci/docs.py [FOLDER], by default into site/.

Warnings are errors, and so are names of fastopt in backticks that don't exist and directives that were not converted.
"""

from __future__ import annotations

import pkgutil
import re
import sys
import warnings
from pathlib import Path

import pdoc
from check_docstrings import MODULES

import fastopt

LEFT_OVER = r"<p>\.\. \w+::|:\w+:<code>"


def aligned(docstring: str, *rest: object) -> str:
    """Convert ``.. math::`` as Sphinx does: lines that end in a double backslash are aligned at ``&``."""

    def equation(match: re.Match[str]) -> str:
        lines = " ".join(match["lines"].split()).replace("\\\\", "\\\\\\\\")
        return f"{match['indent']}$$\\begin{{aligned}}{lines}\\end{{aligned}}$$\n\n"

    directive = r"^(?P<indent> *)\.\. math::[ \n]*\n?(?P<lines>.*\n(?:(?P=indent) +\S.*\n)*)"
    return convert_rst(re.sub(directive, equation, docstring + "\n", flags=re.MULTILINE), *rest)


convert_rst = pdoc.docstrings.rst
pdoc.docstrings.rst = aligned


def exists(name: str) -> bool:
    """Return whether a dotted name can be imported."""
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


def main(folder: str = "site") -> None:
    """Build the pages, then look for errors in them."""
    warnings.simplefilter("error")
    assert fastopt.save  # pdoc looks for names in the module's dict, where it adds those that are imported lazily
    pdoc.render.configure(docformat="numpy", math=True, footer_text="fastopt")
    included = pdoc.extract.walk_specs(["fastopt"])
    pdoc.pdoc("fastopt", *(name for name in MODULES if name not in included), output_directory=Path(folder))
    errors = []
    for page in sorted(Path(folder).rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        errors += [f"{page}: not converted: {found}" for found in re.findall(LEFT_OVER, text)]
        names = set(re.findall(r"<code>(fastopt(?:\.\w+)+)</code>", text))
        errors += [f"{page}: there is no {name}" for name in sorted(names) if not exists(name)]
    sys.exit("\n".join(errors) or 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
