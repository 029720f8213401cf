"""What others wrote: read only where it is a file, and only so much of it; refused in words that stay on their line."""

import difflib
from collections.abc import Sequence


class InputError(Exception):
    """Something that was handed in is wrong. The message names place, value and remedy.

    It has as many lines as the constructor was given, whatever paths and keys they quote: what cannot be printed,
    line breaks among it, is escaped.
    """

    def __init__(self, *lines: str):
        super().__init__("\n".join(printable(line) for line in lines))


def printable(text: str) -> str:
    """The text with what cannot be printed, and what could steer a terminal, written as Python writes it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(word: str, known: Sequence[str]) -> str:
    """', did you mean ...?', where one of the known words is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""
