"""Change lines of a program: move it to fastopt, and time its optimizer.

A line is identified by a short text that occurs in exactly one line of its file, so that nothing of the program has to
be repeated here. ``files`` are the lines of a program's files, by name.
"""

from __future__ import annotations

import difflib
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Replace lines of a file by others, which get the indentation of the first of them."""

    file: str
    line: str  # a text in the first line
    new: str
    lines: int = 1
    count: int = 1  # how often this is done


@dataclass(frozen=True)
class Timed:
    """The lines that are the optimizer: from the line with one text to the line with another (default: one line).

    With ``call``, ``"module:Class.method"``, a function of a library is timed instead. ``calls`` is their number in a
    step of the training loop.
    """

    file: str = ""
    first: str = ""
    last: str = ""
    call: str = ""
    calls: int = 1


@dataclass(frozen=True)
class Recorded:
    """An expression, evaluated before a line once a step, by which the program is compared with the edited one."""

    file: str
    line: str
    expression: str


def find(files, file, text, count=1):
    """Return the indices of the lines that contain the text."""
    found = [index for index, line in enumerate(files[file]) if text in line]
    if len(found) != count:
        raise ValueError(f"{file} must have {count} line(s) with {text!r}, got {len(found)}")
    return found


def indented(text, like):
    """Return the lines of a text with the indentation of a line."""
    indent = like[: len(like) - len(like.lstrip())]
    return textwrap.indent(textwrap.dedent(text).strip("\n"), indent).splitlines()


def apply(files, edits):
    """Return the files after the edits, and the numbers of added and of removed lines."""
    files, signs = dict(files), []
    for edit in edits:
        for index in reversed(find(files, edit.file, edit.line, edit.count)):
            lines = files[edit.file]
            old, new = lines[index : index + edit.lines], indented(edit.new, lines[index])
            files[edit.file] = [*lines[:index], *new, *lines[index + edit.lines :]]
            signs += [line[0] for line in difflib.ndiff(old, new)]
    return files, (signs.count("+"), signs.count("-"))


def insert_clock(files, timed, recorded):
    """Return the files with calls of ``loop_clock``, which ``loop_child.py`` defines, around the optimizer."""
    files = dict(files)

    def insert(file, index, like, call):
        lines = files[file]
        files[file] = [*lines[:index], *indented(f"loop_clock.{call}", lines[like]), *lines[index:]]

    [line] = find(files, recorded.file, recorded.line)
    insert(recorded.file, line, line, f"record({recorded.expression})")
    if timed.file:
        [first] = find(files, timed.file, timed.first)
        [last] = find(files, timed.file, timed.last) if timed.last else [first]
        insert(timed.file, last + 1, first, "stop()")
        insert(timed.file, first, first, "start()")
    return files
