"""The user's own images: read once into one file of the cache, which all trials map.

The cache remembers which file came of what was named, by the names, sizes and times of all files there. Whatever is
named is looked through at every call, so that it is never replaced by what it was before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from raycifar.config.data import OWN_SIDE, PREPARED, Data
from raycifar.config.datasets import Facts
from raycifar.data.own.cut import check_groups, cut, drop_copies, is_given
from raycifar.data.own.decode import Look
from raycifar.data.own.decoders import decode_all
from raycifar.data.own.layouts import read_named
from raycifar.data.own.named import DataError, File, Named, look_through, with_groups
from raycifar.data.own.prepared import Prepared
from raycifar.storage.asset_cache import cached_path, locked, metadata_on_file, scratch_beside
from raycifar.storage.data_file import is_sound
from raycifar.storage.download import say
from raycifar.storage.files import read_file

FORMAT = 1  # of what is prepared: another number prepares everything anew
MOST_CLASSES = 1_000
MOST_LETTERS = 100  # of a class's name
SHOWN = 5  # unreadable files in a message
FULLY_CHECKED = 1_000_000_000  # bytes of a prepared file whose digest is computed at each call (about 0.5 s)


def fetch_own(spec: Data) -> Path:
    """Path of the cached file with the images that `spec.path` names, decoded, cut and checked. Raises AssetError.

    It holds train_images and test_images, uint8 RGB (N, 3, side, side), and val_images where those are given; beside
    each the labels, int64 (N,), and the groups where there are some; train_folds, int64 (N,), where those are held out;
    test_near, uint8 (N,), 1 for test images nearly equal to others; and the classes' names as JSON in UTF-8.
    """
    path, title = Path(spec.path), spec.own_name
    files, folders = _seen(path, title)
    return prepared_once(
        spec, spec.path, stamp_of(files, folders), lambda: read_named(path, files, folders, title, spec.groups)
    )


def prepared_once(spec: Data, named: str, stamp: str, read: Callable[[], Named]) -> Path:
    """As fetch_own, for what is `named` so, as long as its `stamp` is the same. `read` gives the images.

    Raises AssetError.
    """
    index = index_of(spec, named)
    if (ready := ready_file(index, stamp)) is not None:
        return ready
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        with locked(index, spec.own_name):
            if (ready := ready_file(index, stamp)) is None:
                ready = _prepare(read(), spec, index)
                made = ready.stat()
                index.write_text(json.dumps([stamp, ready.name, made.st_size, made.st_mtime_ns]))
    except OSError as why:
        raise DataError(
            f"{spec.own_name}: the cache {index.parent} cannot be used ({why}). Make room or rights there, or name "
            "another folder in RAYCIFAR_CACHE."
        ) from None
    return ready


def index_of(spec: Data, named: str) -> Path:
    """The cache's note of which file came of what is `named` so, with these settings. Raises AssetError."""
    return cached_path(f"named-{_digest([named, FORMAT, *(getattr(spec, key) for key in PREPARED)])[:16]}.json")


def _seen(path: Path, title: str) -> tuple[list[File], list[str]]:
    """All that lies below what is named. Raises DataError."""
    try:
        if path.is_dir():
            return look_through(path, title)
        if path.is_file():
            if path.suffix.lower() == ".csv":
                return look_through(path.parent, path.parent.name)
            state = path.stat()
            return [File(path.name, state.st_size, state.st_mtime_ns)], []
        exists = os.path.lexists(path)
    except (OSError, ValueError) as why:
        raise DataError(f"data.path = {str(path)[:200]!r}: {getattr(why, 'strerror', None) or why}") from None
    if exists:
        raise DataError(
            f"data.path = {str(path)!r}: expected a folder or a file, found a pipe, a device or a dead link"
        )
    raise DataError(
        f"data.path = {str(path)[:200]!r}: no such folder; a relative path begins at the sweep file's folder"
    )


