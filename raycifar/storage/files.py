"""Reading of regular files only, and only up to a size; records as JSON."""

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

from raycifar.errors import InputError
from raycifar.storage.beneath import Where, write_bytes

# Without it, opening a pipe waits until another process writes into the pipe. (Windows has no such pipes.)
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)
MOST_BYTES = 60_000_000  # of a JSON file; the history of 100,000 epochs has 45 MB
MOST_ITEMS = 1_500_000  # in a JSON file: Python takes up to 400 bytes for each; that history has 1.2 million


def open_file(path: Path) -> io.BufferedReader:
    """The file, open for reading. Raises OSError also for what is no regular file: a folder, pipe, device or socket."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _WITHOUT_WAITING))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file but a pipe, a device or a socket", str(path))
    return file


def read_file(path: Path, most_bytes: int) -> bytes:
    """The file's contents. Raises OSError also for what is no regular file, and for more than `most_bytes`."""
    with open_file(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes:,} bytes", str(path))
    return content


class RecordError(InputError):
    """A file of a sweep's folder is not what it should be, or cannot be read; the message names the file."""


def refuse_link(folder: Path) -> None:
    """Raises RecordError where a folder of results is a link: writing or deleting in it would change other files."""
    if folder.is_symlink():
        raise RecordError(f"{folder}: is a link, expected a folder of its own")


def write_json(where: Where, data: Any) -> None:
    """As write_bytes. Raises TypeError for what JSON cannot hold; bytes of a path that are no UTF-8 become "?"."""
    write_bytes(where, json.dumps(data, indent=1, ensure_ascii=False).encode(errors="replace"))


def read_json(path: Path) -> Any:
    """Raises RecordError where the file is not JSON or cannot be read, FileNotFoundError where there is none."""
    try:
        return _parsed(read_file(path, MOST_BYTES))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # also a number of 5,000 digits, deep nesting
        raise RecordError(f"{path}: not valid JSON ({error})") from error


def _parsed(content: bytes) -> Any:
    """Raises ValueError or RecursionError for what is not JSON, or has too many items or half a surrogate pair."""
    if (items := sum(content.count(sign) for sign in (b",", b"{", b"["))) > MOST_ITEMS:  # some may stand in texts
        raise ValueError(f"{items:,} items, of {MOST_ITEMS:,} at most")
    data = json.loads(content.decode())
    if b"\\ud" in content.lower():
        json.dumps(data, ensure_ascii=False).encode()  # ValueError: half a surrogate pair cannot be written again
    return data
