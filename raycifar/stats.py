"""Means, spreads and intervals: numbers in, numbers and a sentence out.

Intervals are Student's t at 95 %: they assume that repeats with other seeds vary about normally.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Sample:
    """`n` values, their mean, standard deviation (n - 1) and the interval of the mean; NaN where n is too small."""

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @property
    def note(self) -> str:
        """What the number of values allows to say; empty where it allows an interval."""
        return {0: "n = 0: no value", 1: "n = 1: no spread"}.get(self.n, "")


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of one sample less that of another, Welch's interval and his degrees of freedom; NaN where an n is 1."""

    value: float
    low: float
    high: float
    freedom: float


def sample(values: Iterable[float]) -> Sample:
    """Describe `values`; NaN among them count as missing."""
    x = np.asarray([float(value) for value in values if math.isfinite(value)])
    mean = float(x.mean()) if x.size else math.nan
    if x.size < 2:
        return Sample(int(x.size), mean, math.nan, math.nan, math.nan)
    sd = float(x.std(ddof=1))
    half = t_quantile(x.size - 1) * sd / math.sqrt(x.size)
    return Sample(int(x.size), mean, sd, mean - half, mean + half)


def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """How many standard errors a two-sided interval reaches to each side."""
    return float(stdtrit(freedom, (1 + confidence) / 2))


def difference(a: Sample, b: Sample) -> Difference:
    """The mean of `a` less the mean of `b`, without assuming that both spread alike (Welch 1947)."""
    value = a.mean - b.mean
    if min(a.n, b.n) < 2:
        return Difference(value, math.nan, math.nan, math.nan)
    va, vb = a.sd**2 / a.n, b.sd**2 / b.n
    if va + vb == 0:
        return Difference(value, value, value, math.inf)
    freedom = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    half = t_quantile(freedom) * math.sqrt(va + vb)
    return Difference(value, value - half, value + half, freedom)


def prediction_interval(of: Sample) -> tuple[float, float]:
    """Where one further value of the same kind would fall in 95 of 100 cases; NaN where n < 2."""
    if of.n < 2:
        return math.nan, math.nan
    half = t_quantile(of.n - 1) * of.sd * math.sqrt(1 + 1 / of.n)
    return of.mean - half, of.mean + half


def proportion_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of `n` cases: what the choice of test images alone leaves open."""
    if n < 1 or not math.isfinite(share):
        return math.nan, math.nan
    z = float(ndtri((1 + CONFIDENCE) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def compare(names: tuple[str, str], a: Sample, b: Sample) -> str:
    """In words and percentage points, how far two arms are apart and what their numbers of trials allow to say of it.

    `a` and `b` are accuracies as fractions. Empty where one has no value.
    """
    if not a.n or not b.n:
        return ""
    if a.mean < b.mean:
        names, a, b = (names[1], names[0]), b, a
    apart = difference(a, b)
    ahead = f"That puts {names[0]} {points(apart.value)} ahead of {names[1]}"
    if min(a.n, b.n) >= 2:
        excludes = apart.low > 0
        verdict = "which excludes 0" if excludes else "which includes 0: the difference may be chance"
        return f"{ahead} (95 % interval {100 * apart.low:+.2f} to {100 * apart.high:+.2f}, Welch; {verdict})."
    if max(a.n, b.n) < 2:
        return f"{ahead}, but with one trial each there is no spread, so nothing says whether that is chance."
    return f"{ahead}. {_one_against_many(names, (a, b))}"


def _one_against_many(names: Sequence[str], samples: Sequence[Sample]) -> str:
    one, many = (0, 1) if samples[0].n == 1 else (1, 0)
    low, high = prediction_interval(samples[many])
    value = samples[one].mean
    where = "inside" if low <= value <= high else "outside"
    low, high = max(low, 0.0), min(high, 1.0)  # no accuracy lies beyond
    return (
        f"With one {names[one]} trial the difference has no interval; its {100 * value:.2f} % lies {where} the range "
        f"{100 * low:.2f}–{100 * high:.2f} % where one further {names[many]} trial would fall in 95 of 100 cases."
    )


def points(value: float) -> str:
    """A difference of fractions in percentage points."""
    amount = f"{abs(100 * value):.2f}"
    return f"{amount} percentage point{'' if amount == '1.00' else 's'}"
