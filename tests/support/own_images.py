"""Folders of small images, made of the sample's real ones."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from raycifar.config.data import Data
from tests.support.paths import SAMPLE


def pictures() -> Iterable[Image.Image]:
    """Real images, all different."""
    for pixels in load_file(SAMPLE)["train_images"]:
        yield Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def write_folder(root: Path, counts: Mapping[str, int], suffix: str = ".png") -> Path:
    """A folder with so many images in each folder below it, as in {"train/ash": 3}."""
    source = iter(pictures())
    number = 0
    for below, count in counts.items():
        (root / below).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            next(source).save(root / below / f"{number}{suffix}")
            number += 1
    return root


def write_table(root: Path, lines: Iterable[str], heading: str = "file,label") -> Path:
    (root / "labels.csv").write_text("\n".join([heading, *lines]) + "\n")
    return root


def own(path: Path, **settings: object) -> Data:
    return Data.model_validate({"path": str(path), "side": 32, **settings})


Make = Callable[[Path], object]
