"""Fashion-MNIST: every test but those marked `assets` works on toys, and reaches no other machine."""

import gzip
import hashlib

import numpy as np
import pytest
from safetensors.numpy import load_file

from raycifar.config.data import Data
from raycifar.config.datasets import FASHION_MNIST
from raycifar.data import fashion_mnist
from raycifar.data.sources import fetch_data
from raycifar.data.splits import load_splits
from raycifar.storage import asset_cache
from tests.support.hostile import nothing_waits_for_ever  # noqa: F401

NAMES = list(fashion_mnist.FILES)


@pytest.fixture
def toys(monkeypatch):
    """The four files with ten images each, taken for the official ones: name -> content."""
    grey = np.arange(10 * 28 * 28, dtype=np.uint8).tobytes()
    images, labels = bytes(16) + grey, bytes(8) + bytes(range(10))
    contents = dict(zip(NAMES, (images, labels, images, labels), strict=True))
    known = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()}
    monkeypatch.setattr(fashion_mnist, "FILES", known)
    return contents


@pytest.mark.parametrize("packed", [(), NAMES, NAMES[:1]], ids=["unpacked", "packed", "mixed"])
def test_a_folder_may_hold_the_files_as_published_or_unpacked(tmp_path, toys, packed):
    for name, content in toys.items():
        path = tmp_path / (f"{name}.gz" if name in packed else name)
        path.write_bytes(gzip.compress(content) if name in packed else content)
    assert fashion_mnist.read_files(tmp_path) == toys


def bomb(folder, toys):
    (folder / NAMES[0]).unlink()
    (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(bytes(50_000_000)))


WRONG = {
    "a file that is absent": (lambda folder, toys: (folder / NAMES[1]).unlink(), "No such file"),
    "another content": (lambda folder, toys: (folder / NAMES[2]).write_bytes(bytes(7856)), "sha256"),
    "another size": (lambda folder, toys: (folder / NAMES[3]).write_bytes(b"1"), "has 1 bytes, expected 18"),
    "a file that unpacks to much more": (bomb, "larger than|bytes, expected"),
    "no gzip": (lambda folder, toys: (folder / f"{NAMES[0]}.gz").write_bytes(b"no"), "Not a gzipped file"),
    "half a gzip": (
        lambda folder, toys: (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(toys[NAMES[0]])[:200]),
        "ended before|end-of-stream",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), WRONG.values(), ids=WRONG)
def test_a_folder_with_other_files_is_refused_in_one_line(tmp_path, cache, toys, spoil, said):
    folder = tmp_path / "FashionMNIST/raw"
    folder.mkdir(parents=True)
    for name, content in toys.items():
        (folder / name).write_bytes(content)
    spoil(folder, toys)
    with pytest.raises(asset_cache.AssetError, match=said) as error:
        fashion_mnist.fetch_fashion_mnist(tmp_path)
    assert str(error.value).startswith(f"--data {tmp_path}: ")
    assert "\n" not in str(error.value)
    assert not cache.exists()


@pytest.fixture
def without_debian(monkeypatch):
    def refuse(*args):
        raise RuntimeError("refused")

    monkeypatch.setattr(fashion_mnist, "run_program", refuse)


def test_when_every_source_fails_one_error_lists_each_and_the_remedy(cache, unreachable, without_debian):
    with pytest.raises(asset_cache.AssetError) as error:
        fetch_data(Data(name="fashion_mnist"))
    _, torchvisions, debians, remedy = str(error.value).splitlines()
    assert torchvisions == "  torchvision's download (31 MB): refused"
    assert "dataset-fashion-mnist=" in debians
    assert "pass their folder as --data" in remedy


def test_grey_pixels_become_three_equal_channels_with_two_black_ones_around():
    grey = np.arange(2 * 28 * 28, dtype=np.uint8)
    images = fashion_mnist.as_rgb(grey)
    assert images.shape == (2, *FASHION_MNIST.shape)
    assert (images[:, :, 2:30, 2:30] == grey.reshape(2, 1, 28, 28)).all()
    assert images.astype(int).sum() == 3 * grey.astype(int).sum()


def test_a_download_is_that_of_torchvisions_host(tmp_path, cache, toys, without_debian, monkeypatch, serve):
    from torchvision.datasets import FashionMNIST

    listed = []
    for name, content in toys.items():
        packed = gzip.compress(content)
        (tmp_path / f"{name}.gz").write_bytes(packed)
        listed.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"{serve(tmp_path)}/"])
    monkeypatch.setattr(FashionMNIST, "resources", listed)
    with pytest.raises(asset_cache.AssetError, match=r"train_images is uint8 \(10, 3, 32, 32\), expected"):
        fetch_data(Data(name="fashion_mnist"))  # all was read and verified; then ten images are not all


@pytest.mark.assets
def test_the_images_are_those_that_were_published():
    tensors = load_file(fetch_data(Data(name="fashion_mnist")))
    assert tensors["train_labels"][:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert tensors["test_labels"][:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    for split, counts in (("train", FASHION_MNIST.train), ("test", FASHION_MNIST.test)):
        assert np.bincount(tensors[f"{split}_labels"]).tolist() == list(counts)
    pixels = tensors["train_images"][:, 0, 2:30, 2:30] / np.float32(255)
    assert (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) == (0.2860, 0.3530)


@pytest.mark.assets
def test_its_splits_are_stratified_and_disjoint():
    data = Data(name="fashion_mnist", train_images=200, holdout_images=100, test_images=50)
    splits = load_splits(fetch_data(data), data)
    assert [split.labels.bincount().tolist() for split in (splits.train, splits.val, splits.test)] == [
        [20] * 10,
        [10] * 10,
        [5] * 10,
    ]
