"""The command line: ``python -m fastopt`` prints a report of the build and the machine; ``--help`` lists commands."""

from __future__ import annotations

from fastopt._commands import Parser, bench, plot
from fastopt._commands.report import report


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, and run a command or print the report."""
    text = "Print a report of the build, the machine and the libraries found, or run a command."
    parser = Parser(prog="python -m fastopt", description=text)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (bench, plot):
        command.add_to(commands)
    options = parser.parse_args(arguments)
    if "run" in options:
        options.run(options)
    else:
        print(report())


if __name__ == "__main__":
    main()
