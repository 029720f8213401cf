"""What lies where CIFAR-10's folder `cifar-10-batches-py` was expected, for the line that refuses it."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from raycifar.storage.files import open_file
from raycifar.storage.kinds import HEAD_BYTES, kind_of

MOST_ENTRIES = 1_000  # of a folder that are looked at
_MARKS = (  # entries that tell what a folder holds; all of a row must be there
    (("train", "test", "meta"), "CIFAR-100's Python version (train, test, meta)"),
    (("train.bin", "test.bin"), "CIFAR-100's binary version (train.bin, test.bin)"),
    (("cifar-100-python",), "CIFAR-100's folder cifar-100-python"),
    (("data_batch_1.bin",), "CIFAR-10's binary version (data_batch_1.bin); expected its Python version"),
    (("cifar-10-batches-bin",), "CIFAR-10's binary version (cifar-10-batches-bin); expected its Python version"),
    (("data_batch_1.mat",), "CIFAR-10's Matlab version (data_batch_1.mat); expected its Python version"),
    (("cifar-10-batches-mat",), "CIFAR-10's Matlab version (cifar-10-batches-mat); expected its Python version"),
    (("cifar-10-python.tar.gz",), "the archive cifar-10-python.tar.gz: unpack it first"),
    (("train", "test"), "the folders train and test; expected the batches of CIFAR-10's Python version"),
)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def what_is_no_folder(path: Path) -> str | None:
    """What a regular file is that was named in place of a folder; None for no such file. Raises OSError."""
    if not path.is_file():
        return None
    with open_file(path) as file:
        return kind_of(file.read(HEAD_BYTES))


def what_it_holds(folder: Path) -> str:
    """What a folder holds instead of CIFAR-10's batches. Raises OSError."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in islice(entries, MOST_ENTRIES))
    known = next((what for marks, what in _MARKS if set(marks) <= set(names)), None)
    if known:
        return f"it holds {known}"
    if any(name.lower().endswith(_PICTURES) for name in names):
        return "it holds single images; expected the batches of CIFAR-10's Python version"
    shown = ", ".join(name[:60] for name in names[:4]) + (" and more" if len(names) > 4 else "")
    return f"it holds {shown or 'nothing'}"
