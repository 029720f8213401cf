"""Fashion-MNIST (Xiao, Rasul & Vollgraf, arXiv 1708.07747): found, verified, cached once.

Sources, in order: the cache, the user's folder, torchvision's download, Debian's package. All hold the same four files,
whose grey images of 28 x 28 pixels become RGB images of 32 x 32: three equal channels, 2 black pixels on each side.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raycifar.config.datasets import FASHION_MNIST, MNIST_BORDER
from raycifar.data.own.decode import bordered
from raycifar.storage.asset_cache import ANY, Asset, Get, Layout, Source, Tensors, cached_path, failure, obtain
from raycifar.storage.download import DOWNLOAD_SECONDS, download, run_program, verify
from raycifar.storage.files import read_file
from raycifar.storage.remembered import once

IMAGE_HEADER, LABEL_HEADER = 16, 8  # bytes before the numbers
SMALL = 1_000  # bytes by which packing may enlarge a file
FILES = {  # unpacked: bytes and SHA-256
    "train-images-idx3-ubyte": (47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
# Of the cached file, whatever it came from: the four files are the same.
CACHED_SHA256 = {ANY: "53a606a0a4ba7cea0d61e952a2a5dd57f32373cd5d5c5bbf4f0a9f3e0b84329d"}
SPLITS = {"train": "train", "test": "t10k"}  # by what the files call them
DEBIAN_PACKAGE = "dataset-fashion-mnist=0.0~git20200523.55506a9-1"
DEBIAN_SHA256 = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
DEBIAN_FOLDER = "usr/share/datasets/fashion-mnist"
FASHION_MNIST_LAYOUT: Layout = {
    "train_images": ("uint8", (FASHION_MNIST.train_images, *FASHION_MNIST.shape)),
    "train_labels": ("int64", (FASHION_MNIST.train_images,)),
    "test_images": ("uint8", (FASHION_MNIST.test_images, *FASHION_MNIST.shape)),
    "test_labels": ("int64", (FASHION_MNIST.test_images,)),
}


def fetch_fashion_mnist(data: Path | None = None, get: Get = obtain) -> Path:
    """Path of `fashion_mnist.safetensors`, fetched if the cache has no sound copy.

    It holds train_images (60000, 3, 32, 32) and test_images (10000, 3, 32, 32), uint8 0..255, and train_labels and
    test_labels, int64 0..9, in the official order. `data` is a folder with the four official files, as they are or
    unpacked, or torchvision's folder above it; it is read and verified even when the cache has a copy. With
    `get=examine` this is all that is done: nothing is written. Raises AssetError.
    """
    sources: list[Source] = [
        ("torchvision's download (31 MB)", _from_torchvision),
        (f"Debian's package {DEBIAN_PACKAGE} (31 MB)", _from_debian),
    ]
    if data is not None:
        source = f"--data {data}"
        try:
            folder = _folder(data)
            paths = [folder / f"{name}{suffix}" for name in FILES for suffix in ("", ".gz")]
            once(lambda: _check_files(folder), paths, "sound files of Fashion-MNIST", keep=get is obtain)
        except (OSError, RuntimeError, ValueError, EOFError, zlib.error) as why:
            raise failure(FASHION_MNIST_ASSET, [(source, why)]) from None
        sources = [(source, lambda scratch: _tensors(read_files(folder)))]
    return get(FASHION_MNIST_ASSET, cached_path(FASHION_MNIST.file_name), sources)


def _folder(data: Path) -> Path:
    """`data` itself, or the folder of files in it. Raises RuntimeError for the home of nobody."""
    folder = data.expanduser()
    return next((inner for part in ("FashionMNIST/raw", "raw") if (inner := folder / part).is_dir()), folder)


def _check_files(folder: Path) -> str:
    """As read_files; returns nothing."""
    read_files(folder)
    return ""


def read_files(folder: Path) -> dict[str, bytes]:
    """The four files of a folder, unpacked. Raises OSError, ValueError, EOFError or zlib.error."""
    return {name: _verified(name, _unpacked(folder, name, size)) for name, (size, _) in FILES.items()}


def _unpacked(folder: Path, name: str, size: int) -> bytes:
    """At most a byte more than there should be, whatever a packed file may grow to."""
    packed = folder / f"{name}.gz"
    if not packed.exists():
        return read_file(folder / name, size)
    with gzip.open(io.BytesIO(read_file(packed, size + SMALL))) as file:
        return file.read(size + 1)


def _verified(name: str, content: bytes) -> bytes:
    size, sha256 = FILES[name]
    verify(name, content, sha256, size)
    return content


def _from_torchvision(scratch: Path) -> Tensors:
    from torchvision.datasets import FashionMNIST

    for name, md5 in FashionMNIST.resources:
        verify(name, download(FashionMNIST.mirrors[0] + name, scratch / name), md5, algorithm="md5")
    return _tensors(read_files(scratch))


def _from_debian(scratch: Path) -> Tensors:
    """Neither of the programs needs rights that a user has not, nor installs anything."""
    run_program(["apt-get", "download", DEBIAN_PACKAGE], scratch, DOWNLOAD_SECONDS)
    name, _, version = DEBIAN_PACKAGE.partition("=")
    archive = scratch / f"{name}_{version}_all.deb"
    verify(archive.name, archive, DEBIAN_SHA256)
    run_program(["dpkg-deb", "-x", archive.name, "unpacked"], scratch, DOWNLOAD_SECONDS)
    return _tensors(read_files(scratch / "unpacked" / DEBIAN_FOLDER))


def _tensors(files: Mapping[str, bytes]) -> Tensors:
    tensors: Tensors = {}
    for split, start in SPLITS.items():
        tensors[f"{split}_images"] = as_rgb(_numbers(files[f"{start}-images-idx3-ubyte"], IMAGE_HEADER))
        tensors[f"{split}_labels"] = _numbers(files[f"{start}-labels-idx1-ubyte"], LABEL_HEADER).astype(np.int64)
    return tensors


def _numbers(content: bytes, header: int) -> np.ndarray:
    return np.frombuffer(content, np.uint8, offset=header)


def as_rgb(grey: np.ndarray) -> np.ndarray:
    """Grey pixels uint8 of N images of 28 x 28 -> uint8 (N, 3, 32, 32)."""
    side, width = MNIST_BORDER
    return bordered(grey.reshape(-1, 1, side, side), width).repeat(3, axis=1)


def _check(tensors: Tensors) -> None:
    """Raises ValueError where the labels are not as many of each class as was published."""
    for split, expected in (("train", FASHION_MNIST.train), ("test", FASHION_MNIST.test)):
        counts = np.bincount(tensors[f"{split}_labels"]).tolist()
        if counts != list(expected):
            raise ValueError(f"{split}_labels have {counts} images a class, expected {list(expected)}")


FASHION_MNIST_ASSET = Asset(
    "Fashion-MNIST",
    FASHION_MNIST_LAYOUT,
    _check,
    f"by hand: get {', '.join(f'{name}.gz' for name in FILES)}, and pass their folder as --data; or copy "
    f"{FASHION_MNIST.file_name} from another machine's cache into this one's.",
    CACHED_SHA256,
)
