"""The images that a table lists: labels.csv, with their classes, and perhaps their splits and groups."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from raycifar.config.data import BY_NAME
from raycifar.data.own.named import SPLITS, DataError, File, Named, Picture, few, is_picture, ordered
from raycifar.errors import nearest
from raycifar.storage.files import read_file

if TYPE_CHECKING:
    from _csv import Reader

TABLES = ("labels.csv", "metadata.csv")
COLUMNS = {  # with the names that others give them
    "file": ("file", "file_name", "filename", "image", "path"),
    "label": ("label", "class"),
    "split": ("split",),
}
MOST_BYTES = 500_000_000


def from_table(root: Path, table: str, files: Sequence[File], title: str, groups: str = "") -> Named:
    """Images that a CSV file in the folder lists: `file` and `label`, optional `split` and a column of groups.

    Raises DataError.
    """
    there = {file.name for file in files}
    reader = _reader(root / table, table)
    columns = _columns(_heading(reader, table), table, groups)
    pictures, seen = [], dict[str, int]()
    for line, row in _rows(reader, 1 + max(columns.values()), table):
        at = f"{table}, line {line}"
        name = _inside(row[columns["file"]], at, title, there)
        if name in seen:
            raise DataError(f"{at}: file = {_quoted(name)}: line {seen[name]} has it already: remove one of them")
        seen[name] = line
        label = row[columns["label"]].strip()
        if not label:
            raise DataError(f"{at}: label is empty: name the class of {_quoted(name)}")
        split = _split(row[columns["split"]], at) if "split" in columns else ""
        group = row[columns["group"]].strip() if "group" in columns else ""
        if "group" in columns and not group:
            raise DataError(f"{at}: {groups} is empty: name the group of {_quoted(name)}")
        pictures.append(Picture(name, label, split, root / name, group))
    if not pictures:
        raise DataError(f"{table}: no line below its heading: a line an image, as in `file,label`")
    _refuse_untrained(pictures, table)
    unlisted = sum(is_picture(name) for name in there) - len(pictures)
    return ordered(title, pictures, [f"{unlisted:,} images are not in {table}"] if unlisted > 0 else [])


def _refuse_untrained(pictures: Sequence[Picture], table: str) -> None:
    trained = {picture.label for picture in pictures if picture.split in ("train", "")}
    if absent := sorted({picture.label for picture in pictures} - trained):
        names = few(sorted(trained)) or "none"
        raise DataError(
            f"{table}: {_quoted(absent[0])}: a class with no training images: add some, or remove its lines "
            f"(the training images have {names})"
        )


def _reader(path: Path, table: str) -> Reader:
    try:
        text = read_file(path, MOST_BYTES).decode("utf-8-sig")
    except OSError as why:
        raise DataError(f"{path}: cannot be read ({why.strerror})") from None
    except UnicodeDecodeError as why:
        raise DataError(f"{table}: not UTF-8 text ({why}): save it as CSV in UTF-8") from None
    heading = text.partition("\n")[0]
    return csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=heading.count))


def _heading(reader: Reader, table: str) -> list[str]:
    try:
        return next(reader, [])
    except csv.Error as why:
        raise DataError(f"{table}, line 1: {why}: save it as CSV in UTF-8") from None


def _rows(reader: Reader, cells: int, table: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line that has some."""
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                if len(row) < cells:
                    raise DataError(f"{table}, line {reader.line_num}: {len(row)} cells, expected at least {cells}")
                yield reader.line_num, row
    except csv.Error as why:
        raise DataError(f"{table}, line {reader.line_num}: {why}: save it as CSV in UTF-8") from None


def _columns(heading: Sequence[str], table: str, groups: str) -> dict[str, int]:
    names = [cell.strip().lower() for cell in heading]
    columns = {
        ours: next(names.index(name) for name in theirs if name in names)
        for ours, theirs in COLUMNS.items()
        if any(name in names for name in theirs)
    }
    for needed in ("file", "label"):
        if needed not in columns:
            raise DataError(
                f"{table}, line 1: no column {needed!r} (or {', '.join(COLUMNS[needed][1:])}); "
                f"there are {few([cell.strip()[:40] for cell in heading]) or 'none'}"
            )
    if groups and not groups.startswith(BY_NAME):
        if groups.lower() not in names:
            raise DataError(f'data.groups = "{groups}": {table} has no such column{nearest(groups, names)}')
        columns["group"] = names.index(groups.lower())
    return columns


def _inside(value: str, at: str, title: str, there: set[str]) -> str:
    path = PurePosixPath(value.strip().replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0]:
        raise DataError(f"{at}: file = {_quoted(value)} lies outside {title}/: name a file in it")
    if str(path) not in there:
        raise DataError(f"{at}: file = {_quoted(value)}: no such file in {title}/: add it, or remove the line")
    return str(path)


def _split(value: str, at: str) -> str:
    if (split := SPLITS.get(value.strip().lower())) is None:
        raise DataError(f"{at}: split = {_quoted(value)}: expected train, val or test")
    return split


def _quoted(text: str) -> str:
    return f'"{text[:80]}"'
