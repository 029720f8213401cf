"""Files read with suspicion: only where it is a file, and only so much of it; and written whole or not at all."""

import errno
import io
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from raycifar.errors import InputError

# Opening a pipe would otherwise wait for somebody who writes into it. (Windows has no such pipes.)
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)
MOST_BYTES = 200_000_000  # of a JSON file; the history of 100,000 epochs has 45 MB
_BESIDE = re.compile(r"\..+\.(json|npz|safetensors)\.\d+")  # what write_bytes writes before it renames


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


class RecordError(InputError):
    """A file of a sweep's folder cannot be read as what it should be; the message names the file."""


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write beside, flush and rename: a reader sees the old file or the new one, never half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.unlink(missing_ok=True)  # of a killed process with this number, or a link laid there
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:  # a full disk, Ctrl-C
        beside.unlink(missing_ok=True)
        raise


def refuse_link(folder: Path) -> None:
    """Raises RecordError where a folder of results is a link: what is written or deleted there would be another's."""
    if folder.is_symlink():
        raise RecordError(f"{folder}: is a link, expected a folder of its own")


def sweep_leftovers(folder: Path) -> None:
    """Delete what a killed process left of write_bytes in this folder. Nobody may be writing there."""
    for path in folder.glob(".*"):
        if _BESIDE.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """As write_bytes. Raises TypeError for what is no JSON; a file name that is no UTF-8 gets a question mark."""
    write_bytes(path, json.dumps(data, indent=1, ensure_ascii=False).encode(errors="replace"))


def read_json(path: Path) -> Any:
    """Raises RecordError naming the file where it is no JSON, and FileNotFoundError where there is none."""
    try:
        content = read_file(path, MOST_BYTES)
        data = json.loads(content.decode())
        if b"\\ud" in content.lower():
            json.dumps(data, ensure_ascii=False).encode()  # ValueError for half a character, which nobody can write
        return data
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, an absurd number, absurdly deep
        raise RecordError(f"{path}: not valid JSON ({error})") from error
