"""Which of the user's images train, validate and test: as given, else stratified, or whole groups. By no trial's seed.

What two splits share makes results look better than they are: groups, and images equal pixel by pixel, are looked for
always. Here N images have labels int64 (N,), splits and groups as words, and pixels as digests.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raycifar.config.data import OWN_TEST, Data
from raycifar.data.own.named import DataError, Named
from raycifar.data.splits import SPLIT_SEED, shares
from raycifar.program import program

FOLDS = 10  # of the training images where whole groups are held out
NEAR_BITS = 2  # of 64: images whose difference hashes differ in so many are nearly equal
BANDS = ((0, 22), (22, 21), (43, 21))  # of those 64 bits; of three, one is equal where only two bits differ
_RANK = {"test": 0, "val": 1, "train": 2}  # the order in which splits keep an image that others have, too


@dataclass(frozen=True, slots=True)
class Cut:
    """The rows of each split, in order, and the fold of each training image where there are groups."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    folds: np.ndarray  # int64 (N,), of the training images; (0,) without groups
    made: str  # in words, how what was not given came about


def is_given(named: Named) -> bool:
    """Whether the user's files say which images test."""
    return any(picture.split == "test" for picture in named.pictures)


def check_groups(named: Named) -> int:
    """The number of groups, none of which is in two given splits. Raises DataError."""
    splits = defaultdict[str, set[str]](set)
    for picture in named.pictures:
        splits[picture.group].add(picture.split)
    shared = sorted(group for group, where in splits.items() if group and len(where) > 1)
    if shared:
        where = sorted(splits[shared[0]], key=("train", "val", "test", "").index)
        raise DataError(
            f"{named.title}: group {shared[0][:60]} has images in {' and '.join(where)} ({len(shared):,} groups so): "
            f"regroup the split, or leave it out and set data.test = {OWN_TEST}"
        )
    return len(splits.keys() - {""})


def drop_copies(named: Named, pixels: Sequence[str], spec: Data) -> list[int]:
    """The rows without those that repeat others pixel by pixel where two splits might share them. Raises DataError.

    Images that only train, or only test, may repeat each other. A kept image is the test's, then the validation's, then
    the first.
    """
    alike = defaultdict[str, list[int]](list)
    for row, digest in enumerate(pixels):
        alike[digest].append(row)
    split = [picture.split or "train" for picture in named.pictures]
    are_drawn = _are_drawn(named)
    repeated = dict[int, int]()  # row: the row that it repeats
    for rows in alike.values():
        first, *others = sorted(rows, key=lambda row: (_RANK[split[row]], row))
        repeated |= {
            row: first for row in others if split[row] != split[first] or (are_drawn and split[row] == "train")
        }
    if repeated and spec.duplicates == "refuse":
        raise DataError(f'{named.title}: {_repeats(named, split, repeated)}: remove them, or data.duplicates = "drop"')
    return [row for row in range(len(pixels)) if row not in repeated]


def _repeats(named: Named, split: Sequence[str], repeated: Mapping[int, int]) -> str:
    """What repeats what most, in words, with an example."""
    pairs = Counter((split[row], split[first]) for row, first in repeated.items())
    (later, kept), number = pairs.most_common(1)[0]
    row, first = next(pair for pair in repeated.items() if (split[pair[0]], split[pair[1]]) == (later, kept))
    which = f"{number:,} {_WORDS[later]} image{'s' * (number != 1)} equal{'s' * (number == 1)}"
    what = f"a {_WORDS[kept]} image" if later != kept else "others, and the held-out ones are drawn from these"
    return f"{which} {what}, pixel by pixel ({named.pictures[row].name} and {named.pictures[first].name})"


_WORDS = {"train": "training", "val": "validation", "test": "test"}


def _are_drawn(named: Named) -> bool:
    """Whether a split is drawn from the training images."""
    return not ({"val", "test"} <= {picture.split for picture in named.pictures})


