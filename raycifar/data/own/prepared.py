"""The user's images, decoded and cut, as the file that trials read and as what is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raycifar.config.data import Data
from raycifar.config.datasets import Facts
from raycifar.data.own.cut import Cut, near
from raycifar.data.own.decode import Look
from raycifar.data.own.named import Named
from raycifar.storage.asset_cache import Layout
from raycifar.storage.data_file import Pieces, class_names, write_pieces

ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Prepared:
    """N images in order, as the rows of a scratch file uint8 (.., 3, side, side) say how they look."""

    named: Named
    looks: Sequence[Look]  # (N,)
    labels: np.ndarray  # int64 (N,)
    rows: np.ndarray  # int64 (N,), into the scratch file
    cut: Cut
    side: int

    def facts(self, spec: Data, groups: int, skipped: int, dropped: int) -> Facts:
        """What is known of the images."""
        train, val, test = (self._by_class(rows) for rows in (self.cut.train, self.cut.val, self.cut.test))
        mean, std = self._moments()
        return Facts(
            name=spec.facts_name,
            title=spec.own_name,
            classes=self.named.classes,
            train=train,
            test=test,
            val=val if sum(val) else (),
            side=self.side,
            mean=mean,
            std=std,
            mirror=self.named.mirror,
            grouped=bool(spec.groups),
            groups=groups,
            folds=tuple(np.bincount(self.cut.folds).tolist()),
            near=int(self._near().sum()),
            skipped=skipped,
            dropped=dropped,
            made=self.cut.made,
            origin=self.named.origin,
        )

    def write(self, facts: Facts, pixels: Path, folder: Path) -> Path:
        """Write the file into the folder, under the name that its digest gives it. `pixels` is the scratch file."""
        small, layout = self._small(), dict[str, tuple[str, tuple[int, ...]]]()
        shape = (3, self.side, self.side)
        splits = {"train": self.cut.train, "val": self.cut.val, "test": self.cut.test}
        images = {f"{split}_images": rows for split, rows in splits.items() if len(rows) or split != "val"}
        layout |= {name: ("uint8", (len(rows), *shape)) for name, rows in images.items()}
        layout |= {name: (str(array.dtype), array.shape) for name, array in small.items()}
        stored = np.memmap(pixels, np.uint8, "r", shape=(pixels.stat().st_size // (3 * self.side**2), *shape))
        pieces: dict[str, Pieces] = {name: self._rows(stored, rows) for name, rows in images.items()}
        pieces |= {name: [array] for name, array in small.items()}
        return write_pieces(folder, _checked(layout), pieces, {"facts": facts.model_dump_json(), "source": facts.name})

    def _small(self) -> dict[str, np.ndarray]:
        """All tensors but the images."""
        small = {"class_names": class_names(self.named.classes), "test_near": self._near().astype(np.uint8)}
        groups = np.unique([picture.group for picture in self.named.pictures], return_inverse=True)[1].astype(np.int64)
        for split, rows in (("train", self.cut.train), ("val", self.cut.val), ("test", self.cut.test)):
            if len(rows) or split != "val":
                small[f"{split}_labels"] = self.labels[rows]
                if groups.any():
                    small[f"{split}_groups"] = groups[rows]
        return small | ({"train_folds": self.cut.folds} if len(self.cut.folds) else {})

    def _rows(self, stored: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
        for at in range(0, len(rows), ROWS_AT_ONCE):
            yield stored[self.rows[rows[at : at + ROWS_AT_ONCE]]]

    def _near(self) -> np.ndarray:
        gists = [seen.gist for seen in self.looks]
        others = np.concatenate([self.cut.train, self.cut.val])
        return near([gists[row] for row in self.cut.test], [gists[row] for row in others])

    def _by_class(self, rows: np.ndarray) -> tuple[int, ...]:
        return tuple(np.bincount(self.labels[rows], minlength=len(self.named.classes)).tolist())

    def _moments(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and standard deviation of the training images by channel, in 0..1, to the four digits that are usual."""
        sums = np.array([self.looks[row].sums for row in self.cut.train], object).sum(0)
        pixels = len(self.cut.train) * self.side**2
        mean = [int(total) / pixels / 255 for total in sums[:3]]
        square = [int(total) / pixels / 255**2 for total in sums[3:]]
        std = [max(wide - middle**2, 0.0) ** 0.5 for wide, middle in zip(square, mean, strict=True)]
        red, green, blue = (round(value, 4) for value in mean)
        deviations = tuple(max(round(value, 4), 1e-4) for value in std)  # never 0: pixels are divided by it
        return (red, green, blue), (deviations[0], deviations[1], deviations[2])


def _checked(layout: Layout) -> Layout:
    return {name: (kind, tuple(shape)) for name, (kind, shape) in layout.items()}
