"""Means, spreads, intervals and tests: numbers in, numbers out.

Intervals are Student's t at 95 %: they assume that repeats with other seeds vary about normally.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

CONFIDENCE = 0.95
BINS = 15  # of equal width, for the calibration error
ROUNDING = 1e-9  # a standard deviation below it is rounding
# What a quantity can be: Student's t knows no bound.
SHARE, APART, FROM_ZERO, ANY = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Sample:
    """`n` values, their mean, standard deviation (n - 1) and the interval of the mean.

    NaN where n is too small; the interval also where all values are equal, which is chance and no certainty.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    is_cut_low: bool = False  # Student's t reaches below what such a value can be, and `low` is that bound
    is_cut_high: bool = False

    @property
    def is_cut(self) -> bool:
        return self.is_cut_low or self.is_cut_high

    @property
    def note(self) -> str:
        """Why there is no interval; empty where there is one."""
        equal = "" if self.has_interval else f"{self.n} equal: no interval"
        return {0: "n = 0: no value", 1: "n = 1: no spread"}.get(self.n, equal)

    @property
    def has_interval(self) -> bool:
        return self.low <= self.high


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of one sample minus that of another, Welch's interval and his degrees of freedom.

    These are NaN where an n is 1 or neither sample has a spread.
    """

    value: float
    low: float
    high: float
    freedom: float

    @property
    def has_interval(self) -> bool:
        return self.low <= self.high


def sample(values: Iterable[float], bounds: tuple[float, float] = ANY) -> Sample:
    """Describe `values`, which lie within the bounds, as their mean does; NaN among them count as missing."""
    x = np.asarray([float(value) for value in values if math.isfinite(value)])
    mean = float(x.mean()) if x.size else math.nan
    if x.size < 2:
        return Sample(int(x.size), mean, math.nan, math.nan, math.nan)
    sd = float(x.std(ddof=1))
    if sd < ROUNDING:
        return Sample(int(x.size), mean, 0.0, math.nan, math.nan)
    half = t_quantile(x.size - 1) * sd / math.sqrt(x.size)
    low, high = mean - half, mean + half
    cut = low < bounds[0], high > bounds[1]
    return Sample(int(x.size), mean, sd, max(bounds[0], low), min(bounds[1], high), *cut)


def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """How many standard errors a two-sided interval reaches to each side."""
    return float(stdtrit(freedom, (1 + confidence) / 2))


def difference(a: Sample, b: Sample) -> Difference:
    """The mean of `a` minus the mean of `b`, without assuming that both have the same spread (Welch 1947)."""
    value = a.mean - b.mean
    if min(a.n, b.n) < 2:
        return Difference(value, math.nan, math.nan, math.nan)
    va, vb = a.sd**2 / a.n, b.sd**2 / b.n
    if va + vb == 0:
        return Difference(value, math.nan, math.nan, math.nan)
    freedom = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    half = t_quantile(freedom) * math.sqrt(va + vb)
    return Difference(value, value - half, value + half, freedom)


def prediction_interval(values: Sample) -> tuple[float, float]:
    """Where one further value of the same kind would fall in 95 of 100 cases; NaN where n < 2 or all are equal."""
    if not values.has_interval:
        return math.nan, math.nan
    half = t_quantile(values.n - 1) * values.sd * math.sqrt(1 + 1 / values.n)
    return values.mean - half, values.mean + half


def proportion_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of `n` cases: how far so many test images pin an accuracy down."""
    if n < 1 or not math.isfinite(share):
        return math.nan, math.nan
    z = float(ndtri((1 + CONFIDENCE) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


@dataclass(frozen=True, slots=True)
class Paired:
    """Networks on the same images: how many only the first gets right, how many only the second; the p-value.

    Of several networks on a side: how many images they get right more often than the others do.
    """

    only_a: int
    only_b: int
    p: float


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Paired:
    """McNemar's exact test (1947), two-sided: were both networks equally good, each would be the right one for half
    of the images that only one gets right.

    `a` and `b` (N,): which images each network gets right, in the same order.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return Paired(only_a, only_b, _sign_test(only_a, only_b))


def _sign_test(above: int, below: int) -> float:
    from scipy.stats import binomtest  # a second to import, which a sweep without predictions need not wait

    return float(binomtest(above, above + below).pvalue) if above + below else 1.0


def mean_test(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Paired:
    """Whether networks `a` and `b`, (n, N) each, are equally accurate on images like these, two-sided.

    Of one each McNemar's exact test; else a z-test of the difference of their means by image. It takes the networks as
    they are: what other seeds would change is not in it.
    """
    if len(a) == len(b) == 1:
        return mcnemar(a[0], b[0])
    gap = a.mean(axis=0) - b.mean(axis=0)
    above, below = int((gap > ROUNDING).sum()), int((gap < -ROUNDING).sum())
    error = float(gap.std(ddof=1)) / math.sqrt(len(gap)) if len(gap) > 1 else 0.0
    if error < ROUNDING:  # apart by as much on every image
        return Paired(above, below, _sign_test(above, below))
    return Paired(above, below, float(2 * ndtr(-abs(float(gap.mean()) / error))))


LEAST_GROUPS = 10  # below, sign flips of whole groups can hardly show anything
FLIPS = 9_999  # drawn where there are more than so many ways to flip; the smallest p is then 0.0002


def group_test(a: NDArray[np.bool_], b: NDArray[np.bool_], groups: NDArray[np.integer]) -> Paired:
    """As mean_test, where images of one of the `groups` (N,) are drawn together: by sign flips of whole groups.

    Were both equally accurate, each group's sum of differences might as well have the other sign. p is NaN below
    LEAST_GROUPS.
    """
    gap = a.mean(axis=0) - b.mean(axis=0)
    above, below = int((gap > ROUNDING).sum()), int((gap < -ROUNDING).sum())
    _, place = np.unique(groups, return_inverse=True)
    sums = np.bincount(place, gap).astype(np.float64)
    return Paired(above, below, _sign_flips(sums) if len(sums) >= LEAST_GROUPS else math.nan)


def _sign_flips(sums: NDArray[np.float64]) -> float:
    from scipy.stats import permutation_test  # see _sign_test

    rng = np.random.default_rng(0)  # a report that is made again says the same
    found = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=FLIPS, rng=rng)
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment (1979) of a family of p-values, in their order: bounds the chance of any false alarm."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def holm_of_known(p_values: Sequence[float]) -> tuple[list[float], int]:
    """As holm, and of how many; those that are NaN stay so, and are not in the family."""
    known = [p for p in p_values if not math.isnan(p)]
    adjusted = iter(holm(known))
    return [math.nan if math.isnan(p) else next(adjusted) for p in p_values], len(known)


@dataclass(frozen=True, slots=True)
class Calibration:
    """By bin of confidence: how many images (BINS,), their mean confidence and their accuracy, NaN where none are."""

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error (Naeini et al. 2015): the bins' gaps, weighted by their images."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(self.counts * gaps) / self.counts.sum())


def calibration(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Calibration:
    """Sort images into bins by the probability (N,) of the predicted class; `right` (N,): is it the true one?"""
    bins = np.clip(np.ceil(np.asarray(confidence, np.float64) * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        return Calibration(counts, sums[0] / counts, sums[1] / counts)


def calibrated_error(confidence: NDArray[np.floating]) -> float:
    """The calibration error that a perfectly calibrated network would show, on average, from so many images.

    Each of the (N,) images is then right with its probability, and the gap of a bin is about normal.
    """
    sure = np.asarray(confidence, np.float64)
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    variances = np.bincount(bins, weights=sure * (1 - sure), minlength=BINS)
    return float(np.sqrt(2 / math.pi * variances).sum() / len(sure))


def confusion(labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Of each true class's images (rows), the share predicted as each (columns); NaN for a class without images."""
    counts = np.bincount(labels.astype(int) * classes + predicted, minlength=classes * classes)
    counts = counts.reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / counts.sum(axis=1, keepdims=True), np.float64)
