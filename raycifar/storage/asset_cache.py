"""The cache of data and weights: an asset is one safetensors file, fetched once from the first source that works.

The file's metadata hold a SHA-256 over names, types, shapes and contents. It is verified whenever the asset is asked
for, and a damaged file is fetched again. Assets are obtained in the main process before any trial starts; trials only
read the file.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
from filelock import FileLock, Timeout

from raycifar.errors import InputError
from raycifar.storage.cache import cache_folder
from raycifar.storage.download import Readable, digest_of, say
from raycifar.storage.files import open_file
from raycifar.storage.tensor_files import read_header
from raycifar.texts import in_one_line

Tensors = dict[str, np.ndarray]
Layout = dict[str, tuple[str, tuple[int, ...]]]  # tensor name: (numpy's type name, shape)
Source = tuple[str, Callable[[Path], Tensors]]  # name for messages; reader that may use a scratch folder
ANY = ""  # the key of a SHA-256 that is right whatever the source
_MOST_SAID = 600  # characters of what a source says: a remedy may be its end
_OTHERS = "its contents are not those that are known by their SHA-256, {}"
Get = Callable[["Asset", Path, Sequence[Source]], Path]  # `obtain` or `examine`


class AssetError(InputError):
    """An asset is not available: what was tried, why each source failed, and how to supply the file by hand.

    The message is one line where the user named the source, for then no other is tried; else it has a line a source.
    """


@dataclass(frozen=True)
class Asset:
    """What is fetched: its name in messages, what must be in it, and what the user can do where no source has it."""

    title: str
    layout: Layout
    check: Callable[[Tensors], None]  # raises ValueError with what is wrong
    remedy: str
    sha256: Mapping[str, str] = field(default_factory=dict)  # as `flaw` takes it
    absent: str = ""  # what to say first where its one source fails; "": the source's name


def cached_path(name: str) -> Path:
    """The path of the cache's file of this name. Raises AssetError."""
    try:
        return cache_folder() / name
    except RuntimeError as why:  # "~" of a user that the system does not know
        raise AssetError(f"RAYCIFAR_CACHE={os.environ.get('RAYCIFAR_CACHE')}: expected a folder ({why})") from None


def obtain(asset: Asset, path: Path, sources: Sequence[Source]) -> Path:
    """Returns `path` once a sound file lies there, if need be fetched from the first source that works.

    Raises AssetError.
    """
    if flaw(path, asset.layout, asset.sha256) is None:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, asset.title):
            _fetch(asset, path, sources)
    except OSError as why:
        raise AssetError(
            f"{asset.title}: the cache {path.parent} cannot be used ({why}). "
            "Make room or rights there, or name another folder in RAYCIFAR_CACHE."
        ) from None
    return path


def examine(asset: Asset, path: Path, sources: Sequence[Source]) -> Path:
    """As `obtain` for sources that the user named, but nothing is written. Raises AssetError."""
    if flaw(path, asset.layout, asset.sha256) is not None:
        with TemporaryDirectory() as scratch:
            _first_that_works(asset, sources, Path(scratch))
    return path


def check_cache() -> None:
    """Raises AssetError where RAYCIFAR_CACHE names what is no folder and cannot become one."""
    folder = cached_path("")
    if not os.environ.get("RAYCIFAR_CACHE"):
        return
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as why:  # a name too long, a loop of links
        raise AssetError(f"RAYCIFAR_CACHE={folder}: expected a folder ({why.strerror})") from None
    if not nearest.is_dir():
        raise AssetError(f"RAYCIFAR_CACHE={folder}: {nearest} is a file: name a folder")


def digest_on_file(path: Path) -> str:
    """The SHA-256 in a cached file's metadata; "" for a file that has none. Raises OSError or ValueError."""
    return metadata_on_file(path).get("sha256", "")


def metadata_on_file(path: Path) -> dict[str, str]:
    """A cached file's metadata. Raises OSError or ValueError."""
    with open_file(path) as file:
        return read_header(file)[1]


