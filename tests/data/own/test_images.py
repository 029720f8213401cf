"""The user's images from their folder to the file that trials read, and all that is refused on the way."""

import csv
import io
import json
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from raycifar.config.datasets import CIFAR10
from raycifar.config.sweep import TrialSpec, checked_trial
from raycifar.data.own import decoders, images
from raycifar.data.own.images import facts_in, fetch_own, index_of
from raycifar.data.own.named import in_order
from raycifar.data.sources import facts_of
from raycifar.data.splits import load_splits, load_training
from tests.support.own_images import own, pictures, write_folder, write_table
from tests.support.paths import SAMPLE

pytestmark = pytest.mark.usefixtures("cache")
SPLIT = {"train/ash": 6, "train/elm": 5, "test/ash": 2, "test/elm": 3}


@pytest.fixture
def leaves(tmp_path):
    return tmp_path / "leaves"


def facts(path, **settings):
    spec = own(path, **settings)
    return facts_of(fetch_own(spec), spec)


# What is read -----------------------------------------------------------------------------------------------------


def test_folders_of_a_given_split_are_read_as_they_are(leaves):
    known = facts(write_folder(leaves, SPLIT | {"val/elm": 1}))
    assert (known.name, known.title, known.classes, known.side) == ("path:leaves", "leaves", ("ash", "elm"), 32)
    assert (known.train, known.val, known.test) == ((6, 5), (0, 1), (2, 3))


def test_the_file_holds_the_pixels_in_the_order_of_the_names(leaves):
    write_folder(leaves, SPLIT)
    tensors = load_file(fetch_own(own(leaves)))
    expected = np.stack([np.asarray(image).transpose(2, 0, 1) for image, _ in zip(pictures(), range(11), strict=False)])
    assert np.array_equal(tensors["train_images"], expected)
    assert tensors["train_labels"].tolist() == [0] * 6 + [1] * 5
    assert json.loads(tensors["class_names"].tobytes()) == ["ash", "elm"]


def test_a_folder_that_is_called_as_a_built_in_set_is_not_taken_for_it(tmp_path, cache):
    spec = own(write_folder(tmp_path / "cifar10", SPLIT))
    path = fetch_own(spec)
    assert cache / facts_of(path, spec).file_name == path


def test_a_folder_a_class_has_a_fifth_cut_for_the_test_of_each_class(leaves):
    known = facts(write_folder(leaves, {"ash": 20, "elm": 10}))
    assert (known.train, known.test) == ((16, 8), (4, 2))
    assert "20 % cut for the test, stratified" in known.made


def test_a_rare_class_gives_the_test_one_image(leaves):
    assert facts(write_folder(leaves, {"ash": 60, "elm": 3})).test == (12, 1)


def test_the_cut_depends_on_nothing_but_the_images(leaves, tmp_path, monkeypatch):
    first = fetch_own(own(write_folder(leaves, {"ash": 20, "elm": 10}))).name
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / "another"))
    os.utime(leaves / "ash/3.png", (1, 1))
    assert fetch_own(own(leaves)).name == first


ORDERS = {
    "numbers as numbers": ["b/2.png", "a/10.png"],
    "then the folder": ["train/ash/7.png", "train/elm/7.png"],
    "words before what follows them": ["img1.png", "img1a.png", "img2.png", "img10.png"],
}


@pytest.mark.parametrize("names", ORDERS.values(), ids=ORDERS.keys())
def test_the_order_is_by_file_name_then_folder(names):
    assert sorted({*names}, key=in_order) == names


def test_a_table_says_class_split_and_group(leaves):
    write_folder(leaves, {"scans": 6})
    rows = ["ill,train,P1", "well,train,P1", "ill,val,P2", "well,val,P2", "ill,test,P3", "well,test,P3"]
    write_table(leaves, [f"scans/{i}.png,{row}" for i, row in enumerate(rows)], "file,label,split,patient")
    spec = own(leaves, groups="patient")
    known = facts_of(path := fetch_own(spec), spec)
    assert (known.train, known.val, known.test, known.groups) == ((1, 1), (1, 1), (1, 1), 3)
    assert load_file(path)["test_groups"].tolist() == [2, 2]


@pytest.mark.parametrize(
    "heading", ["file_name,label", "image,class", "filename;label", "\ufefffile\tlabel", "File, Label"]
)
def test_a_table_may_name_and_part_its_columns_otherwise(leaves, heading):
    write_folder(leaves, {"x": 20})
    mark = next(mark for mark in ";\t," if mark in heading)
    write_table(leaves, [f"x\\{i}.png{mark}{'ab'[i % 2]}" for i in range(20)], heading)
    assert facts(leaves / "labels.csv").train == (8, 8)


def test_hidden_files_and_other_kinds_are_left_out(leaves, capsys):
    write_folder(leaves, SPLIT)
    (leaves / "train/.ipynb_checkpoints").mkdir()
    (leaves / "train/ash/._0.png").write_bytes(b"x")
    (leaves / "train/ash/notes.md").write_text("x")
    assert facts(leaves).train == (6, 5)
    assert "leaves: other files were left out (there are 11 .png" not in capsys.readouterr().err


