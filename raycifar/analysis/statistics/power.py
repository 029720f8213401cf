"""What so many trials can find, and how much the best of many arms looks better than it is: by arithmetic.

Differences are in standard deviations of one trial, which are taken to be the same in all arms.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, stdtrit

from raycifar.analysis.statistics.formulas import CONFIDENCE

FOUND = 0.8  # of the cases
MOST_TRIALS = 1000  # that are worth naming
_STEPS = 60  # quantiles of a sample's variance that stand for all


@lru_cache(maxsize=256)
def detectable(n_a: int, n_b: int) -> float:
    """The least difference that arms of so many trials show (95 % interval without 0) in FOUND of the cases.

    By Welch's test; of one trial against several, by that of a further one of the several. NaN for one against one.
    """
    if max(n_a, n_b) < 2 or min(n_a, n_b) < 1:
        return math.nan
    reach, true = _reach(n_a, n_b), math.sqrt(1 / n_a + 1 / n_b)
    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        found = float(np.mean(ndtr((middle - reach) / true) + ndtr((-middle - reach) / true)))
        low, high = (middle, high) if found < FOUND else (low, middle)
    return high


@lru_cache(maxsize=256)
def missed(several: int, times: float = 2.0) -> float:
    """In what share of cases the 95 % interval of one trial against `several` misses, if it spreads so many times more.

    The interval takes both to spread alike. NaN below two.
    """
    if several < 2:
        return math.nan
    true = math.sqrt(times**2 + 1 / several)
    return float(2 * np.mean(ndtr(-_reach(1, several) / true)))


def _reach(n_a: int, n_b: int) -> NDArray[np.float64]:
    """How far intervals reach to each side, over the variances that such samples have."""
    if min(n_a, n_b) == 1:
        many = max(n_a, n_b)
        return np.asarray(
            -stdtrit(many - 1, (1 - CONFIDENCE) / 2) * np.sqrt(_variances(many, _STEPS**2) * (1 + 1 / many))
        )
    a, b = np.meshgrid(_variances(n_a) / n_a, _variances(n_b) / n_b)
    freedom = (a + b) ** 2 / (a**2 / (n_a - 1) + b**2 / (n_b - 1))
    return np.asarray(-stdtrit(freedom, (1 - CONFIDENCE) / 2) * np.sqrt(a + b))


def _variances(n: int, steps: int = _STEPS) -> NDArray[np.float64]:
    """Equally likely values of the variance of a sample of n, where the true one is 1."""
    return np.asarray(chdtri(n - 1, (np.arange(steps) + 0.5) / steps) / (n - 1))


@lru_cache(maxsize=256)
def trials_needed(difference: float) -> int | None:
    """How many trials each of two arms needs to show it; None where they are more than MOST_TRIALS."""
    low, high = 1, MOST_TRIALS
    if not difference > 0 or detectable(high, high) > difference:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(middle, middle) <= difference else (middle, high)
    return high


def spread_range(sd: float, freedom: int) -> tuple[float, float]:
    """The 95 % interval of a standard deviation, by chi-square."""
    tail = (1 - CONFIDENCE) / 2
    return sd * math.sqrt(freedom / chdtri(freedom, tail)), sd * math.sqrt(freedom / chdtri(freedom, 1 - tail))


@lru_cache(maxsize=256)
def expected_maximum(k: int) -> float:
    """The mean of the largest of k standard normal numbers."""
    x = np.linspace(-10, 10, 4001)
    density = k * np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * ndtr(x) ** (k - 1)
    return float((x * density).sum() * (x[1] - x[0]))
