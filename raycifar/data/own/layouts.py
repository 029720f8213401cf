"""What a user's folder or file may also be: CIFAR-10 in the ways that people have it, and Hugging Face's Parquet.

Each reader takes the files below the folder, and returns the images or None where it is of another kind.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from raycifar.config.datasets import CIFAR10
from raycifar.data.own.listed import TABLES, from_table
from raycifar.data.own.named import EXPECTED, DataError, File, Named, Picture, from_folders, in_order
from raycifar.storage.download import ArraysOnly
from raycifar.storage.files import open_file, read_file
from raycifar.storage.kinds import HEAD_BYTES, kind_of

BATCH_BYTES, ARCHIVE_BYTES, PARQUET_BYTES = 40_000_000, 400_000_000, 8_000_000_000
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
ROW = 1 + 3 * 32 * 32  # of the binary version: a label, then red, green and blue
KAGGLE = "trainLabels.csv"
_Contents = Mapping[str, bytes]


def read_named(path: Path, files: Sequence[File], folders: Sequence[str], title: str, groups: str) -> Named:
    """The images that `path` names, a folder with these files below it, or a file. Raises DataError."""
    if path.is_file():
        return _from_file(path, files, title, groups)
    for reader in (_table, _kaggle, _batches, _archive, _parquet):
        if (named := reader(path, files, title, groups)) is not None:
            return named
    return from_folders(path, files, folders, title)


def _from_file(path: Path, files: Sequence[File], title: str, groups: str) -> Named:
    if path.suffix.lower() == ".csv":
        return from_table(path.parent, path.name, files, title, groups)
    if path.suffix.lower() == ".parquet":
        return _of_parquet([path], title)
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _of_archive(path, title)
    with open_file(path) as file:
        kind = kind_of(file.read(HEAD_BYTES)) or "a file"
    raise DataError(f"{path}: it is {kind}; expected a folder, labels.csv, .parquet, or CIFAR-10's .tar.gz")


def _table(path: Path, files: Sequence[File], title: str, groups: str) -> Named | None:
    table = next((name for name in TABLES if any(file.name == name for file in files)), None)
    return from_table(path, table, files, title, groups) if table else None


def _kaggle(path: Path, files: Sequence[File], title: str, groups: str) -> Named | None:
    """Kaggle's PNGs: train/17.png with its label in trainLabels.csv; test/ has no labels, so it cannot be used."""
    names = {file.name for file in files}
    if KAGGLE not in names:
        return None
    pictures = []
    rows = csv.DictReader(io.StringIO(read_file(path / KAGGLE, BATCH_BYTES).decode("utf-8-sig")))
    for row in rows:
        number, label = row.get("id"), row.get("label")
        name = f"train/{number}.png"
        if not number or not label or name not in names:
            wrong = "expected id,label" if not number or not label else f"no such file as {name[:80]}"
            raise DataError(f"{KAGGLE}, line {rows.line_num}: {wrong} in {title}/")
        pictures.append(Picture(name, label, "", path / name))
    tests = sum(name.startswith("test/") for name in names)
    notes = [f"{tests:,} images in {title}/test/ have no labels: the test is cut from the training images"]
    classes = tuple(sorted({picture.label for picture in pictures}))
    return Named(
        title, sorted(pictures, key=lambda picture: in_order(picture.name)), classes, notes=notes[: bool(tests)]
    )


def _batches(path: Path, files: Sequence[File], title: str, groups: str) -> Named | None:
    """The unpacked archives: data_batch_1 of the Python version, data_batch_1.bin of the binary one."""
    there = {PurePosixPath(file.name).name: path / file.name for file in files if file.name.count("/") < 2}
    for suffix in ("", ".bin"):
        if BATCHES[0] + suffix in there:
            wanted = [name for name in _members(suffix) if name in there]
            return _of_batches({name: read_file(there[name], BATCH_BYTES) for name in wanted}, suffix, title)
    return None


def _members(suffix: str) -> tuple[str, ...]:
    return tuple(f"{name}{suffix}" for name in (*BATCHES, "test_batch"))


