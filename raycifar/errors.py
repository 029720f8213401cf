"""Errors in what a user handed in, worded so that they print safely, with a suggestion for a misspelt word."""

import difflib
from collections.abc import Sequence

from raycifar.texts import printable


class InputError(Exception):
    """Something that the user handed in is wrong. The message names place, value and remedy.

    Each argument becomes one line, whatever paths and keys it quotes: characters that cannot be printed are escaped,
    line breaks among them.
    """

    def __init__(self, *lines: str):
        super().__init__("\n".join(printable(line) for line in lines))


def nearest(word: str, known: Sequence[str]) -> str:
    """', did you mean ...?', where one of the known words is close, capitals or not."""
    spelt = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=0.5)
    return f", did you mean {spelt[close[0]]!r}?" if close else ""