def cut(named: Named, labels: np.ndarray, spec: Data) -> Cut:
    """Raises DataError where a class, or the groups, are too few for the splits."""
    splits = np.array([picture.split or "train" for picture in named.pictures])
    groups = np.array([picture.group for picture in named.pictures])
    train, val, test = (np.flatnonzero(splits == split) for split in ("train", "val", "test"))
    made = "splits as given"
    if not len(test):
        share = spec.test or OWN_TEST
        chosen = (
            _grouped(labels, groups, train, share, named.title) if spec.groups else _stratified(labels, train, share)
        )
        train, test = np.setdiff1d(train, chosen), chosen
        made = f"{100 * share:g} % cut for the test, {'by whole groups' if spec.groups else 'stratified'}"
    _refuse_small_classes(named, labels, (train, val, test), spec)
    holds_out = bool(spec.groups) and not len(val) and spec.validation == "holdout"
    folds = _folds(labels[train], groups[train], FOLDS, named.title) if holds_out else np.empty(0, np.int64)
    return Cut(train, val, test, folds, made)


def _stratified(labels: np.ndarray, rows: np.ndarray, share: float) -> np.ndarray:
    """Of each class its share, at least one image, drawn with SPLIT_SEED."""
    draw = np.random.Generator(np.random.PCG64(SPLIT_SEED))  # whose shuffles NumPy keeps from version to version
    of_class = [rows[labels[rows] == label] for label in range(labels.max() + 1)]
    counts = shares([len(images) for images in of_class], round(share * len(rows)))
    drawn = [
        images[np.argsort(draw.random(len(images)))[:count]] for images, count in zip(of_class, counts, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def _grouped(labels: np.ndarray, groups: np.ndarray, rows: np.ndarray, share: float, title: str) -> np.ndarray:
    """Whole groups, about the share of the images, with classes as even as they get."""
    folds = _folds(labels[rows], groups[rows], max(2, round(1 / share)), title)
    return np.asarray(rows[folds == 0])


def _folds(labels: np.ndarray, groups: np.ndarray, most: int, title: str) -> np.ndarray:
    """The fold of each image, so that no two folds share a group; as many folds as asked for, or as there are groups.

    Raises DataError.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise DataError(f"data.groups needs scikit-learn: {program().install('groups')}") from None
    count = min(most, len(set(groups.tolist())), int(np.bincount(labels).max()))
    if count < 2:
        raise DataError(f"{title}: too few groups to hold some out: at least 2 are needed: leave out data.groups")
    folds = np.zeros(len(labels), np.int64)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=SPLIT_SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer images than there are folds
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
            folds[held_out] = fold
    return folds


def _refuse_small_classes(named: Named, labels: np.ndarray, rows: tuple[np.ndarray, ...], spec: Data) -> None:
    """Raises DataError for a class without test images, or with fewer than its splits need one image each of."""
    train, val, test = (np.bincount(labels[part], minlength=len(named.classes)) for part in rows)
    needed = 2 if spec.validation == "holdout" and not len(rows[1]) else 1
    for name, trains, validates, tests in zip(named.classes, train, val, test, strict=True):
        total = int(trains + validates + tests)
        if tests and trains >= needed:
            continue
        if is_given(named) and trains >= needed:
            raise DataError(f"{named.title}: {name} has no test images: add some, or remove the class")
        parts = "training, validation and test" if needed == 2 else "training and test"
        remedy = "add images, or merge it" if is_given(named) or spec.groups else "lower data.test, or merge it"
        raise DataError(f"{named.title}: {name} has {_images(total)}, too few for {parts}: {remedy}")


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def near(test: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """bool (N,): which test images have a difference hash at most NEAR_BITS from one of the others'."""
    hashes, known = np.array(test, np.uint64), np.unique(np.array(others, np.uint64))
    found = np.zeros(len(hashes), bool)
    if not len(known):
        return found
    for start, width in BANDS:
        mask, shift = np.uint64((1 << width) - 1), np.uint64(start)
        by_band = known[np.argsort((known >> shift) & mask, kind="stable")]
        bands = (by_band >> shift) & mask
        asked = (hashes >> shift) & mask
        low, high = np.searchsorted(bands, asked), np.searchsorted(bands, asked, "right")
        for row in np.flatnonzero(~found & (high > low)):
            found[row] = (np.bitwise_count(by_band[low[row] : high[row]] ^ hashes[row]) <= NEAR_BITS).any()
    return found
