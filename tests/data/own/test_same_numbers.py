"""CIFAR-10 written out in the ways that people have it trains to the numbers of the built-in data set, to the bit."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import raycifar
from raycifar.config.datasets import CIFAR10
from raycifar.data.own.images import fetch_own
from raycifar.data.sources import facts_of
from raycifar.storage.cache import cache_folder
from raycifar.storage.folders import TrialFolder
from tests.support.own_images import own, write_table
from tests.support.paths import SAMPLE

SETTINGS = {"seed": 1, "epochs": 2, "batch_size": 20, "precision": "fp32", "model": {"weights": "random"}}
FEW = {"train_images": 200, "test_images": 100, "holdout_images": 100}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A cache with the built-in data set in it, and its tensors."""
    cache, name = tmp_path_factory.mktemp("cache"), CIFAR10.file_name
    shutil.copy(cache_folder() / name, cache / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYCIFAR_CACHE", str(cache))
        yield load_file(cache / name)
    shutil.rmtree(cache)


@pytest.fixture(scope="module")
def folders(official, tmp_path_factory):
    """60,000 PNG files named by their official number, a folder a class."""
    root = tmp_path_factory.mktemp("written") / "cifar"
    for split in ("train", "test"):
        for name in CIFAR10.classes:
            (root / split / name).mkdir(parents=True)

    def write(split, number):
        pixels, label = official[f"{split}_images"][number], official[f"{split}_labels"][number]
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        image.save(root / split / CIFAR10.classes[label] / f"{number:05d}.png", compress_level=1)

    with ThreadPoolExecutor(2) as pool:
        for split in ("train", "test"):
            list(pool.map(lambda number, of=split: write(of, number), range(len(official[f"{split}_labels"]))))
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def binary(official, tmp_path_factory):
    return write_binary(tmp_path_factory.mktemp("binary") / "batches", official)


def write_binary(root, tensors):
    root.mkdir()
    rows = {
        split: np.concatenate(
            [tensors[f"{split}_labels"].astype(np.uint8)[:, None], tensors[f"{split}_images"].reshape(-1, 3072)], 1
        )
        for split in ("train", "test")
    }
    for number, part in enumerate(np.array_split(rows["train"], 5), 1):
        (root / f"data_batch_{number}.bin").write_bytes(part.tobytes())
    (root / "test_batch.bin").write_bytes(rows["test"].tobytes())
    return root


def trained(data, storage, settings=SETTINGS):
    """What a trial on the data leaves: its losses and accuracies, its weights' bytes, its logits and labels."""
    trial = {"name": "a", "arm": "a", "data": FEW | data, **settings}
    sweep = raycifar.SweepSpec.model_validate({"name": "s", "trials": [trial]})
    folder = TrialFolder(raycifar.run_sweep(sweep, raycifar.Options(local=True, gpus=0), storage=storage).path / "a")
    epochs = [(e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy) for e in folder.history().epochs]
    with np.load(folder.predictions) as tested:  # of the user's own images it has what is known of each, too
        predictions = [tested[name].tobytes() for name in ("logits", "labels")]
    return epochs, folder.best_weights.read_bytes(), predictions


def check_same(spec, official):
    path = fetch_own(spec)
    known, read = facts_of(path, spec), load_file(path)
    for name, tensor in official.items():
        assert np.array_equal(read[name], tensor)
    for key in ("classes", "train", "test", "side", "mean", "std", "mirror"):
        assert getattr(known, key) == getattr(CIFAR10, key)


@pytest.mark.chaos  # two minutes on quiet cores
@pytest.mark.assets
def test_folders_of_png_files_a_table_of_them_and_the_binary_version_are_the_built_in_set(
    official, folders, binary, tmp_path
):
    built_in = trained({}, tmp_path / "built-in")
    check_same(own(folders), official)
    assert trained({"path": str(folders), "side": 32}, tmp_path / "folders") == built_in
    files = [path.relative_to(folders) for path in folders.rglob("*.png")]
    write_table(folders, [f"{file},{file.parts[1]},{file.parts[0]}" for file in files], "file,label,split")
    check_same(own(folders), official)
    assert trained({"path": str(folders), "side": 32}, tmp_path / "table") == built_in
    check_same(own(binary), official)
    assert trained({"path": str(binary)}, tmp_path / "binary") == built_in


@pytest.fixture
def written(tmp_path):
    """The sample's images in three ways: a folder a class, a table, the binary version."""
    sample = load_file(SAMPLE)
    for way in ("folders", "table"):
        for split in ("train", "test"):
            for number, (pixels, label) in enumerate(
                zip(sample[f"{split}_images"], sample[f"{split}_labels"], strict=True)
            ):
                place = f"{split}/{CIFAR10.classes[label]}" if way == "folders" else split
                (tmp_path / way / place).mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
                image.save(tmp_path / way / place / f"{number:05d}.png")
    rows = [
        f"{split}/{number:05d}.png,{CIFAR10.classes[label]},{split}"
        for split in ("train", "test")
        for number, label in enumerate(sample[f"{split}_labels"])
    ]
    write_table(tmp_path / "table", rows, "file,label,split")
    write_binary(tmp_path / "binary", sample)
    return [tmp_path / way for way in ("folders", "table", "binary")]


@pytest.mark.slow
def test_folders_a_table_and_the_binary_version_of_some_images_train_to_the_same_bits(written, tmp_path, cache):
    files = [fetch_own(own(path)) for path in written]
    assert files == [files[0]] * 3  # named by their digest
    sample = load_file(SAMPLE)
    assert all(np.array_equal(load_file(files[0])[name], tensor) for name, tensor in sample.items())
    model = {"name": "torchvision/squeezenet1_1", "weights": "random"}
    settings = SETTINGS | {"epochs": 1, "batch_size": 80, "model": model}  # 3 steps
    few = {"train_images": 240, "test_images": 100, "holdout_images": 80, "side": 32}
    left = [trained({"path": str(path)} | few, tmp_path / f"r{i}", settings) for i, path in enumerate(written)]
    assert left == [left[0]] * 3
