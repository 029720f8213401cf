"""What of a user's images is refused, each in one line with place, value and remedy; nothing is left in the cache."""

import os
from pathlib import Path

import pytest

from raycifar.data.own import images, named
from raycifar.data.own.images import fetch_own
from raycifar.data.own.named import DataError
from tests.support.hostile import everything
from tests.support.own_images import own, write_folder, write_table

pytestmark = pytest.mark.usefixtures("cache")
SPLIT = {"train/ash": 6, "train/elm": 5, "test/ash": 2, "test/elm": 3}


@pytest.fixture
def leaves(tmp_path):
    return tmp_path / "leaves"


def put(name, content=b"x"):
    def make(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return make


def copy(source, target):
    return lambda root: (root / target).write_bytes((root / source).read_bytes())


def link(name, target):
    return lambda root: (root / name).symlink_to(target)


def table(*lines, heading="file,label"):
    return lambda root: write_table(root, lines, heading)


def many_classes(root):
    for number in range(1001):
        (root / f"c{number}").mkdir(parents=True)
        (root / f"c{number}/{number}.png").write_bytes(b"x")


PAIR = {"train/ash": 3, "train/elm": 3, "test/ash": 1, "test/elm": 1}
CASES = {
    "a class with no training images": (
        PAIR | {"test/oak": 1},
        None,
        {},
        "leaves/test/oak: a class with no training images: add some, or remove the folder (the training "
        "folder has ash, elm)",
    ),
    "an empty class": (
        PAIR,
        lambda root: (root / "train/oak").mkdir(),
        {},
        "leaves/train/oak: a class with no training images: add some, or remove the folder (the training "
        "folder has ash, elm)",
    ),
    "no images": (
        {},
        put("readme.txt"),
        {},
        "leaves: no .jpg, .png, .webp, .bmp or .tif below it; expected train/CLASS/ and test/CLASS/, CLASS/, "
        "or labels.csv (there are 1 .txt)",
    ),
    "one class": ({"ash": 3}, None, {}, "leaves: 1 class (ash): at least 2 are needed"),
    "too many classes": ({}, many_classes, {}, "leaves: 1,001 classes: at most 1,000 are possible: merge some"),
    "unreadable files": (
        PAIR,
        put("train/ash/7.jpg", b""),
        {},
        'leaves: 1 of 9 images cannot be read: train/ash/7.jpg (no image): repair them, or data.corrupt = "skip"',
    ),
    "a test without training": (
        {"test/ash": 1, "test/elm": 1},
        None,
        {},
        "leaves: it has test/ but no train/; expected train/CLASS/ and test/CLASS/, CLASS/, or labels.csv",
    ),
    "an image in no class": (
        PAIR,
        copy("train/ash/0.png", "train/0.png"),
        {},
        "leaves/train/0.png: lies in no class's folder; expected train/CLASS/",
    ),
    "a class without test images": (
        PAIR | {"train/oak": 3},
        None,
        {},
        "leaves: oak has no test images: add some, or remove the class",
    ),
    "a class too small": (
        {"ash": 20, "oak": 2},
        None,
        {},
        "leaves: oak has 2 images, too few for training, validation and test: lower data.test, or merge it",
    ),
    "copies across given splits": (
        PAIR,
        copy("train/ash/0.png", "test/ash/77.png"),
        {},
        "leaves: 1 training image equals a test image, pixel by pixel (train/ash/0.png and test/ash/77.png): "
        'remove them, or data.duplicates = "drop"',
    ),
    "copies in what is cut": (
        {"ash": 9, "elm": 9},
        copy("ash/0.png", "elm/77.png"),
        {},
        "leaves: 1 training image equals others, and the held-out ones are drawn from these, pixel by pixel "
        "(elm/77.png and ash/0.png): remove",
    ),
    "a share of a given test": (
        PAIR,
        None,
        {"test": 0.3},
        "data.test = 0.3: leaves says which of its images test: leave it out",
    ),
    "a pattern that does not match": (
        PAIR,
        None,
        {"groups": r"name:^(P\d+)_"},
        r"leaves/train/ash/0.png: data.groups = 'name:^(P\d+)_' does not match its name: mend either",
    ),
    "a column without a table": (
        PAIR,
        None,
        {"groups": "patient"},
        'data.groups = "patient": leaves has no labels.csv with such a column: take a pattern of file names',
    ),
    "a link out": (
        PAIR,
        link("train/ash/l.png", "/etc/hostname"),
        {},
        "leaves/train/ash/l.png: a link that leads out of leaves/: copy what it leads to, or remove it",
    ),
    "a folder that leads out": (
        PAIR,
        link("train/oak", "/etc"),
        {},
        "leaves/train/oak: a link that leads out of leaves/",
    ),
    "a folder in itself": (
        PAIR,
        link("train/oak", "../train"),
        {},
        "leaves/train/oak: a link to a folder, or to nothing: remove it",
    ),
    "a link to itself": (
        PAIR,
        link("train/oak", "oak"),
        {},
        "leaves/train/oak: a link to a folder, or to nothing: remove it",
    ),
    "a pipe": (
        PAIR,
        lambda root: os.mkfifo(root / "train/ash/p.png"),
        {},
        "leaves/train/ash/p.png: no file but a pipe, a device or a socket: remove it",
    ),
    "a table's unknown split": (
        PAIR,
        table("train/ash/0.png,ash,dev", heading="file,label,split"),
        {},
        'labels.csv, line 2: split = "dev": expected train, val or test',
    ),
    "a table that leads out": (
        PAIR,
        table("train/ash/0.png,ash", "../x.jpg,ash"),
        {},
        'labels.csv, line 3: file = "../x.jpg" lies outside leaves/: name a file in it',
    ),
    "a table of absolute paths": (
        PAIR,
        table("/etc/hostname,ash"),
        {},
        'labels.csv, line 2: file = "/etc/hostname" lies outside leaves/',
    ),
    "a table of a drive": (PAIR, table("C:\\x.png,ash"), {}, "lies outside leaves/"),
    "a file that is not there": (
        PAIR,
        table("nowhere.png,ash"),
        {},
        'labels.csv, line 2: file = "nowhere.png": no such file in leaves/: add it, or remove the line',
    ),
    "no label": (
        PAIR,
        table("train/ash/0.png, "),
        {},
        'labels.csv, line 2: label is empty: name the class of "train/ash/0.png"',
    ),
    "a file twice": (
        PAIR,
        table("train/ash/0.png,ash", "train/ash/0.png,elm"),
        {},
        'labels.csv, line 3: file = "train/ash/0.png": line 2 has it already: remove one of them',
    ),
    "a table without a column": (
        PAIR,
        table("a,b", heading="picture,label"),
        {},
        "labels.csv, line 1: no column 'file' (or file_name, filename, image, path); there are picture, label",
    ),
    "a table without lines": (
        PAIR,
        table(),
        {},
        "labels.csv: no line below its heading: a line an image, as in `file,label`",
    ),
    "a short line": (PAIR, table("train/ash/0.png"), {}, "labels.csv, line 2: 1 cells, expected at least 2"),
    "a table in another code": (PAIR, put("labels.csv", b"file,label\n\xff\xfe"), {}, "labels.csv: not UTF-8 text"),
    "a column of groups that is not there": (
        PAIR,
        table("train/ash/0.png,ash"),
        {"groups": "patient"},
        'data.groups = "patient": labels.csv has no such column',
    ),
    "a class that only tests": (
        PAIR,
        table("train/ash/0.png,ash,train", "train/elm/3.png,oak,test", heading="file,label,split"),
        {},
        'labels.csv: "oak": a class with no training images: add some, or remove its lines (the training '
        "images have ash)",
    ),
    "an archive without batches": ({}, put("cifar-10-python.tar.gz", b"x" * 600), {}, "cannot be unpacked"),
    "batches that are none": (
        {},
        put("data_batch_1.bin"),
        {},
        "leaves: data_batch_2.bin is missing: unpack CIFAR-10's archive again",
    ),
    "no Parquet": ({}, put("train.parquet"), {}, "no images in it as Hugging Face writes them"),
}


@pytest.mark.parametrize(("counts", "change", "settings", "line"), CASES.values(), ids=CASES.keys())
def test_what_cannot_be_used_is_refused_in_one_line_and_leaves_nothing(leaves, cache, counts, change, settings, line):
    leaves.mkdir()
    write_folder(leaves, counts)
    if change:
        change(leaves)
    before = everything(leaves)
    with pytest.raises(DataError) as refused:
        fetch_own(own(leaves, **settings))
    message = str(refused.value)
    assert message.isprintable()
    assert len(message) < 400
    assert line in message
    assert everything(leaves) == before
    assert [path for path in cache.rglob("*") if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nowhere", "no such folder; a relative path begins at the sweep file's folder"),
        ("x" * 5000, "File name too long"),
        ("a\0b", "no such folder"),
        ("x.txt", "it is a PNG image; expected a folder, labels.csv, .parquet, or CIFAR-10's .tar.gz"),
    ],
)
def test_a_path_that_names_no_images_is_refused(tmp_path, name, line):
    (tmp_path / "x.txt").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError) as refused:
        fetch_own(own(Path(f"{tmp_path}/{name}")))
    assert line in str(refused.value)


