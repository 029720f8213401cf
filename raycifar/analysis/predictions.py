"""The class that every finished trial gave each test image: predictions.npz, read with suspicion; and the images.

Reads NumPy's archives without pickle, and safetensors; no torch.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from raycifar.analysis.results import Results
from raycifar.analysis.stats import confusion
from raycifar.config.datasets import CIFAR10
from raycifar.storage.cache import cache_folder
from raycifar.storage.files import read_file
from raycifar.storage.folders import TrialFolder

MOST_BYTES = 100 * CIFAR10.test_images  # of one array; the logits of all test images in float64 take 80 an image
MOST_FILE_BYTES, MOST_MEMBERS = 4 * MOST_BYTES, 100  # of the archive: its directory is read before anything else
MOST_CONFUSED = 5  # pairs of classes by arm
ARRAYS = ("logits", "labels", "index")


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Which images were tested: labels uint8 (N,); index int64 (N,) into the official test images, None if unknown."""

    labels: NDArray[np.uint8]
    index: NDArray[np.int64] | None

    def same(self, other: "ImageSet") -> bool:
        return np.array_equal(self.labels, other.labels) and np.array_equal(self._known, other._known)

    def first(self, count: int) -> "ImageSet":
        """The first so many of them."""
        return ImageSet(self.labels[:count], None if self.index is None else self.index[:count])

    @property
    def _known(self) -> NDArray[np.int64]:
        return np.empty(0, np.int64) if self.index is None else self.index


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """One finished trial: the class uint8 (N,) that it gave each test image, and its probability float32 (N,)."""

    trial: str
    arm: str
    tests: ImageSet
    predicted: NDArray[np.uint8]
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
    return np.asarray(np.mean([confusion(t.tests.labels, t.predicted, len(CIFAR10.classes)) for t in trials], axis=0))


def most_confused(trials: Sequence[Tested]) -> list[Confused]:
    """An arm's most frequent confusions, those that never happen left out."""
    shares = np.nan_to_num(mean_confusion(trials))
    np.fill_diagonal(shares, 0.0)
    order = np.argsort(-shares, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(i), len(CIFAR10.classes)) for i in order]
    return [
        Confused(label, predicted, float(shares[label, predicted]))
        for label, predicted in pairs
        if shares[label, predicted] > 0
    ]


def median_trial(trials: Sequence[Tested]) -> Tested:
    """The one in the middle by test accuracy."""
    return sorted(trials, key=lambda tested: tested.right.mean())[(len(trials) - 1) // 2]


def read_predictions(results: Results) -> Predictions:
    """The predictions of every finished trial, a file at a time: of a thousand trials, all logits would not fit."""
    sets, trials, problems, missing = list[ImageSet](), list[Tested](), list[str](), 0
    for trial, arm, accuracy in results.finished[["trial", "arm", "test_accuracy"]].itertuples(index=False):
        path = TrialFolder(results.path / trial).predictions
        try:
            trials.append(read_tested(trial, arm, path, accuracy, sets))
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


def read_tested(trial: str, arm: str, path: Path, accuracy: float, sets: list[ImageSet]) -> Tested:
    """The predictions in a file, which give the summary's `accuracy`. Raises any Exception for a bad file.

    `sets` are the test sets met so far, to which a new one is added.
    """
    tested = _tested(trial, arm, path, sets)
    _agrees(tested, accuracy)
    return tested


def _tested(trial: str, arm: str, path: Path, sets: list[ImageSet]) -> Tested:
    """`sets` are the test sets met so far, to which a new one is added. Raises any Exception for a bad file."""
    arrays = _arrays(path)
    logits, labels, index = arrays["logits"], arrays["labels"], arrays.get("index")
    if logits.dtype.kind != "f" or logits.shape != (labels.size, len(CIFAR10.classes)) or not np.isfinite(logits).all():
        shape = f"{logits.dtype} of shape {logits.shape}"
        raise ValueError(f"its logits should be finite numbers of shape (N, {len(CIFAR10.classes)}), they are {shape}")
    if labels.ndim != 1 or not labels.size or not np.isin(labels, range(len(CIFAR10.classes))).all():
        raise ValueError(f"its labels should be whole numbers from 0 to {len(CIFAR10.classes) - 1}")
    if index is not None and (index.shape != labels.shape or index.dtype.kind not in "iu"):
        raise ValueError("its index should be one whole number an image")
    if index is None and len(labels) == CIFAR10.test_images:
        index = np.arange(CIFAR10.test_images)
    met = ImageSet(labels.astype(np.uint8), None if index is None else index.astype(np.int64))
    tests = next((known for known in sets if known.same(met)), met)
    if tests is met:
        sets.append(met)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    return Tested(trial, arm, tests, logits.argmax(axis=1).astype(np.uint8), odds.max(axis=1) / odds.sum(axis=1))


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Those of ARRAYS that the file has; nothing else in it is unpacked. Raises an Exception of any kind."""
    file = io.BytesIO(read_file(path, MOST_FILE_BYTES))
    with zipfile.ZipFile(file) as archive:
        _check_members(archive.infolist())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        known = {name: arrays[name] for name in ARRAYS if name in arrays.files}
    if bad := [name for name, array in known.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"its {bad[0]} are no array")
    return known


def _check_members(members: Sequence[zipfile.ZipInfo]) -> None:
    """Raises ValueError for what would take more memory than the predictions of all test images."""
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"{len(members):,} arrays, of {MOST_MEMBERS} at most")
    if big := [member.filename for member in members if member.file_size > MOST_BYTES]:
        raise ValueError(f"{big[0]} is larger than the logits of all test images")
    if other := [m for m in members if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]:
        raise ValueError(f"{other[0].filename} is compressed in a way that NumPy does not write")


def _agrees(tested: Tested, accuracy: float) -> None:
    """Raises ValueError where the predictions do not give the summary's accuracy."""
    right = float(tested.right.mean())
    if abs(right - accuracy) > 0.5 / len(tested.right):
        raise ValueError(f"{100 * right:.2f} % of them are right, where summary.json says {100 * accuracy:.2f} %")


def load_images(tests: ImageSet) -> tuple[NDArray[np.uint8] | None, str]:
    """The images uint8 (N, H, W, 3) from the cache, or None and why they are not at hand.

    They are believed only where their labels are those that the trials were tested on.
    """
    path = cache_folder() / "cifar10.safetensors"
    if tests.index is None:
        return None, "predictions.npz does not say which of the official test images a subset holds"
    try:
        with safe_open(path, framework="numpy") as file:
            labels, images = file.get_tensor("test_labels"), file.get_tensor("test_images")
    except (OSError, SafetensorError) as error:
        return None, f"CIFAR-10 is not in the cache here ({error})"
    inside = (tests.index >= 0) & (tests.index < len(labels))
    if not inside.all() or not np.array_equal(labels[tests.index], tests.labels):
        return None, f"the labels in {path} are not those that the trials were tested on"
    return images[tests.index].transpose(0, 2, 3, 1), ""
