"""How accurate an arm is, and how far two are apart, with two 95 % intervals.

The first interval is over seeds, on these test images: Student's t for one arm, Welch's (1947) for a difference. The
second one is with other test images, too: what other seeds and other images, drawn as these were, would change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from raycifar.analysis.statistics.answers import Answers, say_the_same, variance_by_images
from raycifar.analysis.statistics.formulas import CONFIDENCE, ROUNDING, proportion_interval

ALPHA = 1 - CONFIDENCE
LEAST_P = 1e-300
Numbers = NDArray[np.float64]


class Span(NamedTuple):
    """The ends of an interval as the formula gives them; NaN where it gives none."""

    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        return self.low <= self.high

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


NOWHERE = Span()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean accuracy, or the difference of two, with its intervals and, for a difference, two-sided p-values.

    `seeds`: over seeds, on these test images. `images`: with other test images, too; NaN where predictions are missing.
    `networks`: other test images for these very networks, where single trials leave no spread over seeds; `p_networks`
    is theirs, not of ways of training, and in no family of arms.
    `is_assumed`: one trial against several, whose spread it is taken to have. `is_alike`: two single networks are apart
    by as much on every image, which says nothing of others. `above`: in how many of the `pairs` of
    one trial each the first is above the second.
    """

    mean: float
    seeds: Span = NOWHERE
    images: Span = NOWHERE
    networks: Span = NOWHERE
    p_seeds: float = math.nan
    p_images: float = math.nan
    p_networks: float = math.nan
    is_assumed: bool = False
    is_alike: bool = False
    above: int = 0
    pairs: int = 0

    def reversed(self) -> "Estimate":
        """Of a difference: the second minus the first; without counts of pairs, among which some may be level."""
        seeds, images, networks = (Span(-span.high, -span.low) for span in (self.seeds, self.images, self.networks))
        return replace(self, mean=-self.mean, seeds=seeds, images=images, networks=networks, above=0)

    @property
    def p(self) -> float:
        """That of the wider interval."""
        return self.p_seeds if math.isnan(self.p_images) else self.p_images

    @property
    def widest(self) -> Span:
        """The interval that leaves out least."""
        return self.images if self.images.known else self.seeds


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """The test accuracies (n,) of an arm's trials, and what they got right, where that is known of each.

    `images`: how many were tested; 0 where that is not known. `are_single`: whether they were drawn one by one, and the
    accuracy is the share that is right, so that Wilson's interval holds.
    """

    accuracies: NDArray[np.float64]
    answers: Answers | None = None
    images: int = 0
    are_single: bool = True

    @classmethod
    def of(cls, right: ArrayLike, groups: ArrayLike | None = None) -> "Arm":
        """From right or wrong (n, N), booleans or numbers, and each image's group (N,)."""
        array = np.atleast_2d(np.asarray(right))
        accuracies = array.mean(axis=1, dtype=np.float64)
        return cls(accuracies, Answers.of(array, groups), array.shape[1], groups is None)

    @property
    def n(self) -> int:
        return len(self.accuracies)

    @property
    def mean(self) -> float:
        return float(self.accuracies.mean())

    @property
    def variance(self) -> float:
        """Of the mean, by the choice of seeds; NaN for n = 1, and 0 where all are alike."""
        if self.n < 2:
            return math.nan
        sd = float(self.accuracies.std(ddof=1))
        return sd * sd / self.n if sd >= ROUNDING else 0.0

    @property
    def disagreement_sd(self) -> float:
        """The standard deviation of a trial that the disagreement of the networks makes by itself; NaN for n = 1."""
        return math.sqrt(self.n * self.answers.disagreement) if self.answers and self.n > 1 else math.nan

    @property
    def disagreement(self) -> float:
        """On what share of the images two networks disagree whether they are right; NaN for n = 1, and of groups."""
        return 2 * self.images * self.disagreement_sd**2 if self.are_single else math.nan


class Error(NamedTuple):
    """A standard error and its degrees of freedom."""

    size: float
    freedom: float