def test_all_unreadable_files_are_named(leaves, capsys):
    write_folder(leaves, SPLIT)
    for number in range(8):
        (leaves / f"train/ash/bad{number}.png").write_bytes(b"x")
    with pytest.raises(DataError) as refused:
        fetch_own(own(leaves))
    said = capsys.readouterr().err + str(refused.value)
    assert all(f"bad{number}.png" in said for number in range(8))
    assert "8 of 24 images" in said


def test_groups_in_two_given_splits_are_named_with_their_number(leaves):
    write_folder(leaves, {"train/ash": 2, "train/elm": 2, "test/ash": 1, "test/elm": 1})
    for path in sorted(leaves.rglob("*.png")):
        path.rename(path.with_name(f"P{int(path.stem) % 4}_{path.name}"))
    line = r"leaves: group P0 has images in train and test \(2 groups so\): regroup the split, or leave it out and set"
    with pytest.raises(DataError, match=line):
        fetch_own(own(leaves, groups=r"name:^(P\d+)_"))


def test_a_disk_without_room_is_noticed_before_anything_is_decoded(leaves, monkeypatch):
    monkeypatch.setattr(images.shutil, "disk_usage", lambda _: type("Full", (), {"free": 10})())
    monkeypatch.setattr(images, "decode_all", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"GB free: lower data.side, or name another folder in RAYCIFAR_CACHE"):
        fetch_own(own(write_folder(leaves, SPLIT)))


def test_more_files_than_are_read_are_refused(leaves, monkeypatch):
    monkeypatch.setattr(named, "MOST_FILES", 10)
    with pytest.raises(DataError, match="leaves: more than 10 files and folders: name a folder with fewer"):
        fetch_own(own(write_folder(leaves, SPLIT)))
