"""As many comparisons of arms as were made: p after Holm for all pairs of arms of a sweep.

These numbers pick the best arm, so that any pair might have been compared; and the pairs with the baseline are among
them. So one family holds for all that a report claims of differences, whichever of its pairs it shows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from raycifar.analysis.statistics.answers import variances_of_differences
from raycifar.analysis.statistics.contrasts import ALPHA, LEAST_P, Arm, Estimate, Numbers, apart, seed_errors
from raycifar.analysis.statistics.formulas import holm


class Comparison(NamedTuple):
    """How far arm `a` is above arm `b`; `adjusted` is p after Holm for the family of comparisons, NaN without p."""

    a: str
    b: str
    apart: Estimate
    adjusted: float

    @property
    def is_shown(self) -> bool:
        """Whether the difference is shown not to be chance."""
        return self.adjusted < ALPHA


class Family(NamedTuple):
    """Comparisons that are told, and for how many p was adjusted."""

    comparisons: list[Comparison]
    size: int


def compare(arms: Mapping[str, Arm], baseline: str) -> Family:
    """The arm of the highest mean against each other one, then each other one against the baseline.

    p after Holm is for all pairs of arms. For the pairs with the best alone, 20 equal arms of 10 trials would show a
    difference in 17 of 100 sweeps; with a second family for the baseline, 4 arms in 6 to 7.
    """
    if not arms:
        return Family([], 0)
    best = max(arms, key=lambda name: arms[name].mean)
    pairs = [(best, other) for other in arms if other != best]
    if baseline in arms and baseline != best:
        pairs += [(other, baseline) for other in arms if other not in (best, baseline)]
    estimates = [apart(arms[a], arms[b]) for a, b in pairs]
    adjusted, size = _adjusted_for_all(arms, pairs, estimates)
    return Family([Comparison(*pair, e, p) for pair, e, p in zip(pairs, estimates, adjusted, strict=True)], size)


def adjust(estimates: Sequence[Estimate]) -> tuple[list[float], int]:
    """Every p after Holm, and for how many; those without p, of one trial each, are NaN and not in the family."""
    adjusted, size = _holm(np.array([e.p for e in estimates], np.float64))
    return adjusted.tolist(), size


def _adjusted_for_all(
    arms: Mapping[str, Arm], pairs: Sequence[tuple[str, str]], estimates: Sequence[Estimate]
) -> tuple[list[float], int]:
    """p of these pairs after Holm for all pairs of arms, and how many those with a p are."""
    place = {name: i for i, name in enumerate(arms)}
    p = p_values(list(arms.values()))
    a, b = np.array([sorted((place[a], place[b])) for a, b in pairs], int).reshape(-1, 2).T
    told = a * len(arms) - a * (a + 1) // 2 + b - a - 1  # the places of the pairs among all
    p[told] = [e.p for e in estimates]
    adjusted, size = _holm(p)
    return adjusted[told].tolist(), size


def _holm(p: Numbers) -> tuple[Numbers, int]:
    adjusted, known = np.full(len(p), math.nan), ~np.isnan(p)
    adjusted[known] = holm(p[known].tolist())
    return adjusted, int(known.sum())


def p_values(arms: Sequence[Arm]) -> Numbers:
    """Estimate.p of every two arms, as numpy.triu_indices counts them; NaN where there is none."""
    i, j = np.triu_indices(len(arms), 1)
    n, mean, variance = (np.array([getattr(arm, of) for arm in arms]) for of in ("n", "mean", "variance"))
    size, freedom = seed_errors((variance[i], variance[j]), (n[i], n[j]))
    found, known = np.full(len(i), math.nan), size > 0
    i, j = i[known], j[known]
    found[known] = _two_sided(np.abs(mean[i] - mean[j]), size[known], freedom[known], *_images(arms, i, j))
    return found


def _images(arms: Sequence[Arm], i: "np.ndarray", j: "np.ndarray") -> tuple[Numbers, float]:
    """The variance by images of each of the pairs, 0 where it is not known; and its degrees of freedom."""
    known = [arm.answers for arm in arms if arm.answers is not None]
    if not known or not len(i):
        return np.zeros(len(i)), 1.0
    every = np.full((len(arms), len(arms)), math.nan)
    at = [place for place, arm in enumerate(arms) if arm.answers is not None]
    every[np.ix_(at, at)] = variances_of_differences(known)
    return np.nan_to_num(every[i, j]), float(max(1, len(known[0].sizes) - 1))


def _two_sided(apart: Numbers, size: Numbers, freedom: Numbers, images: Numbers, image_freedom: float) -> Numbers:
    """What `contrasts.two_sided_p` gives, of all at once."""
    found = np.asarray(np.maximum(LEAST_P, 2 * stdtr(freedom, -apart / size)))
    with_images = (images > 0) & (apart > 0)
    if not with_images.any():
        return found
    from scipy.optimize.elementwise import find_root  # a moment to import, as in contrasts

    def beyond(log_p: Numbers, apart: Numbers, size: Numbers, freedom: Numbers, error: Numbers) -> Numbers:
        tail = np.exp(log_p) / 2
        return np.asarray(np.hypot(size * stdtrit(freedom, tail), error * stdtrit(image_freedom, tail)) - apart)

    of = tuple(x[with_images] for x in (apart, size, freedom, np.sqrt(images)))
    alone = np.log(found[with_images])
    reaches = beyond(alone, *of) > 0
    solved = find_root(beyond, (alone, np.zeros_like(alone)), args=of).x
    found[with_images] = np.exp(np.where(reaches, solved, alone))
    return found