def test_of_images_too_small_for_what_is_stored_a_line_says_so(leaves, capsys):
    fetch_own(own(write_folder(leaves, SPLIT), side=64))
    assert "no image has more than 32 pixels a side, and 64 are stored: lower data.side" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_give_the_same_file_as_one(leaves, monkeypatch, tmp_path):
    write_folder(leaves, {"ash": 150, "elm": 150})
    by_processes = fetch_own(own(leaves)).name
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(decoders, "FEW", 10_000)
    assert fetch_own(own(leaves)).name == by_processes


# CIFAR-10 as people have it ---------------------------------------------------------------------------------------


def sample():
    return load_file(SAMPLE)


def as_folders(root):
    """PNG files named by their official number, a folder a class."""
    tensors = sample()
    for split in ("train", "test"):
        for number, (pixels, label) in enumerate(
            zip(tensors[f"{split}_images"], tensors[f"{split}_labels"], strict=True)
        ):
            folder = root / split / CIFAR10.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(folder / f"{number:05d}.png")
    return root


def as_table(root):
    as_folders(root)
    files = [path.relative_to(root) for path in sorted(root.rglob("*.png"), key=lambda path: path.name[::-1])]
    return write_table(root, [f"{file},{file.parts[1]},{file.parts[0]}" for file in files], "file,label,split")


def binary_batches():
    tensors = sample()
    rows = {
        split: np.concatenate(
            [tensors[f"{split}_labels"].astype(np.uint8)[:, None], tensors[f"{split}_images"].reshape(-1, 3072)], 1
        )
        for split in ("train", "test")
    }
    parts = dict(zip((f"data_batch_{i}.bin" for i in range(1, 6)), np.array_split(rows["train"], 5), strict=True))
    return {name: part.tobytes() for name, part in (parts | {"test_batch.bin": rows["test"]}).items()}


def as_binary(root):
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, content in binary_batches().items():
        (folder / name).write_bytes(content)
    return root


def as_archive(root):
    with tarfile.open(root.with_suffix(".tar.gz"), "w:gz") as tar:
        for name, content in binary_batches().items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return root.with_suffix(".tar.gz")


def as_parquet(root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    tensors = sample()
    (root / "data").mkdir(parents=True)
    about = {"info": {"features": {"label": {"names": list(CIFAR10.classes), "_type": "ClassLabel"}}}}
    for split in ("train", "test"):
        cells = []
        for pixels in tensors[f"{split}_images"]:
            file = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG")
            cells.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"img": cells, "label": tensors[f"{split}_labels"]})
        table = table.replace_schema_metadata({b"huggingface": json.dumps(about).encode()})
        pq.write_table(table, root / f"data/{split}-00000-of-00001.parquet")
    return root


LAYOUTS = (as_folders, as_table, as_binary, as_archive, as_parquet)


@pytest.mark.parametrize("write", LAYOUTS)
def test_cifar10_written_out_is_cifar10(tmp_path, write):
    spec = own(write(tmp_path / "cifar"))
    path, tensors = fetch_own(spec), sample()
    known, read = facts_of(path, spec), load_file(path)
    assert known.classes == CIFAR10.classes
    for name, tensor in tensors.items():
        assert np.array_equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_kaggles_test_has_no_labels_so_it_is_cut_from_the_training_images_and_that_is_said(tmp_path, capsys):
    root, labels = tmp_path / "kaggle", sample()["train_labels"]
    write_folder(root, {"train": len(labels)})
    (root / "test").mkdir()
    next(iter(pictures())).save(root / "test/1.png")
    with (root / "trainLabels.csv").open("w") as file:
        csv.writer(file).writerows([("id", "label"), *((i, CIFAR10.classes[label]) for i, label in enumerate(labels))])
    known = facts(root)
    assert (known.train, known.test) == ((26,) * 10, (6,) * 10) or sum(known.test) == 64
    assert "1 images in kaggle/test/ have no labels: the test is cut from the training" in capsys.readouterr().err


# Splits -------------------------------------------------------------------------------------------------------------


def spec_of(path, **data):
    model, base = {"weights": "random"}, {"name": "a", "arm": "a", "seed": 3, "epochs": 1, "batch_size": 2}
    trial = TrialSpec.model_validate(base | {"model": model, "data": {"path": str(path), "side": 32, **data}})
    return checked_trial(trial, facts_of(fetch_own(trial.data), trial.data))


def hashes(split):
    return {image.numpy().tobytes() for image in split.images}


def test_a_tenth_is_held_out_with_each_class_in_it(leaves):
    trial = spec_of(write_folder(leaves, {"ash": 60, "elm": 9}))
    data = load_splits(fetch_own(trial.data), trial.own_data())
    assert (len(data.train), len(data.val), len(data.test)) == trial.data.images == (50, 5, 14)
    assert data.val.labels.unique().tolist() == [0, 1]
    assert not hashes(data.train) & hashes(data.val)


