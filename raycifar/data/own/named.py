"""The images that a user names: which files they are, and the class, split and group of each. Nothing is decoded here.

A folder has train/CLASS/ with test/ and perhaps val/, or CLASS/ alone, or labels.csv. data/own/layouts.py knows others.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from raycifar.config.data import BY_NAME
from raycifar.storage.asset_cache import AssetError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
EXPECTED = "expected train/CLASS/ and test/CLASS/, CLASS/, or labels.csv"
MOST_FILES, MOST_DEPTH = 2_000_000, 32


class DataError(AssetError):
    """The user's images cannot be used: place, value and remedy in one line."""


@dataclass(frozen=True, slots=True)
class File:
    """A file below the named folder: its path there, written with slashes, and what tells that it has changed."""

    name: str
    size: int
    changed: int  # nanoseconds


@dataclass(frozen=True, slots=True)
class Picture:
    """One image, as it is named. `content` is its file, its file's bytes, or uint8 (3, H, W)."""

    name: str
    label: str
    split: str  # "train", "val", "test"; "" where none is given
    content: Path | bytes | np.ndarray
    group: str = ""


@dataclass(slots=True)
class Named:
    """All images that the user named, in the order that they are stored in."""

    title: str
    pictures: list[Picture]
    classes: tuple[str, ...]  # in the labels' order
    side: int | None = None  # that is stored unless the settings say otherwise
    notes: list[str] = field(default_factory=list)  # what was left out
    mirror: bool = True  # whether a mirrored image keeps its label
    origin: str = ""


def in_order(name: str) -> tuple[object, ...]:
    """A key that sorts file names with the numbers in them as numbers, then by folder."""
    path = PurePosixPath(name)
    return (numbered(path.stem), path.name, numbered(str(path.parent)))