def _of_batches(contents: _Contents, suffix: str, title: str) -> Named:
    if absent := next((name for name in _members(suffix) if name not in contents), None):
        raise DataError(f"{title}: {absent} is missing: unpack CIFAR-10's archive again")
    read: Callable[[bytes], tuple[np.ndarray, np.ndarray]] = _binary if suffix else _pickled
    pictures: list[Picture] = []
    for name in _members(suffix):
        split = "test" if name.startswith("test") else "train"
        try:
            images, labels = read(contents[name])
            names = [CIFAR10.classes[label] for label in labels]
        except Exception as why:  # of any kind: a pickle of others
            raise DataError(f"{title}/{name}: no batch of CIFAR-10 ({str(why)[:80]})") from None
        at = len(pictures)
        pictures += [
            Picture(f"{split}/{number:05d}", label, split, image)
            for number, (label, image) in enumerate(zip(names, images, strict=True), at)
        ]
    return Named(title, pictures, CIFAR10.classes, side=32)


def _binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(content, np.uint8).reshape(-1, ROW)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def _pickled(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    return np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32), np.asarray(batch["labels"], np.int64)


def _archive(path: Path, files: Sequence[File], title: str, groups: str) -> Named | None:
    """A folder that holds the archive itself."""
    names = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
    found = next((file.name for file in files if file.name in names), None)
    return _of_archive(path / found, title) if found else None


def _of_archive(path: Path, title: str) -> Named:
    contents: dict[str, bytes] = {}
    wanted = {*_members(""), *_members(".bin")}
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if member.isreg() and name in wanted and member.size <= BATCH_BYTES:
                    inner = tar.extractfile(member)
                    contents[name] = inner.read() if inner else b""
    except (OSError, tarfile.TarError, EOFError) as why:
        raise DataError(f"{path}: cannot be unpacked ({str(why)[:80]}): fetch it again") from None
    if not contents:
        raise DataError(f"{path}: no batches of CIFAR-10 in it: unpack it, and name the folder; {EXPECTED}")
    return _of_batches(contents, ".bin" if BATCHES[0] + ".bin" in contents else "", title)


def _parquet(path: Path, files: Sequence[File], title: str, groups: str) -> Named | None:
    """Parquet files whose names say the split, as train-00000-of-00001.parquet."""
    tables = [file for file in files if file.name.endswith(".parquet")]
    if not tables:
        return None
    if sum(file.size for file in tables) > PARQUET_BYTES:
        raise DataError(f"{title}: Parquet of more than {PARQUET_BYTES / 1e9:.0f} GB: write its images into folders")
    return _of_parquet([path / file.name for file in sorted(tables, key=lambda file: in_order(file.name))], title)


def _of_parquet(tables: Sequence[Path], title: str) -> Named:
    pictures: list[Picture] = []
    names: Sequence[str] = ()
    for table in tables:
        split = _split_of(table.name)
        try:
            images, labels, own = _columns(table)
        except Exception as why:  # of any kind: a file of others
            raise DataError(f"{table}: no images in it as Hugging Face writes them ({str(why)[:80]})") from None
        names = names or own
        at = len(pictures)
        for number, (image, label) in enumerate(zip(images, labels, strict=True), at):
            name = names[label] if isinstance(label, int) and 0 <= label < len(names) else str(label)
            pictures.append(Picture(f"{table.name}/{number}", name, split, image))
    if not pictures:
        raise DataError(f"{title}: no rows in its Parquet files")
    found = {picture.label for picture in pictures}
    classes = tuple(name for name in names if name in found) if found <= set(names) else tuple(sorted(found))
    return Named(title, pictures, classes)


def _split_of(name: str) -> str:
    begins = name.lower()
    return next((split for split in ("train", "test", "val") if begins.startswith(split)), "")


def _columns(table: Path) -> tuple[list[bytes], list[object], Sequence[str]]:
    """The encoded images, their labels, and the labels' names where the schema has them."""
    import pyarrow.parquet as pq

    open_file(table).close()  # refuses pipes
    read = pq.read_table(table)
    image = next(name for name in ("image", "img") if name in read.column_names)
    label = next(name for name in ("label", "labels", "fine_label") if name in read.column_names)
    about = json.loads((read.schema.metadata or {}).get(b"huggingface", b"{}"))
    names = about.get("info", {}).get("features", {}).get(label, {}).get("names", ())
    cells = read.column(image).to_pylist()
    return [cell["bytes"] for cell in cells], read.column(label).to_pylist(), names