def test_given_validation_images_validate_and_all_others_train(leaves):
    trial = spec_of(write_folder(leaves, SPLIT | {"val/elm": 4}))
    data = load_splits(path := fetch_own(trial.data), trial.data)
    assert (len(data.train), len(data.val), len(data.test)) == trial.data.images == (11, 4, 5)
    assert load_training(path, trial.data).val.images.equal(data.val.images)


GROUPED = {"ash": 60, "elm": 40}


def grouped(root, groups):
    """Images named g3_17.png by their group, and number."""
    write_folder(root, GROUPED)
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(f"g{int(path.stem) % groups}_{path.name}"))
    return root


@pytest.mark.parametrize("seed", [0, 1, 2, "trial"])
def test_no_two_splits_share_a_group_whatever_the_seed(leaves, seed):
    trial = spec_of(grouped(leaves, 25), groups=r"name:^(g\d+)_", split_seed=seed)
    path, own_data = fetch_own(trial.data), trial.own_data()
    data, tensors = load_splits(path, own_data), load_file(path)
    group_of = {
        image.tobytes(): group
        for split in ("train", "test")
        for image, group in zip(tensors[f"{split}_images"], tensors[f"{split}_groups"], strict=True)
    }
    train, val, test = ({group_of[image] for image in hashes(split)} for split in (data.train, data.val, data.test))
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train | val | test) == trial.data.facts.groups == 25
    assert (len(data.train), len(data.val), len(data.test)) == own_data.images


def test_other_seeds_hold_out_other_groups(leaves):
    grouped(leaves, 25)
    held_out = []
    for seed in (0, 1):
        trial = spec_of(leaves, groups=r"name:^(g\d+)_", split_seed=seed)
        held_out.append(hashes(load_training(fetch_own(trial.data), trial.data).val))
    assert not held_out[0] & held_out[1]


def test_copies_are_dropped_from_the_training_images_where_that_is_asked_for(leaves):
    write_folder(leaves, SPLIT)
    (leaves / "train/elm/99.png").write_bytes((leaves / "test/ash/11.png").read_bytes())
    known = facts(leaves, duplicates="drop")
    assert (known.train, known.test, known.dropped) == ((6, 5), (2, 3), 1)


def test_copies_that_no_two_splits_can_share_are_no_fault(leaves):
    write_folder(leaves, SPLIT | {"val/ash": 1})
    (leaves / "train/ash/99.png").write_bytes((leaves / "train/ash/0.png").read_bytes())
    assert facts(leaves).train == (7, 5)


def test_test_images_nearly_equal_to_others_are_counted(leaves):
    write_folder(leaves, SPLIT)
    Image.open(leaves / "train/ash/0.png").save(leaves / "test/ash/99.jpg", quality=92)
    spec = own(write_folder(leaves, SPLIT))
    path = fetch_own(spec)
    assert facts_in(path).near == 1
    assert load_file(path)["test_near"].tolist() == [0, 0, 0, 0, 0][:0] + [int(i == 5) for i in range(6)]


def test_unreadable_files_are_skipped_and_counted_where_that_is_asked_for(leaves):
    write_folder(leaves, SPLIT)
    (leaves / "train/ash/0.png").write_bytes(b"nothing")
    known = facts(leaves, corrupt="skip")
    assert (known.train, known.skipped) == ((5, 5), 1)


# Once, and never in place of what is named ----------------------------------------------------------------------------


def test_what_a_killed_process_left_is_removed_when_the_images_are_prepared_again(leaves, cache):
    spec = own(write_folder(leaves, SPLIT))
    index = index_of(spec, spec.path)
    left = cache / f".{index.name}-0123abcd"
    left.mkdir(parents=True)
    (left / "pixels").write_bytes(bytes(1_000))
    assert fetch_own(spec).parent == cache
    assert not left.exists()


def test_what_has_been_read_is_not_read_again(leaves, monkeypatch):
    first = fetch_own(own(write_folder(leaves, SPLIT)))
    monkeypatch.setattr(images, "decode_all", lambda *_: pytest.fail("decoded again"))
    assert fetch_own(own(leaves)) == first


CHANGES = {
    "an image more": lambda root: next(iter(pictures())).rotate(90).save(root / "train/ash/99.png"),
    "an image less": lambda root: (root / "train/ash/0.png").unlink(),
    "another class": lambda root: (root / "train/ash/0.png").rename(root / "train/elm/0.png"),
    "other pixels in a file of the same name": lambda root: (
        next(iter(pictures())).rotate(90).save(root / "train/ash/0.png")
    ),
    "a class by another name": lambda root: [(root / s / "ash").rename(root / s / "yew") for s in ("train", "test")],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_other_images_are_another_file(leaves, change):
    first = fetch_own(own(write_folder(leaves, SPLIT)))
    change(leaves)
    assert fetch_own(own(leaves)) != first


def test_a_damaged_file_of_the_cache_is_made_again(leaves):
    path = fetch_own(own(write_folder(leaves, SPLIT)))
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert fetch_own(own(leaves)).read_bytes() == sound


def test_the_moments_are_those_that_are_published_for_real_images(leaves):
    known = facts(as_folders(leaves))
    pixels = torch.from_numpy(sample()["train_images"]) / 255
    assert known.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=6e-5)
    assert known.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=6e-5)