def numbered(text: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def look_through(root: Path, title: str) -> tuple[list[File], list[str]]:
    """All files below the folder, and all folders, without those whose names begin with a dot.

    Raises DataError for links that lead out, for what is neither file nor folder, and for too many files.
    """
    files, folders, open_folders = list[File](), list[str](), [""]
    real_root = os.path.realpath(root)
    while open_folders:
        for entry, name in _entries(root, open_folders.pop(), title):
            if entry.is_symlink():
                _refuse_link(entry, name, real_root, title)
            if entry.is_dir():
                folders.append(name)
                open_folders.append(name)
                continue
            is_what = entry.stat()
            if not stat.S_ISREG(is_what.st_mode):
                raise DataError(f"{title}/{name}: no file but a pipe, a device or a socket: remove it")
            files.append(File(name, is_what.st_size, is_what.st_mtime_ns))
        if len(files) + len(folders) > MOST_FILES:
            raise DataError(f"{title}: more than {MOST_FILES:,} files and folders: name a folder with fewer")
    return sorted(files, key=lambda file: file.name), sorted(folders)


def _entries(root: Path, folder: str, title: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    if folder.count("/") > MOST_DEPTH:
        raise DataError(f"{title}/{folder}: more than {MOST_DEPTH} folders in each other: name a flatter one")
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name != "__MACOSX":
                    yield entry, f"{folder}/{entry.name}".lstrip("/")
    except OSError as why:
        raise DataError(f"{title}/{folder}: cannot be read ({why.strerror})") from None


def _refuse_link(entry: os.DirEntry[str], name: str, real_root: str, title: str) -> None:
    target = os.path.realpath(entry.path)
    if not target.startswith(real_root + os.sep):
        raise DataError(f"{title}/{name}: a link that leads out of {title}/: copy what it leads to, or remove it")
    if not os.path.isfile(target):
        raise DataError(f"{title}/{name}: a link to a folder, or to nothing: remove it")


def is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def from_folders(root: Path, files: Sequence[File], folders: Sequence[str], title: str) -> Named:
    """Images whose folders say what they are. Raises DataError."""
    images = [file.name for file in files if is_picture(file.name)]
    if not images:
        raise DataError(f"{title}: no .jpg, .png, .webp, .bmp or .tif below it; {EXPECTED}{_others(files)}")
    tops = {name.partition("/")[0] for name in folders}
    is_split = any(SPLITS.get(top.lower()) == "train" for top in tops)
    if not is_split:
        _refuse_splits_without_training(images, title)
    pictures, elsewhere = [], Counter[str]()
    for name in images:
        parts = name.split("/")
        if is_split and parts[0].lower() not in SPLITS:
            elsewhere[parts[0] if len(parts) > 1 else "."] += 1
            continue
        if len(parts) < 2 + is_split:
            raise DataError(f"{title}/{name}: lies in no class's folder; {EXPECTED}")
        split = SPLITS[parts[0].lower()] if is_split else ""
        pictures.append(Picture(name, parts[is_split], split, root / name))
    _refuse_empty_classes(pictures, folders, is_split, title)
    left_out = [f"{count:,} images in {title}/{top}/ are in no split" for top, count in sorted(elsewhere.items())]
    return ordered(title, pictures, left_out + _left_out(files))


def _refuse_splits_without_training(images: Sequence[str], title: str) -> None:
    for name in images:
        parts = name.split("/")
        if len(parts) > 2 and parts[0].lower() in SPLITS:
            raise DataError(f"{title}: it has {parts[0]}/ but no train/; {EXPECTED}")


def _refuse_empty_classes(pictures: Sequence[Picture], folders: Sequence[str], is_split: bool, title: str) -> None:
    full = {(picture.split, picture.label) for picture in pictures}
    trained = sorted({label for split, label in full if split in ("train", "")}, key=numbered)
    remedy = f"a class with no training images: add some, or remove the folder (the training folder has {few(trained)})"
    for folder in folders:
        parts = folder.split("/")
        split = SPLITS.get(parts[0].lower()) if is_split else ""
        if len(parts) != 1 + is_split or split not in ("train", ""):
            continue
        if (split, parts[-1]) not in full:
            raise DataError(f"{title}/{folder}: {remedy}")
    for picture in pictures:
        if picture.label not in trained:
            raise DataError(f"{title}/{'/'.join(picture.name.split('/')[: 1 + is_split])}: {remedy}")


def few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _others(files: Sequence[File]) -> str:
    kinds = Counter(PurePosixPath(file.name).suffix.lower() or "without a suffix" for file in files)
    found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(4))
    return f" (there are {found})" if found else ""


def _left_out(files: Sequence[File]) -> list[str]:
    others = [file for file in files if not is_picture(file.name) and not file.name.lower().endswith((".txt", ".csv"))]
    return [f"other files were left out{_others(others)}"] if others else []


def ordered(title: str, pictures: Sequence[Picture], notes: Sequence[str] = ()) -> Named:
    """The images in the order of their file names, then of their folders; so are the classes."""
    classes = tuple(sorted({picture.label for picture in pictures}, key=numbered))
    return Named(title, sorted(pictures, key=lambda picture: in_order(picture.name)), classes, notes=list(notes))


def with_groups(named: Named, groups: str) -> Named:
    """The images with the groups that a pattern of their file names says, where `groups` is one. Raises DataError."""
    if not groups.startswith(BY_NAME):
        if groups and not all(picture.group for picture in named.pictures):
            raise DataError(
                f'data.groups = "{groups}": {named.title} has no labels.csv with such a column: '
                "take a pattern of file names, such as 'name:^(P\\d+)_'"
            )
        return named
    group_of = _by_name(re.compile(groups.removeprefix(BY_NAME)), groups, named.title)
    return replace(named, pictures=[replace(picture, group=group_of(picture.name)) for picture in named.pictures])


def _by_name(pattern: re.Pattern[str], groups: str, title: str) -> Callable[[str], str]:
    def group_of(name: str) -> str:
        found = pattern.search(PurePosixPath(name).name)
        if not found or not found[1]:
            raise DataError(f"{title}/{name}: data.groups = '{groups}' does not match its name: mend either")
        return found[1]

    return group_of