def stamp_of(files: Sequence[File], folders: Sequence[str]) -> str:
    """What changes with any of the files' names, sizes and times."""
    digest = hashlib.sha256("\0".join(folders).encode(errors="surrogateescape"))
    for file in files:
        digest.update(f"{file.name}\0{file.size}\0{file.changed}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def ready_file(index: Path, stamp: str) -> Path | None:
    """The file that came of what was named before, if neither has changed."""
    try:
        seen, name, size, changed = json.loads(read_file(index, 10_000))
        ready = index.parent / Path(name).name
        state = ready.stat()
    except (OSError, ValueError, TypeError):
        return None
    as_it_was = (state.st_size, state.st_mtime_ns) == (size, changed)
    if seen != stamp or not (as_it_was or is_sound(ready)):
        return None
    return ready if size > FULLY_CHECKED or is_sound(ready) else None


def _prepare(named: Named, spec: Data, index: Path) -> Path:
    """Decode and write what was named. Raises DataError before anything is left in the cache."""
    cache = index.parent
    named = with_groups(named, spec.groups)
    _refuse_classes(named)
    if spec.test and is_given(named):
        raise DataError(f"data.test = {spec.test}: {named.title} says which of its images test: leave it out")
    side = spec.side or named.side or OWN_SIDE
    _refuse_full_disk(named, side, cache)
    groups = check_groups(named)
    with scratch_beside(index) as scratch:
        pixels = scratch / "pixels"
        looks = decode_all(named, pixels, side, spec.resize)
        read = _readable(named, looks, spec)
        kept = read[drop_copies(_only(named, read), [looks[row].pixels for row in read], spec)]
        prepared = _cut(_only(named, kept), [looks[row] for row in kept], kept, side, spec)
        facts = prepared.facts(spec, groups, len(looks) - len(read), len(read) - len(kept))
        written = prepared.write(facts, pixels, scratch)
        os.replace(written, cache / written.name)
    for line in (*named.notes, *_enlarged(looks, side)):
        say(f"{named.title}: {line}")
    return cache / written.name


def _only(named: Named, rows: np.ndarray) -> Named:
    return replace(named, pictures=[named.pictures[row] for row in rows])


def _cut(named: Named, looks: Sequence[Look], rows: np.ndarray, side: int, spec: Data) -> Prepared:
    number = {name: label for label, name in enumerate(named.classes)}
    labels = np.array([number[picture.label] for picture in named.pictures], np.int64)
    return Prepared(named, looks, labels, rows, cut(named, labels, spec), side)


def _refuse_classes(named: Named) -> None:
    if (count := len(named.classes)) < 2:
        raise DataError(f"{named.title}: {count} class ({', '.join(named.classes)}): at least 2 are needed")
    if count > MOST_CLASSES:
        raise DataError(f"{named.title}: {count:,} classes: at most {MOST_CLASSES:,} are possible: merge some")
    for name in named.classes:
        if len(name) > MOST_LETTERS or not name.isprintable():
            raise DataError(
                f"{named.title}: {name[:40]!r}: a class's name has at most {MOST_LETTERS} printable letters"
            )


def _refuse_full_disk(named: Named, side: int, cache: Path) -> None:
    """The images lie there twice for a while: as they come, and as they are cut."""
    needed, free = 2 * 3 * side * side * len(named.pictures), shutil.disk_usage(cache).free
    if needed > free:
        raise DataError(
            f"{named.title}: {needed / 1e9:.1f} GB while it is prepared; the cache's disk has {free / 1e9:.1f} GB "
            "free: lower data.side, or name another folder in RAYCIFAR_CACHE"
        )


def _readable(named: Named, looks: Sequence[Look], spec: Data) -> np.ndarray:
    """The rows of the images that could be read. Raises DataError where there are others, unless those are skipped."""
    bad = [row for row, seen in enumerate(looks) if seen.flaw]
    if bad and (spec.corrupt == "refuse" or len(bad) == len(looks)):
        names = [f"{named.pictures[row].name} ({looks[row].flaw})" for row in bad]
        for name in names[SHOWN:]:  # all are named, the first ones in the refusal itself
            say(f"{named.title}: cannot be read: {name}")
        more = f" and {len(bad) - SHOWN:,} more, named above" if len(bad) > SHOWN else ""
        raise DataError(
            f"{named.title}: {len(bad):,} of {len(looks):,} images cannot be read: {', '.join(names[:SHOWN])}{more}: "
            'repair them, or data.corrupt = "skip"'
        )
    return np.array([row for row, seen in enumerate(looks) if not seen.flaw], np.int64)


def facts_in(path: Path) -> Facts:
    """What is known of the images in a prepared file. Raises OSError, ValueError or KeyError."""
    metadata = metadata_on_file(path)
    return Facts.model_validate_json(metadata["facts"]).model_copy(update={"digest": metadata["sha256"]})


def _enlarged(looks: Sequence[Look], side: int) -> list[str]:
    largest = max(seen.size for seen in looks)
    return [f"no image has more than {largest} pixels a side, and {side} are stored: lower data.side"] * (
        largest < side
    )
