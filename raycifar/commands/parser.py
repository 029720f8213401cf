"""What the commands share: mistakes answered in one line, examples, completion in a shell, output in any encoding."""

import argparse
import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from raycifar.errors import nearest
from raycifar.texts import printable


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that names the mistake in one line, without the usage, and exits with 2."""

    def __init__(self, prog: str, **settings: Any) -> None:
        lines_as_they_are = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, formatter_class=lines_as_they_are, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments:.*? --?([^\s=]+)", message)
        known = [option.removeprefix("--") for option in self._option_string_actions]
        hint = nearest(unknown[1], known).replace("'", "'--", 1) if unknown else ""
        self.exit(2, f"{self.prog}: {printable(message)}{hint} (--help shows what there is)\n")


def examples(command: str, rows: Iterable[tuple[str, str]]) -> str:
    """The help's examples: what stands behind the command, and what that does, as two columns."""
    lines = [(f"  {command} {arguments}", meaning) for arguments, meaning in rows]
    width = max(len(line) for line, meaning in lines if meaning) + 3
    return "\n".join(["examples:", *(f"{line:<{width}}{meaning}".rstrip() for line, meaning in lines)])


def complete(make: Callable[[], argparse.ArgumentParser]) -> None:
    """Answer a shell that asks for completions, where the optional argcomplete is installed, and end the process."""
    if "_ARGCOMPLETE" in os.environ:
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(make())


def replace_what_cannot_be_printed() -> None:
    """Standard output and errors in an encoding other than UTF-8 get "?" for each character that they cannot hold.

    Otherwise the first such character, in a report's dash or a trial's name, would end the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and _can_fail(stream):
            stream.reconfigure(errors="replace")


def _can_fail(stream: io.TextIOWrapper) -> bool:
    """Standard errors escape by default; surrogateescape, which prints file names as they are, helps only UTF-8."""
    in_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
    return stream.errors == "strict" or (stream.errors == "surrogateescape" and not in_utf8)
