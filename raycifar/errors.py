"""What others wrote: read only where it is a file, and only so much of it; refused in words that stay on their line."""

import difflib
import errno
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path

# Opening a pipe would otherwise wait for somebody who writes into it. (Windows has no such pipes.)
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)


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


def open_file(path: Path) -> io.BufferedReader:
    """The file open for reading. Raises OSError also for what is no file: a folder, a pipe, a device, a socket."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _WITHOUT_WAITING))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file but a pipe, a device or a socket", str(path))
    return file


def read_file(path: Path, most_bytes: int) -> bytes:
    """The file's contents. Raises OSError also for what is no file, and for one of more than `most_bytes`."""
    with open_file(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes:,} bytes", str(path))
    return content
