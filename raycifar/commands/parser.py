"""What both commands' argument parsers share: mistakes answered in one line, and completion in a shell."""

import argparse
import contextlib
import os
import re
from typing import NoReturn

from raycifar.errors import nearest, printable


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that names the mistake in one line, without the usage, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments:.*? --?([^\s=]+)", message)
        known = [option.removeprefix("--") for option in self._option_string_actions]
        hint = nearest(unknown[1], known).replace("'", "'--", 1) if unknown else ""
        self.exit(2, f"{self.prog}: {printable(message)}{hint} (--help shows what there is)\n")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks for completions, where the optional argcomplete is installed, and ends."""
    if "_ARGCOMPLETE" in os.environ:
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)
