"""What an arm's trials got right, image by image, and what the choice of the test images leaves open."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raycifar.analysis.statistics.formulas import ROUNDING


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What an arm's trials got right, by image, or by group of images that are drawn together.

    `shares` (groups,): how much of the mean accuracy each adds; of another figure, how far each moves it. `sizes`
    (groups,): the share of all images that it is. `disagreement`: the variance of the mean that seeds disagreeing on
    images leave; 0 for one trial.
    """

    shares: NDArray[np.float64]
    sizes: NDArray[np.float64]
    disagreement: float

    @classmethod
    def of(cls, right: ArrayLike, groups: ArrayLike | None = None) -> "Answers":
        """From right or wrong (n, N), booleans or numbers, and each image's group (N,)."""
        shares = np.atleast_2d(np.asarray(right)).astype(np.float64)
        shares /= shares.shape[1]
        return cls.of_shares(shares, groups)

    @classmethod
    def of_shares(cls, shares: NDArray[np.float64], groups: ArrayLike | None = None) -> "Answers":
        """From what each image adds to each trial's figure, or moves it by (n, N), and each image's group (N,)."""
        sizes = np.full(shares.shape[1], 1 / shares.shape[1])
        if groups is not None:
            _, place = np.unique(np.asarray(groups), return_inverse=True)
            shares, sizes = np.stack([np.bincount(place, row) for row in shares]), np.bincount(place, sizes)
        disagreement = shares.var(axis=0, ddof=1).sum() / len(shares) if len(shares) > 1 else 0.0
        return cls(shares.mean(axis=0), sizes, float(disagreement))


def variance_by_images(a: Answers, b: Answers | None = None) -> float:
    """Of the mean of `a`, or of its difference from `b`: the variance of clusters, less the disagreement of seeds.

    Seeds of one recipe disagree on images; that chance is in an interval over seeds and is taken off here. NaN where
    all images are of one group.
    """
    shares, count = (a.shares if b is None else a.shares - b.shares), len(a.sizes)
    if count < 2:
        return math.nan
    off = shares - a.sizes * shares.sum()
    disagreement = a.disagreement + (b.disagreement if b else 0.0)
    return max(0.0, float(off @ off) * count / (count - 1) - disagreement)


def say_the_same(a: Answers, b: Answers | None = None) -> bool:
    """Whether all images say the same of `a`, or of its difference from `b`, so that they tell nothing of others."""
    shares = a.shares if b is None else a.shares - b.shares
    return bool(np.abs(shares - a.sizes * shares.sum()).max() < ROUNDING / len(shares))


def variances_of_differences(every: Sequence[Answers]) -> NDArray[np.float64]:
    """The `variance_by_images` of the difference of every two, (arms, arms), by one product of matrices."""
    count = len(every[0].sizes)
    if count < 2:
        return np.full((len(every), len(every)), math.nan)
    off = np.stack([one.shares - one.sizes * one.shares.sum() for one in every])
    products, disagreement = off @ off.T, np.array([one.disagreement for one in every])
    own = np.diag(products)
    squares = own[:, None] + own - 2 * products
    return np.asarray(np.maximum(0.0, squares * count / (count - 1) - disagreement[:, None] - disagreement))
