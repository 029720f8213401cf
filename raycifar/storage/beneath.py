"""The one way to write and to delete in a folder of results: beneath the folder that the user named, through no link.

A folder of results may come from a stranger, with links in it that lead elsewhere. The way to the folder itself is the
user's own and may have links; every folder below it is opened from the one above (openat(2), O_NOFOLLOW), and what is
done in it is done through that descriptor, so it stays there whatever happens to the names meanwhile. A file is written
under a random name and renamed, so a link, or a second name of another file, is replaced and never written through.
"""

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from raycifar.storage.written import DELETABLE, LEFTOVER, LEFTOVER_EARLIER

MOST_NAMES = 100_000  # in a folder of results: a sweep has at most 10,000 trials
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_DRAFT = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class LinkError(OSError):
    """A link, or a file, stands where results expect a folder of their own."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True, slots=True)
class Beneath:
    """What lies at `names`, one below the other, in the folder `root` that the user named."""

    root: Path
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path, *roots: Path) -> "Beneath":
        """`path` as what lies in one of the `roots`, or as a root of its own."""
        path = path.absolute()
        for root in roots:
            if path.is_relative_to(root.absolute()) and ".." not in path.relative_to(root.absolute()).parts:
                return cls(root, path.relative_to(root.absolute()).parts)
        return cls(path)

    def __truediv__(self, name: str) -> "Beneath":
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r}: expected the name of a file or a folder")
        return Beneath(self.root, (*self.names, name))

    @property
    def path(self) -> Path:
        return self.root.joinpath(*self.names)

    @property
    def parent(self) -> "Beneath":
        """The folder that it lies in: of a root, the one above."""
        return Beneath(self.root, self.names[:-1]) if self.names else Beneath(self.root.parent)

    @property
    def name(self) -> str:
        return self.path.name


Where = Beneath | Path  # of a bare path, the folder above is the one that the user named


def beneath(where: Where) -> Beneath:
    """The place, also of a bare path."""
    return where if isinstance(where, Beneath) else Beneath(where.parent, (where.name,))


def write_bytes(where: Where, content: bytes | memoryview) -> None:
    """Write the file as `written` does, in one piece."""
    with written(where) as file:
        file.write(content)


@contextmanager
def written(where: Where) -> Iterator[BinaryIO]:
    """A file of a random name to write to, flushed to the disk and renamed at the end: readers see the old or the new.

    Raises OSError; the old file is then left as it is.
    """
    file, draft = beneath(where), f".raycifar-{secrets.token_hex(8)}.part"
    with opened(file.parent) as folder, _told_with(file.path):
        try:
            with open(draft, "xb", opener=lambda name, _: os.open(name, _DRAFT, 0o666, dir_fd=folder)) as beside:
                yield beside
                beside.flush()
                os.fsync(beside.fileno())
            os.replace(draft, file.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:  # a full disk, Ctrl-C
            with suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise


def make_folder(folder: Beneath) -> None:
    """Make the folder and those above it, where they are not there. Raises OSError, LinkError for a link in the way."""
    folder.root.mkdir(parents=True, exist_ok=True)
    for depth in range(len(folder.names)):
        with suppress(FileExistsError):
            new_folder(Beneath(folder.root, folder.names[: depth + 1]))
    with opened(folder):
        pass


def new_folder(folder: Beneath) -> None:
    """Make one folder in one that is there. Raises FileExistsError, LinkError, OSError."""
    with opened(folder.parent) as above, _told_with(folder.path):
        os.mkdir(folder.name, dir_fd=above)


def delete(what: Beneath) -> None:
    """Delete what the product wrote, a folder with all that is in it; a link itself, and nothing that it leads to.

    Nothing happens where there is nothing. Raises OSError, ValueError for a name that written.DELETABLE has not.
    """
    if not DELETABLE.fullmatch(what.name):
        raise ValueError(f"{what.path}: not written by this product, so not deleted by it")
    with opened(what.parent) as folder, _told_with(what.path), suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(what.name, dir_fd=folder).st_mode):
            _delete_tree(what.name, folder)
        else:
            os.unlink(what.name, dir_fd=folder)


def _delete_tree(name: str, folder: int) -> None:
    try:
        shutil.rmtree(name, dir_fd=folder)
    except RecursionError:
        raise OSError(errno.ELOOP, "holds folders in folders without end", name) from None


def rename(what: Beneath, name: str) -> None:
    """Give it another name in its folder, in the place of a file or an empty folder; flushed to the disk."""
    with opened(what.parent) as folder, _told_with(what.path):
        os.replace(what.name, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def names_in(folder: Beneath) -> list[str]:
    """What lies in the folder, nothing where there is none. Raises OSError, also for more than MOST_NAMES."""
    try:
        with opened(folder) as descriptor, os.scandir(descriptor) as entries:
            names = [entry.name for entry in islice(entries, MOST_NAMES + 1)]
    except FileNotFoundError:
        return []
    if len(names) > MOST_NAMES:
        raise OSError(errno.EFBIG, f"holds more than {MOST_NAMES:,} files and folders", str(folder.path))
    return names


def sweep_leftovers(folder: Beneath, older_than: float = 0.0) -> None:
    """Delete the files that killed writers left there, if they are so many seconds old: another may be at work."""
    for name in names_in(folder):
        if LEFTOVER.fullmatch(name) or LEFTOVER_EARLIER.fullmatch(name):
            with suppress(FileNotFoundError):
                if not older_than or os.lstat((folder / name).path).st_mtime <= time.time() - older_than:
                    delete(folder / name)


@contextmanager
def opened(folder: Beneath) -> Iterator[int]:
    """A descriptor of the folder. Raises LinkError for what is no folder of its own on the way, and OSError."""
    descriptor = os.open(folder.root, _FOLDER)
    try:
        for depth, name in enumerate(folder.names, 1):
            below = _below(descriptor, name, Beneath(folder.root, folder.names[:depth]))
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _below(descriptor: int, name: str, there: Beneath) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            what = "is a link" if there.path.is_symlink() else "is no folder"
            raise LinkError(error.errno, f"{what}, expected a folder of its own", str(there.path)) from None
        raise OSError(error.errno, error.strerror, str(there.path)) from None


@contextmanager
def _told_with(path: Path) -> Iterator[None]:
    """An error names the whole path: the system knows only the name beneath a descriptor."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
