# PYTHON_ARGCOMPLETE_OK
"""The installed command `raycifar`, with the two commands as its sub-commands."""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from raycifar.commands import analyze, run_options, run_sweep
from raycifar.commands.parser import Parser, complete, examples, replace_what_cannot_be_printed
from raycifar.errors import nearest
from raycifar.program import called_as, program

COMMANDS = {"run": run_sweep.main, "analyze": analyze.main}
PARSERS: dict[str, Callable[[], Parser]] = {"run": run_options.make_parser, "analyze": analyze.make_parser}
DESCRIPTION = "Transfer learning against training from scratch on many GPUs with Ray: VGG16 on CIFAR-10, or your own."
EXAMPLES = (
    ("run quick", "a sweep that takes minutes on a laptop"),
    ("analyze ~/ray_results/quick", "its tables, figures and report"),
    ("run --help", "all options of a command"),
)


def main(arguments: list[str] | None = None, command: str = "raycifar") -> int:
    """`command` is what the user types in front of a sub-command."""
    replace_what_cannot_be_printed()
    words = sys.argv[1:] if arguments is None else arguments
    with called_as(command):
        complete(make_parser)
        if words and words[0] in COMMANDS:
            return COMMANDS[words[0]](words[1:])
        return _no_command(words)


def _no_command(words: list[str]) -> int:
    parser = make_parser()
    if words and not words[0].startswith("-"):
        parser.error(f"{words[0]!r}: no such command{nearest(words[0], list(COMMANDS))}")
    parser.parse_args(words)
    parser.print_help()
    return 0


def make_parser() -> Parser:
    """The whole command line, sub-commands and their options included."""
    parser = Parser(program().command, description=DESCRIPTION, epilog=examples(program().command, EXAMPLES))
    parser.add_argument("--version", action="version", version=f"raycifar {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, make in PARSERS.items():
        made = make()
        commands.add_parser(name, help=made.description, parents=[made], add_help=False)
    return parser


def _version() -> str:
    try:
        return version("raycifar")
    except PackageNotFoundError:  # the source alone, on Python's path
        return "(not installed)"
