"""Images that the user's function gives, in the place of a data set: checked, and written as the file that trials read.

The function takes nothing and gives a mapping: `classes` (names, in the labels' order), and `train`, `test` and perhaps
nothing else: each a pair of images, uint8 RGB (N, side, side, 3), and labels, whole numbers (N,). `title`, `mirror` and
`licence` may be there, too.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import ValidationError

from raycifar import user_code
from raycifar.config.datasets import Facts
from raycifar.storage.cache import cache_folder
from raycifar.storage.data_file import class_names, write_pieces
from raycifar.user_code import CodeError, told

GROUP = "raycifar.data"  # of entry points
MOST_SIDE = 1_024
KEYS = {"classes", "train", "test", "title", "mirror", "licence"}
Arrays = dict[str, np.ndarray]


def fetch_given(source: str) -> Path:
    """The cached file with the images that the user's function gives now. Raises CodeError."""
    where = f'data.source = "{source}"'
    function = user_code.function(source, "data.source", GROUP)
    try:
        given = function()
    except (Exception, SystemExit) as error:
        raise CodeError(f"{where}: {told(error)}") from error
    try:
        arrays, classes = _checked(given)
        facts = _facts(source, given, arrays, classes)
    except ValidationError as error:
        problem = error.errors()[0]
        raise CodeError(f"{where}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    except ValueError as error:
        raise CodeError(f"{where}: {error}") from None
    return prepared(arrays, facts)


def prepared(arrays: Arrays, facts: Facts) -> Path:
    """The cache's file with these tensors and facts, under the name that its digest gives it. Raises CodeError."""
    folder = cache_folder()
    arrays = arrays | {"class_names": class_names(facts.classes)}
    layout = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    metadata = {"facts": facts.model_dump_json(), "source": facts.name}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".given-", dir=folder) as scratch:
            pieces = {name: [array] for name, array in arrays.items()}
            written = write_pieces(Path(scratch), layout, pieces, metadata)
            os.replace(written, folder / written.name)
    except OSError as error:
        raise CodeError(f"{folder}: {error.strerror}: name another folder in RAYCIFAR_CACHE") from None
    return folder / written.name


def _checked(given: object) -> tuple[Arrays, tuple[str, ...]]:
    """The tensors of the file, and the classes. Raises ValueError."""
    if not isinstance(given, Mapping) or not {"classes", "train", "test"} <= given.keys():
        raise ValueError(f"gave {type(given).__name__}, expected a mapping with classes, train and test")
    if unknown := sorted(str(key) for key in given.keys() - KEYS):
        raise ValueError(f"gave {unknown[0]!r}, which means nothing here; known: {', '.join(sorted(KEYS))}")
    classes = tuple(given["classes"])
    arrays: Arrays = {}
    for split in ("train", "test"):
        images, labels = _split(split, given[split], len(classes))
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    if arrays["train_images"].shape[1:] != arrays["test_images"].shape[1:]:
        raise ValueError("the images of train and test differ in size")
    _refuse_copies(arrays)
    return arrays, classes


def _split(split: str, pair: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 3, side, side), labels int64 (N,). Raises ValueError."""
    try:
        images, labels = (np.asarray(part) for part in pair)
    except (TypeError, ValueError):
        raise ValueError(f"{split}: expected a pair of images and labels") from None
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        raise ValueError(f"{split}: images are {images.dtype} {shape}, expected uint8 (N, side, side, 3)")
    if shape[1] % 8 or not 8 <= shape[1] <= MOST_SIDE:
        raise ValueError(
            f"{split}: images have {shape[1]} pixels a side: expected a multiple of 8, {MOST_SIDE} at most"
        )
    if labels.shape != shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"{split}: labels are {labels.dtype} {labels.shape}, expected whole numbers ({shape[0]},)")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"{split}: labels from {labels.min()} to {labels.max()}, and {classes} classes")
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64)


def _refuse_copies(arrays: Arrays) -> None:
    """Images that train and test alike would flatter the test."""
    trains = {image.tobytes() for image in arrays["train_images"]}
    if copies := sum(image.tobytes() in trains for image in arrays["test_images"]):
        raise ValueError(f"{copies:,} test images equal a training image, pixel by pixel: leave them out")


def _facts(source: str, given: Mapping[str, Any], arrays: Arrays, classes: tuple[str, ...]) -> Facts:
    train, test = (np.bincount(arrays[f"{split}_labels"], minlength=len(classes)) for split in ("train", "test"))
    for name, of_class in zip(classes, train, strict=True):
        if not of_class:
            raise ValueError(f"class {name!r:.80} has no training images: add some, or leave it out")
    pixels = arrays["train_images"].transpose(1, 0, 2, 3).reshape(3, -1)
    mean, square = (
        np.array([(row.astype(np.float64) ** power).mean() for row in pixels]) / 255**power for power in (1, 2)
    )
    std = np.sqrt(np.maximum(square - mean**2, 0)).clip(1e-4)
    return Facts(
        name=source,
        title=given.get("title", source.rpartition(":")[2]),
        classes=classes,
        train=tuple(train.tolist()),
        test=tuple(test.tolist()),
        side=arrays["train_images"].shape[2],
        mean=tuple(mean.round(4).tolist()),
        std=tuple(std.round(4).clip(1e-4).tolist()),
        mirror=given.get("mirror", True),
        licence=given.get("licence", ""),
        origin=f"the user's function {source}",
    )
