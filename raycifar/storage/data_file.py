"""A safetensors file larger than memory: written a piece at a time, named by its digest, read back with suspicion."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from raycifar.storage.asset_cache import Layout, contents_flaw

Pieces = Iterable[np.ndarray]
_TYPES = {"uint8": "U8", "int64": "I64"}


def write_pieces(folder: Path, layout: Layout, pieces: Mapping[str, Pieces], metadata: Mapping[str, str]) -> Path:
    """Write `data-<16 digits of its digest>.safetensors` into the folder, and return its path. Raises OSError.

    Each tensor's `pieces`, one behind the other, are its rows. `metadata` gets "sha256", the digest over everything
    else but the metadata, as asset_cache.write_asset computes it.
    """
    described = _described(layout)
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    draft = folder / "draft.safetensors"
    with draft.open("wb") as file:
        file.write(_header(described, metadata, "0" * digest.digest_size * 2))
        for name in described:
            for piece in pieces[name]:
                rows = np.ascontiguousarray(piece).data
                digest.update(rows)
                file.write(rows)
        file.seek(0)
        file.write(_header(described, metadata, digest.hexdigest()))
        file.flush()
        os.fsync(file.fileno())
    return draft.rename(folder / f"data-{digest.hexdigest()[:16]}.safetensors")


def _described(layout: Layout) -> dict[str, dict[str, object]]:
    """The header's entries, in the order of the file: the largest elements first, so that each is aligned."""
    described, end = dict[str, dict[str, object]](), 0
    for name, (kind, shape) in sorted(layout.items(), key=lambda entry: -np.dtype(entry[1][0]).itemsize):
        start, end = end, end + int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        described[name] = {"dtype": _TYPES[kind], "shape": list(shape), "data_offsets": [start, end]}
    return described


def _header(described: Mapping[str, object], metadata: Mapping[str, str], digest: str) -> bytes:
    """It has the same length whatever the digest, and a multiple of 8 bytes, as safetensors has them."""
    text = json.dumps({"__metadata__": {**metadata, "sha256": digest}, **described}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def class_names(classes: Sequence[str]) -> np.ndarray:
    """The classes' names as a tensor of the file, JSON in UTF-8: the digest counts no metadata."""
    return np.frombuffer(json.dumps(classes, ensure_ascii=False).encode(), np.uint8)


def is_sound(path: Path) -> bool:
    """Whether the file is what it was when it was written, by its digest."""
    return contents_flaw(path) is None
