"""Data sets of torchvision: fetched and verified by its own classes, then stored as the user's own images are.

torchvision's folders lie in the cache, beneath torchvision/NAME, so that other settings need no second download.
"""

from __future__ import annotations

import inspect
import os
import socket
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raycifar.config.data import OWN_SIDE, OWN_TEST, Data
from raycifar.config.datasets import Border, Facts
from raycifar.config.published import ORIGIN, PREFIX, PUBLISHED, expected_facts
from raycifar.data.own.decode import bordered
from raycifar.data.own.images import facts_in, index_of, prepared_once, ready_file, stamp_of
from raycifar.data.own.named import DataError, File, Named, Picture, look_through
from raycifar.storage.asset_cache import cached_path, locked, scratch_beside
from raycifar.storage.download import CONNECT_SECONDS, say
from raycifar.texts import in_one_line

_Sets = Mapping[str, Any]  # torchvision's instance of each split


def fetch_published(spec: Data, named: Path | None = None) -> Path:
    """Path of the cached file with the images of the data set, as fetch_own's, fetched where it has not been.

    `named` is torchvision's folder on this machine, which is then read, and nothing is fetched. Raises AssetError.
    """
    if named is None:
        return prepared_once(spec, spec.name, spec.name, partial(_fetched, spec))
    root = _folder(spec, named)
    files, folders = _seen(spec, root)
    read = partial(_read, spec, root, f"--data {root}", "fetch it again by torchvision")
    return prepared_once(spec, f"{spec.name} in {root}", stamp_of(files, folders), read)


def facts_without_fetching(spec: Data) -> Facts:
    """What is known of the data set: all, once it is in the cache; else its size as published, with the digest "".

    Raises AssetError.
    """
    if (ready := ready_file(index_of(spec, spec.name), spec.name)) is not None:
        return facts_in(ready)
    side = spec.side or PUBLISHED[spec.name].side or OWN_SIDE
    return expected_facts(spec.name, side, spec.test or OWN_TEST)


def _folder(spec: Data, named: Path) -> Path:
    try:
        return named.expanduser().absolute()
    except RuntimeError as why:
        raise DataError(f"--data {named}: {why}") from None


def _seen(spec: Data, root: Path) -> tuple[list[File], list[str]]:
    """All files of the data set, whatever else lies in the folder. Raises DataError."""
    try:
        return _files_and_folders(spec, root)
    except (OSError, ValueError) as why:
        reason = getattr(why, "strerror", None) or why
        raise DataError(
            f"--data {str(root)[:200]}: {reason}: name the folder in which torchvision put {spec.name}"
        ) from None


def _files_and_folders(spec: Data, root: Path) -> tuple[list[File], list[str]]:
    files, folders = list[File](), list[str]()
    for place in PUBLISHED[spec.name].places:
        path = root / place
        if path.is_dir():
            inner, below = look_through(path, place)
            files += [File(f"{place}/{file.name}", file.size, file.changed) for file in inner]
            folders += [f"{place}/{folder}" for folder in below]
        elif path.is_file():
            files.append(File(place, path.stat().st_size, path.stat().st_mtime_ns))
        else:
            raise DataError(f"--data {root}: no {place} in it: name the folder in which torchvision put {spec.name}")
    return files, folders


def _read(spec: Data, root: Path, called: str, remedy: str) -> Named:
    """The images of torchvision's folder, which messages call so. Raises DataError."""
    for folder in PUBLISHED[spec.name].outdated:
        if (root / folder).exists():
            raise DataError(f"{called}: {folder}, an older torchvision's, would be read unverified: remove it")
    try:
        return _named(spec, _opened(spec, root, download=False), root)
    except Exception as why:  # of any kind: torchvision's readers
        raise DataError(f"{called}: {spec.name} cannot be read from it ({in_one_line(why)}): {remedy}") from None


def folder_of(name: str) -> Path:
    """torchvision's own folder of a data set of PUBLISHED in the cache, there or not. Raises AssetError."""
    return cached_path("torchvision") / name.removeprefix(PREFIX)


def _fetched(spec: Data) -> Named:
    """The images of the cache's own copy of torchvision's folder, which is made where it is not there."""
    root = folder_of(spec.name)
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root, spec.own_name):
        if not root.is_dir():
            _download(spec, root)
    return _read(spec, root, str(root), "remove it, and it is fetched again")


def _download(spec: Data, root: Path) -> None:
    """Make the folder, whole or not at all. Raises DataError."""
    say(f"{spec.own_name}: torchvision fetches it")
    with scratch_beside(root) as draft:
        inner = draft / "whole"
        inner.mkdir()
        try:
            with _patient_for_seconds_only(), _nothing_unpacked_outside():
                _opened(spec, inner, download=True)
        except Exception as why:  # of any kind: hosts, archives, full disks
            raise DataError(
                f'data.name = "{spec.name}": torchvision could not fetch it ({in_one_line(why)}): fetch it so on a '
                "machine that reaches its host, and pass the folder as --data DIR"
            ) from None
        os.replace(inner, root)


