"""The class that every finished trial gave each test image: predictions.npz, read with suspicion; and the images.

Reads NumPy's archives without pickle, and safetensors; no torch.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from raycifar.analysis.statistics.formulas import confusion
from raycifar.config.datasets import Facts
from raycifar.storage.cache import cache_folder
from raycifar.storage.files import read_file
from raycifar.storage.folders import TrialFolder

MOST_ARRAYS, MOST_MEMBERS = 4, 100  # whose bytes an archive may have, and that it may list
MOST_CONFUSED = 5  # pairs of classes by arm
MOST_CLASSES = 20  # that are shown one by one
ENDS = 10  # of more classes, so many of the best and of the worst are
ARRAYS = ("logits", "labels", "index", "groups", "near")


Labels = NDArray[np.unsignedinteger[Any]]  # the smallest kind that has room for all classes: of ten, uint8


class Swept(Protocol):
    """Of a sweep's results, what its predictions are read by: its folder, and the rows of its tested trials."""

    @property
    def path(self) -> Path: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def finished(self) -> pd.DataFrame: ...


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Which images of a data set were tested: labels (N,); index int64 (N,) into its test images, None if unknown.

    `groups` int64 (N,): the group of each, None where images were drawn one by one. `near` bool (N,): whether it nearly
    equals an image that trains or validates, None where that is not known.
    """

    labels: Labels
    index: NDArray[np.int64] | None
    facts: Facts
    groups: NDArray[np.int64] | None = None
    near: NDArray[np.bool_] | None = None

    def same(self, other: "ImageSet") -> bool:
        pairs = [(getattr(self, name), getattr(other, name)) for name in ("labels", "index", "groups", "near")]
        return all(np.array_equal(*pair) if pair[0] is not None else pair[1] is None for pair in pairs)

    def first(self, count: int) -> "ImageSet":
        """The first so many of them."""
        return ImageSet(self.labels[:count], None if self.index is None else self.index[:count], self.facts)

    @property
    def by_class(self) -> NDArray[np.int64]:
        """How many there are of each class."""
        return np.bincount(self.labels, minlength=len(self.facts.classes))


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """One finished trial: the class (N,) that it gave each test image, and its probability float32 (N,)."""

    trial: str
    arm: str
    tests: ImageSet
    predicted: Labels
    confidence: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted == self.tests.labels)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of all finished trials that left some. `missing` counts those that did not; `problems`: a line for each bad file.

    All of its trials were tested on the same images. Where sets of images differ, the most common one counts.
    """

    trials: list[Tested] = field(default_factory=list)
    missing: int = 0
    elsewhere: int = 0  # trials tested on other images
    problems: list[str] = field(default_factory=list)

    def by_arm(self, arms: Sequence[str]) -> dict[str, list[Tested]]:
        """The trials of each of the `arms` that has some."""
        groups = {arm: [tested for tested in self.trials if tested.arm == arm] for arm in arms}
        return {arm: group for arm, group in groups.items() if group}

    @property
    def tests(self) -> ImageSet:
        return self.trials[0].tests


@dataclass(frozen=True, slots=True)
class Confused:
    """Images of class `label` that trials took for class `predicted`, and the mean share of the class that they are."""

    label: int
    predicted: int
    share: float


def mean_confusion(trials: Sequence[Tested]) -> NDArray[np.float64]:
    """The confusion matrix of an arm, (classes, classes): the mean over its trials of each one's shares."""
    classes = len(trials[0].tests.facts.classes)
    return np.asarray(np.mean([confusion(t.tests.labels, t.predicted, classes) for t in trials], axis=0))


def easiest_first(groups: Mapping[str, Sequence[Tested]]) -> list[int]:
    """The classes that were tested, by the mean over arms of the share that their trials get right, the best first."""
    means = np.mean([np.diag(mean_confusion(trials)) for trials in groups.values()], axis=0)
    return [int(label) for label in np.argsort(-means, kind="stable") if not np.isnan(means[label])]


def ends(order: Sequence[int]) -> list[int]:
    """The last ENDS of many classes and then the first; all of them, in the labels' order, where they are few."""
    return [*order[: -ENDS - 1 : -1], *order[:ENDS][::-1]] if len(order) > MOST_CLASSES else sorted(order)


def most_confused(trials: Sequence[Tested], most: int = MOST_CONFUSED) -> list[Confused]:
    """An arm's most frequent confusions, those that never happen left out."""
    shares = np.nan_to_num(mean_confusion(trials))
    np.fill_diagonal(shares, 0.0)
    order = np.argsort(-shares, axis=None, kind="stable")[:most]
    pairs = [divmod(int(i), len(shares)) for i in order]
    return [
        Confused(label, predicted, float(shares[label, predicted]))
        for label, predicted in pairs
        if shares[label, predicted] > 0
    ]


def read_predictions(results: Swept) -> Predictions:
    """The predictions of every finished trial, a file at a time: of a thousand trials, all logits would not fit."""
    sets, trials, problems, missing = list[ImageSet](), list[Tested](), list[str](), 0
    for trial, arm, accuracy in results.finished[["trial", "arm", "test_accuracy"]].itertuples(index=False):
        path = TrialFolder(results.path / trial).predictions
        try:
            trials.append(read_tested(trial, arm, path, accuracy, sets, results.facts))
        except FileNotFoundError:
            missing += 1
        except Exception as error:  # whatever NumPy, zipfile or a decompressor raises: it costs this trial alone
            problems.append(f"{path}: {str(error) or type(error).__name__}")
    if not trials:
        return Predictions([], missing, 0, problems)
    counts = [sum(tested.tests is tests for tested in trials) for tests in sets]
    common = sets[counts.index(max(counts))]
    compared = [tested for tested in trials if tested.tests is common]
    return Predictions(compared, missing, len(trials) - len(compared), problems)


