"""Files of tensors, as safetensors and torch.save write them: what one would take is known before it is opened."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from raycifar.storage.files import open_file
from raycifar.storage.pickles.reader import MOST_BYTES, check_legacy, check_pickle

MOST_HEADER_BYTES = 1_000_000  # of a safetensors file; ours have under 10 kB
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
    with open_file(path) as file, _archive(file) as archive:
        return archive.namelist()


def check_pickles(path: Path) -> None:
    """Whether PyTorch may read what torch.save wrote, now or before 1.6: what that takes grows with the file alone.

    Raises OSError; ValueError or BadZipFile where it may not, pickle.UnpicklingError or EOFError where it cannot.
    """
    with open_file(path) as file:
        if file.peek().startswith(_ZIP):
            check_pickle(*_pickle_and_storages(file))
        else:
            start = file.read(MOST_BYTES + 1)
            check_legacy(start, file.seek(0, io.SEEK_END))


def _pickle_and_storages(file: io.BufferedReader) -> tuple[bytes, dict[str, int]]:
    """An archive's pickle, and the bytes of each of its storages."""
    with _archive(file) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        pickles = [name for name in sizes if name.endswith(_PICKLE)]
        if len(pickles) != 1:
            raise ValueError(f"a zip archive with {len(pickles)} members named {_PICKLE}")
        folder = pickles[0].removesuffix(".pkl") + "/"
        storages = {name.removeprefix(folder): size for name, size in sizes.items() if name.startswith(folder)}
        return archive.read(pickles[0]), storages


def _archive(file: io.BufferedReader) -> zipfile.ZipFile:
    """The file's archive, once Python and PyTorch would read the same of it. Raises ValueError or BadZipFile."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _END_BYTES))
    _check_end(file.read(), size)
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    is_saved = any(member.filename.endswith(_PICKLE) for member in members)
    for member in members:
        if member.filename.endswith(_PICKLE) and member.file_size > MOST_BYTES:
            raise ValueError(f"its {_PICKLE} has {member.file_size:,} bytes, of {MOST_BYTES:,} at most")
    is_packed = any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members)
    if is_saved and (is_packed or sum(member.file_size for member in members) > size):
        raise ValueError("a zip archive whose tensors are compressed, as torch.save does not: save it again")
    if is_saved and len({member.filename for member in members}) < len(members):
        raise ValueError("a zip archive with two members of one name: save it again")
    return archive


_ZIP, _PICKLE = b"PK\x03\x04", "data.pkl"
# The end of a zip archive without a comment: 56 bytes and 20 where it is zip64, then 22.
_END_BYTES = 56 + 20 + 22


def _check_end(end: bytes, size: int) -> None:
    """Raises ValueError where no archive of `size` bytes ends so, with a directory of some bytes right before."""
    last, locator, zip64 = end[-22:], end[-42:-22], end[-98:-42]
    is_zip64 = locator.startswith(b"PK\x06\x07")
    is_whole = last.startswith(b"PK\x05\x06") and last.endswith(b"\0\0")
    if not is_whole or (is_zip64 and not zip64.startswith(b"PK\x06\x06")):
        raise ValueError(_DAMAGED)
    directory, start = struct.unpack("<QQ", zip64[40:]) if is_zip64 else struct.unpack("<LL", last[12:20])
    if directory > MOST_DIRECTORY_BYTES:
        raise ValueError(f"a zip archive whose directory has {directory:,} bytes")
    ends = [start + directory, int.from_bytes(locator[8:16], "little")] if is_zip64 else [start + directory]
    if any(place != size - (_END_BYTES if is_zip64 else 22) for place in ends):
        raise ValueError(_DAMAGED)


_DAMAGED = "a zip archive that is cut short or damaged: get it again"
