"""Completion of the two commands in a shell."""

import argparse
import contextlib
import os


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks for completions, where the optional argcomplete is installed, and ends."""
    if "_ARGCOMPLETE" in os.environ:
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)