def read_tested(trial: str, arm: str, path: Path, accuracy: float, sets: list[ImageSet], facts: Facts) -> Tested:
    """The predictions in a file, which give the summary's `accuracy`. Raises any Exception for a bad file.

    `sets` are the test sets met so far, to which a new one is added.
    """
    tested = _tested(trial, arm, path, sets, facts)
    _agrees(tested, accuracy)
    return tested


def _tested(trial: str, arm: str, path: Path, sets: list[ImageSet], facts: Facts) -> Tested:
    """`sets` are the test sets met so far, to which a new one is added. Raises any Exception for a bad file."""
    classes = len(facts.classes)
    kind = np.min_scalar_type(classes - 1)
    arrays = _arrays(path, most_bytes(facts))
    logits, labels, index = arrays["logits"], arrays["labels"], arrays.get("index")
    if logits.dtype.kind != "f" or logits.shape != (labels.size, classes) or not np.isfinite(logits).all():
        shape = f"{logits.dtype} of shape {logits.shape}"
        raise ValueError(f"its logits should be finite numbers of shape (N, {classes}), they are {shape}")
    if labels.ndim != 1 or not labels.size or not np.isin(labels, range(classes)).all():
        raise ValueError(f"its labels should be whole numbers from 0 to {classes - 1}")
    for name in set(arrays) - {"logits", "labels"}:
        if arrays[name].shape != labels.shape or arrays[name].dtype.kind not in "iu":
            raise ValueError(f"its {name} should be one whole number an image")
    if facts.grouped and "groups" not in arrays:
        raise ValueError(f"it lacks the groups of the images, and {facts.title} has some")
    if index is None and len(labels) == facts.test_images:
        index = np.arange(facts.test_images)
    groups = arrays["groups"].astype(np.int64) if facts.grouped else None
    near = arrays["near"].astype(np.bool_) if "near" in arrays else None
    met = ImageSet(labels.astype(kind), None if index is None else index.astype(np.int64), facts, groups, near)
    tests = next((known for known in sets if known.same(met)), met)
    if tests is met:
        sets.append(met)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    return Tested(trial, arm, tests, logits.argmax(axis=1).astype(kind), odds.max(axis=1) / odds.sum(axis=1))


def most_bytes(facts: Facts) -> int:
    """Of one array: the logits of all test images in float64, and some more."""
    return (8 * len(facts.classes) + 20) * facts.test_images


def _arrays(path: Path, most: int) -> dict[str, NDArray[np.generic]]:
    """Those of ARRAYS that the file has; nothing else in it is unpacked. Raises an Exception of any kind."""
    file = io.BytesIO(read_file(path, MOST_ARRAYS * most))
    with zipfile.ZipFile(file) as archive:
        _check_members(archive.infolist(), most)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        known = {name: arrays[name] for name in ARRAYS if name in arrays.files}
    if bad := [name for name, array in known.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"its {bad[0]} are no array")
    return known


def _check_members(members: Sequence[zipfile.ZipInfo], most: int) -> None:
    """Raises ValueError for what would take more memory than the predictions of all test images."""
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"{len(members):,} arrays, of {MOST_MEMBERS} at most")
    if big := [member.filename for member in members if member.file_size > most]:
        raise ValueError(f"{big[0]} is larger than the logits of all test images")
    if other := [m for m in members if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]:
        raise ValueError(f"{other[0].filename} is compressed in a way that NumPy does not write")


def _agrees(tested: Tested, accuracy: float) -> None:
    """Raises ValueError where the predictions do not give the summary's accuracy."""
    right = float(tested.right.mean())
    if abs(right - accuracy) > 0.5 / len(tested.right):
        raise ValueError(f"{100 * right:.2f} % of them are right, where summary.json says {100 * accuracy:.2f} %")


class Images(Protocol):
    """Images, uint8 (H, W, 3) each."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True)
class StoredImages:
    """Test images of the cached file, each read when it is asked for: all of them might not fit into memory."""

    stored: Any  # safetensors' slice of uint8 (.., 3, H, W)
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int, /) -> NDArray[np.uint8]:
        row = int(self.rows[place])
        return np.asarray(self.stored[row : row + 1][0].transpose(1, 2, 0), np.uint8)


def open_images(tests: ImageSet) -> tuple[StoredImages | None, str]:
    """The tested images in the cache, or None and why they are not at hand.

    They are believed only where their labels are those that the trials were tested on.
    """
    facts = tests.facts
    path = cache_folder() / facts.file_name
    if tests.index is None:
        return None, "predictions.npz does not say which of the official test images a subset holds"
    try:
        file = safe_open(path, framework="numpy")
        labels, stored = file.get_tensor("test_labels"), file.get_slice("test_images")
    except (OSError, SafetensorError) as error:
        return None, f"{facts.title} is not in the cache here ({error})"
    inside = (tests.index >= 0) & (tests.index < len(labels))
    if not inside.all() or not np.array_equal(labels[tests.index], tests.labels):
        return None, f"the labels in {path} are not those that the trials were tested on"
    if stored.get_dtype() != "U8" or stored.get_shape() != [len(labels), *facts.shape]:
        return None, f"the images in {path} are not {facts.side} x {facts.side} pixels in RGB"
    return StoredImages(stored, tests.index), ""


def load_images(tests: ImageSet) -> tuple[NDArray[np.uint8] | None, str]:
    """As open_images, all at once: uint8 (N, H, W, 3)."""
    images, why = open_images(tests)
    return (None, why) if images is None else (np.stack([images[i] for i in range(len(images))]), "")
