"""What a file is by its first bytes, for the line that refuses one of another kind."""

from __future__ import annotations

HEAD_BYTES = 512  # a tar archive is known by its bytes 257 to 261
_STARTS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (.h5), as Keras writes them",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"BZh": "a bzip2 archive: unpack it first",
    b"\xfd7zXZ\x00": "an xz archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
}
_TAR = slice(257, 262)


def stands_in(head: bytes) -> str | None:
    """What came in place of the file that was asked for, by its first bytes; None where nothing shows."""
    if head.lstrip().startswith(b"<"):
        return "a web page: is a proxy or a log-in page in between?"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run `git lfs pull` where it lies"
    return None


def kind_of(head: bytes) -> str | None:
    """What a file with these first HEAD_BYTES is, and for an archive or a pointer what to do; None where unknown."""
    if not head:
        return "an empty file"
    if is_tar(head):
        return "a tar archive: unpack it first"
    return stands_in(head) or next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)


def is_tar(head: bytes) -> bool:
    """Whether these first HEAD_BYTES of a file begin a tar archive."""
    return head[_TAR] == b"ustar"


def is_text(head: bytes) -> bool:
    """Whether these first bytes of a file are ASCII text."""
    return head.isascii() and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
