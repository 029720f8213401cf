"""Files of tensors, as safetensors and torch.save write them: what one would take is known before it is opened."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from raycifar.storage.files import open_file

MOST_HEADER_BYTES = 1_000_000  # of a safetensors file; ours have under 10 kB
MOST_PICKLE_BYTES = 5_000_000  # of torch.save's; a trial's state has 50 kB. Python takes up to 70 times that to read it
MOST_DIRECTORY_BYTES = 10_000_000  # of a zip archive: 100,000 tensors

Readable = io.BufferedReader | io.BytesIO


def read_header(file: Readable) -> tuple[dict[str, Any], dict[str, str]]:
    """A safetensors file's description of its tensors, and its metadata. Raises ValueError, TypeError and the like."""
    size = int.from_bytes(file.read(8), "little")
    if size > MOST_HEADER_BYTES:
        raise ValueError(f"{size} bytes long")
    header = json.loads(file.read(size))
    return header, dict(header.pop("__metadata__", {}))


def shapes_in(path: Path, most_bytes: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors. Raises OSError; ValueError for another file, or a larger one."""
    with open_file(path) as file:
        if (size := file.seek(0, io.SEEK_END)) > most_bytes:
            raise ValueError(f"{size:,} bytes, of {most_bytes:,} at most")
        file.seek(0)
        try:
            return {name: tuple(tensor["shape"]) for name, tensor in read_header(file)[0].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as why:
            raise ValueError(f"no safetensors file: its header is unreadable, {why}") from None


def check_saved(path: Path) -> list[str]:
    """The names in a zip archive as torch.save writes them: opened, it takes no more memory than it has bytes.

    Raises OSError; ValueError or BadZipFile for any other, which may say so of gigabytes and hold none.
    """
    with open_file(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _END_BYTES))
        if (directory := _directory_bytes(file.read())) > MOST_DIRECTORY_BYTES:
            raise ValueError(f"a zip archive whose directory has {directory:,} bytes")
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    for member in members:
        if member.filename.endswith("data.pkl") and member.file_size > MOST_PICKLE_BYTES:
            raise ValueError(f"its data.pkl has {member.file_size:,} bytes, of {MOST_PICKLE_BYTES:,} at most")
    if sum(member.file_size for member in members) > size and any(m.filename.endswith("data.pkl") for m in members):
        raise ValueError("a zip archive whose tensors are compressed, as torch.save does not: save it again")
    return [member.filename for member in members]


# The end of a zip archive without a comment: 56 bytes and 20 where it is zip64, then 22.
_END_BYTES = 56 + 20 + 22


def _directory_bytes(end: bytes) -> int:
    """The size that the archive's end says its directory has. Raises ValueError where the end is another."""
    last, locator, zip64 = end[-22:], end[-42:-22], end[-98:-42]
    is_zip64 = locator.startswith(b"PK\x06\x07")
    whole = last.startswith(b"PK\x05\x06") and last.endswith(b"\0\0")
    if not whole or (is_zip64 and not zip64.startswith(b"PK\x06\x06")):
        raise ValueError("a zip archive that is cut short or damaged: get it again")
    return int.from_bytes(zip64[40:48] if is_zip64 else last[12:16], "little")