def locked(path: Path, title: str) -> AbstractContextManager[object]:
    """The lock of the cache's file `path`, for the time of a `with` block."""
    lock = FileLock(f"{path}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        say(f"{title}: another process is fetching it; waiting")
        return lock.acquire()


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, what the cache shall have, for a `with` block by the process that has its lock.

    It is removed in the end, also on Ctrl-C; those that killed processes left, at the beginning.
    """
    for left_by_a_killed_process in path.parent.glob(f".{path.name}-*"):
        shutil.rmtree(left_by_a_killed_process, ignore_errors=True)
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        yield Path(scratch)


def _fetch(asset: Asset, path: Path, sources: Sequence[Source]) -> None:
    """Fetch the file while holding its lock."""
    # Once more: the process that held the lock before may have fetched it.
    if (problem := flaw(path, asset.layout, asset.sha256)) is None:
        return
    if path.exists():
        say(f"warning: {path} is damaged ({problem}); fetching it again")
        path.unlink()  # what is not right shall not lie there, also where nothing better can be had
    with scratch_beside(path) as scratch:
        source, tensors = _first_that_works(asset, sources, scratch)
        write_asset(path, tensors, source, scratch)
    if problem := flaw(path, asset.layout, asset.sha256):
        path.unlink()
        raise AssetError(f"{asset.title}: {_not_kept(source, problem)}")
    say(f"{asset.title}: {path}, {path.stat().st_size / 1e6:.0f} MB")


def _first_that_works(asset: Asset, sources: Sequence[Source], scratch: Path) -> tuple[str, Tensors]:
    reasons: list[tuple[str, Exception]] = []
    for name, read in sources:
        say(f"{asset.title}: trying {name}")
        try:
            tensors = read(scratch)
            check_layout(tensors, asset.layout)
            asset.check(tensors)
            if (right := _known_of(asset.sha256, name)) and _digest(_contiguous(tensors)) != right:
                raise ValueError(_not_kept(name, _OTHERS.format(right[:16])))
            return name, tensors
        except Exception as why:  # of any kind: the next source is tried
            reasons.append((name, why))
            if len(reasons) < len(sources):
                say(f"  failed: {in_one_line(why, _MOST_SAID)}")
    raise failure(asset, reasons)


def _not_kept(source: str, why: str) -> str:
    return f"what came from {source} is not kept: {why}"


def _known_of(known: Mapping[str, str], source: str) -> str | None:
    """The SHA-256 that is known of what this source gives, if there is one."""
    return known.get(source, known.get(ANY))


def failure(asset: Asset, reasons: Sequence[tuple[str, Exception]]) -> AssetError:
    """The error for sources that failed, each with its reason."""
    tried = [f"{name}: {in_one_line(why, _MOST_SAID)}" for name, why in reasons]
    if len(tried) == 1:
        said = f"{asset.absent}: {in_one_line(reasons[0][1], _MOST_SAID)}" if asset.absent else tried[0]
        return AssetError(f"{said}; {asset.remedy}")
    return AssetError(f"{asset.title} could not be had. Tried:", *(f"  {line}" for line in tried), asset.remedy)


def write_asset(
    path: Path, tensors: Tensors, source: str, scratch: Path, more: Mapping[str, str] | None = None
) -> None:
    """Write the file with its SHA-256 and `more` metadata, first into `scratch`, a folder of the same file system.

    Raises OSError.
    """
    from safetensors.numpy import save

    draft = scratch / f"{path.name}.draft"
    contiguous = _contiguous(tensors)
    metadata = {"sha256": _digest(contiguous), "source": source, **(more or {})}
    with draft.open("wb") as file:
        file.write(save(contiguous, metadata=metadata))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _contiguous(tensors: Tensors) -> Tensors:
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _digest(contiguous: Tensors) -> str:
    """The SHA-256 of the file that they make; a copy in memory is the price."""
    from safetensors.numpy import save

    file = io.BufferedReader(io.BytesIO(save(contiguous)))  # hashlib takes all of a BytesIO, wherever it is read
    return _header_and_digest(file)[2]  # type: ignore[arg-type]


def flaw(path: Path, layout: Layout, known: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """What is wrong with a cached file: its names, types, shapes or SHA-256; None if nothing (0.1 s for 184 MB).

    Its SHA-256 is the one that it names itself, and the one that is `known` of its source, or of ANY.
    """
    return contents_flaw(path, layout, known)


def contents_flaw(
    path: Path, layout: Layout | None = None, known: Mapping[str, str] = MappingProxyType({})
) -> str | None:
    """As `flaw`; without a layout the file may have any."""
    try:
        with open_file(path) as file:
            actual, metadata, sha256 = _header_and_digest(file)
    except FileNotFoundError:
        return "absent"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as why:
        return f"unreadable header: {in_one_line(why, _MOST_SAID)}"
    if layout is not None and actual != layout:
        return "other tensors than expected"
    right = _known_of(known, str(metadata.get("source")))
    if right is not None and right != sha256:
        return _OTHERS.format(right[:16])
    return None if metadata.get("sha256") == sha256 else "its contents do not match their SHA-256"


def _header_and_digest(file: Readable) -> tuple[Layout, dict[str, str], str]:
    """A safetensors file's layout, its metadata, and the SHA-256 over everything else."""
    header, metadata = read_header(file)
    numpy_types = {"U8": "uint8", "I64": "int64", "F32": "float32"}
    layout = {name: (numpy_types[part["dtype"]], tuple(part["shape"])) for name, part in header.items()}
    return layout, metadata, digest_of(file, json.dumps(header, sort_keys=True).encode())


def check_layout(tensors: Tensors, layout: Layout) -> None:
    """Raises ValueError for the first tensor that is missing, or of another type or shape."""
    for name, expected in layout.items():
        if name not in tensors:
            raise ValueError(f"{name} is missing")
        actual = (str(tensors[name].dtype), tensors[name].shape)
        if actual != expected:
            raise ValueError(f"{name} is {actual[0]} {actual[1]}, expected {expected[0]} {expected[1]}")