def arm_interval(right: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """The mean accuracy of an arm, of which images (n, N) each of its trials got right."""
    return estimate(Arm.of(right, groups))


def difference(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """The mean accuracy of `a` minus that of `b`, (n, N) each, on the same images in the same order."""
    return apart(Arm.of(a, groups), Arm.of(b, groups))


def estimate(arm: Arm) -> Estimate:
    """An arm's mean accuracy with its intervals; of a single trial, Wilson's (1927) of its network."""
    if arm.n > 1:
        seeds = _checked(math.sqrt(arm.variance), arm.n - 1)
        return _with_intervals(arm.mean, seeds, _image_error(arm.answers))
    if not arm.are_single:
        return Estimate(arm.mean, networks=_alone(arm.mean, _image_error(arm.answers)))
    return Estimate(arm.mean, networks=Span(*proportion_interval(arm.mean, arm.images)))


def apart(a: Arm, b: Arm, *, by_seed: bool = False) -> Estimate:
    """How far `a` is above `b`; `by_seed`: the trials of both stand in one order of the same seeds, two or more."""
    value = a.mean - b.mean
    images = _image_error(a.answers, b.answers)
    if max(a.n, b.n) == 1:
        p = math.nan if images is None else two_sided_p(value, [images])
        is_alike = bool(a.answers and b.answers and say_the_same(a.answers, b.answers))
        found = Estimate(value, networks=_alone(value, images), p_networks=p, is_alike=is_alike)
    else:
        seeds = (
            _checked(math.sqrt(Arm(a.accuracies - b.accuracies).variance), a.n - 1) if by_seed else _seed_error(a, b)
        )
        found = _with_intervals(value, seeds, images, is_assumed=min(a.n, b.n) == 1)
    above = int((a.accuracies[:, None] > b.accuracies).sum())
    return replace(found, above=above, pairs=a.n * b.n)


def _with_intervals(value: float, seeds: Error | None, images: Error | None, *, is_assumed: bool = False) -> Estimate:
    """Both intervals add up as independent errors do; without one over seeds the other would be too narrow."""
    if seeds is None:
        return Estimate(value)
    over_seeds, p = _span(value, [seeds]), two_sided_p(value, [seeds])
    if images is None:
        return Estimate(value, over_seeds, p_seeds=p, is_assumed=is_assumed)
    both = [seeds, images]
    return Estimate(
        value,
        over_seeds,
        _span(value, both),
        p_seeds=p,
        p_images=two_sided_p(value, both),
        is_assumed=is_assumed,
    )


def _seed_error(a: Arm, b: Arm) -> Error | None:
    size, freedom = seed_errors((a.variance, b.variance), (a.n, b.n))
    return _checked(float(size), float(freedom))


def seed_errors(variances: tuple[ArrayLike, ArrayLike], n: tuple[ArrayLike, ArrayLike]) -> tuple[Numbers, Numbers]:
    """Welch's standard errors and degrees of freedom, of any shape, from the variances of both means and their n.

    Of one trial against several, those of a further trial of the several (equal spread). NaN of one against one.
    """
    (va, vb), (a, b) = (np.asarray(x, np.float64) for x in variances), (np.asarray(x) for x in n)
    several, many = np.where(a > b, va, vb), np.maximum(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (va + vb) ** 2 / (va**2 / (a - 1) + vb**2 / (b - 1))
    single = np.minimum(a, b) == 1
    size = np.sqrt(np.where(single, several * (many + 1), va + vb))
    return size, np.where(single, many - 1, freedom)


def _checked(size: float, freedom: float) -> Error | None:
    return Error(size, freedom) if size > 0 else None


def _image_error(*arms: Answers | None) -> Error | None:
    """None where it is not known what each trial got right, all images are of one group, or all say the same."""
    known = [answers for answers in arms if answers is not None]
    if len(known) < len(arms) or len(known[0].sizes) < 2 or say_the_same(*known):
        return None
    return Error(math.sqrt(variance_by_images(*known)), len(known[0].sizes) - 1)


def _alone(value: float, images: Error | None) -> Span:
    return NOWHERE if images is None else _span(value, [images])


def image_variance(a: ArrayLike, b: ArrayLike | None = None, groups: ArrayLike | None = None) -> float:
    """The variance of the mean of `a`, or of mean(a) - mean(b), that the choice of the test images leaves.

    `a`, `b` (seeds, N): right or wrong. Seeds of one recipe disagree on images; that chance is in the interval over
    seeds and is taken off here, from two seeds on. Images of one of the `groups` (N,) are drawn together: groups then
    are what images are otherwise. NaN where there is only one.
    """
    return variance_by_images(*(Answers.of(x, groups) for x in (a, b) if x is not None))


def _span(value: float, errors: Sequence[Error]) -> Span:
    half = _half(errors, ALPHA)
    return Span(value - half, value + half)


def _half(errors: Sequence[Error], p: float) -> float:
    """How far the interval of the confidence 1 - p reaches to each side."""
    return math.hypot(*(error.size * float(stdtrit(error.freedom, p / 2)) for error in errors))


def two_sided_p(value: float, errors: Sequence[Error]) -> float:
    """One minus the confidence of the interval that just touches 0; of one error alone, Student's t-test."""
    alone = max(LEAST_P, float(2 * stdtr(errors[0].freedom, -abs(value) / errors[0].size)))
    if len(errors) == 1 or value == 0:
        return alone
    from scipy.optimize import brentq  # a moment to import, which a report without predictions need not wait

    def beyond(log_p: float) -> float:
        return _half(errors, math.exp(log_p)) - abs(value)

    # The first error alone touches 0 at `alone`, so with the others the interval reaches further there.
    return math.exp(brentq(beyond, math.log(alone), 0.0)) if beyond(math.log(alone)) > 0 else alone