def _opened(spec: Data, root: Path, download: bool) -> _Sets:
    from torchvision import datasets

    kind = getattr(datasets, spec.name.removeprefix(PREFIX))
    takes = inspect.signature(kind).parameters
    as_paths = {"loader": Path} if "loader" in takes else {}  # nothing but data/own/decode.py opens an image
    known = PUBLISHED[spec.name]
    return {split: kind(root, **arguments, **as_paths, download=download) for split, arguments in known.splits.items()}


def _named(spec: Data, sets: _Sets, root: Path) -> Named:
    """The images of torchvision's splits with their labels, files in the order of their names.

    Raises ValueError for a split without images, labels that are no class's, and files that lie elsewhere.
    """
    known = PUBLISHED[spec.name]
    rows = {split: _rows(spec, split, of_split) for split, of_split in sets.items()}
    labels = {label for of_split in rows.values() for _, label in of_split}
    classes = _classes(next(iter(sets.values())), 1 + max(labels))
    if not 0 <= min(labels) <= max(labels) < len(classes):
        raise ValueError(f"labels from {min(labels)} to {max(labels)}, and {len(classes)} classes")
    pictures = [
        Picture(_name(content, root, split, number), classes[label], split, content)
        for split, of_split in rows.items()
        for number, (content, label) in enumerate(of_split)
    ]
    return Named(spec.own_name, pictures, classes, known.side, mirror=known.mirror, origin=ORIGIN)


def _rows(spec: Data, split: str, of_split: Any) -> list[tuple[Path | np.ndarray, int]]:
    """Each image of one of torchvision's splits, as its file or its pixels, with its label. Raises ValueError."""
    rows: list[tuple[Path | np.ndarray, int]]
    if files_of := _FILES_OF.get(spec.name.removeprefix(PREFIX)):
        rows = [(Path(file), int(label)) for file, label in files_of(of_split)]
    else:
        images = map(of_split.__getitem__, range(len(of_split)))
        rows = [(_content(image, spec.border), int(label)) for image, label in images]
    if not rows:
        raise ValueError(f"no image in its split {split}" if split else "no image in it")
    return sorted(rows, key=lambda row: str(row[0])) if isinstance(rows[0][0], Path) else rows


def _files_of_caltech(images: Any, name: str) -> Iterator[tuple[str, int]]:
    for label, number in zip(images.y, images.index, strict=True):
        yield f"{images.root}/{name.format(folder=images.categories[label], first=1 + label, number=number)}", label


# Files and labels of those of torchvision's classes that open an image for its label, and take no loader.
_FILES_OF: dict[str, Callable[[Any], Iterable[tuple[str | Path, int]]]] = {
    "Caltech101": partial(_files_of_caltech, name="101_ObjectCategories/{folder}/image_{number:04d}.jpg"),
    "Caltech256": partial(_files_of_caltech, name="256_ObjectCategories/{folder}/{first:03d}_{number:04d}.jpg"),
    "GTSRB": lambda signs: signs._samples,
    "OxfordIIITPet": lambda pets: zip(pets._images, pets._labels, strict=True),
}


def _content(image: Path | Image.Image, border: Border | None) -> Path | np.ndarray:
    """The image's file where that is known, else its pixels uint8 (3, H, W)."""
    if isinstance(image, Path):
        return image
    pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return bordered(pixels, border.width if border else 0)


def _name(content: Path | np.ndarray, root: Path, split: str, number: int) -> str:
    if not isinstance(content, Path):
        return f"{split or 'all'}/{number:06d}"
    name = os.path.relpath(content, root)
    if name.startswith(".."):  # as a table of the data set may say
        raise ValueError(f"{name} is named in it and lies outside")
    return name


def _classes(of_split: Any, labels: int) -> tuple[str, ...]:
    """The classes' names where torchvision has them, else their numbers."""
    names = getattr(of_split, "classes", None) or getattr(of_split, "categories", None) or range(labels)
    return tuple(name[0] if isinstance(name, tuple) else str(name) for name in names)  # Imagenette's are synonyms


@contextmanager
def _patient_for_seconds_only() -> Iterator[None]:
    """A host that says nothing ends torchvision's download, which sets no limit itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _nothing_unpacked_outside() -> Iterator[None]:
    """torchvision's archives are unpacked by PEP 706's filter, as Python 3.14 does by itself."""
    before = tarfile.TarFile.__dict__.get("extraction_filter")
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before
