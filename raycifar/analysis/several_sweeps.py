"""Several sweeps: how far each arm is from the first sweep's, and in which settings they differ."""

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from raycifar.analysis.predictions import Predictions
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.contrasts import Estimate, apart
from raycifar.analysis.statistics.families import adjust
from raycifar.analysis.statistics.formulas import Sample, difference, sample
from raycifar.analysis.tested_arms import arm_of

ABSENT = "–"
LETTERS = string.ascii_uppercase
LEAST_PAIRS = 5  # of seeds: with fewer, what pairs gain is less than what their fewer degrees of freedom lose
TIMES = frozenset({"own_seconds", "images_per_second"})  # a seed decides nothing of these: never paired


@dataclass(frozen=True, slots=True)
class Contrast:
    """An arm's quantity in another sweep minus that in the first; the interval is NaN where there is no spread."""

    base: Sample
    other: Sample
    value: float
    low: float
    high: float
    pairs: int = 0  # how many seeds were compared within themselves; 0: the means were, by Welch

    @property
    def has_interval(self) -> bool:
        return self.low <= self.high

    @property
    def method(self) -> str:
        """By what the interval was made, or why there is none."""
        if self.pairs:
            return f"paired, n = {self.pairs}" + ("" if self.has_interval else " equal")
        few = min(self.base.n, self.other.n)
        return "Welch" if self.has_interval else f"n = {few}" + " equal" * (few > 1)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that is not the same in all sweeps; `values` has one entry a sweep."""

    arms: tuple[str, ...]  # empty: of the sweep as a whole
    key: str
    values: tuple[str, ...]


def contrast(base: pd.DataFrame, other: pd.DataFrame, key: str) -> Contrast:
    """Compare finished trials of one arm by Welch (1947); seed by seed where both have the same LEAST_PAIRS or more.

    That two recipes share a seed makes their networks hardly more alike than other seeds do. TIMES do not depend on it.
    """
    a, b = _by_seed(base, key), _by_seed(other, key)
    sample_a, sample_b = sample(a), sample(b)
    if key not in TIMES and are_paired(a.index, b.index):
        pairs = sample(b - a)
        return Contrast(sample_a, sample_b, pairs.mean, pairs.low, pairs.high, pairs.n)
    means = difference(sample_b, sample_a)
    return Contrast(sample_a, sample_b, means.value, means.low, means.high)


def are_paired(seeds: Iterable[int], others: Iterable[int]) -> bool:
    """Whether both have the same seeds, each once, and LEAST_PAIRS of them or more."""
    a, b = sorted(seeds), sorted(others)
    return a == b and len(set(a)) == len(a) >= LEAST_PAIRS


class AccuracyContrast(NamedTuple):
    """An arm's test accuracy in sweep `letter` minus that in A.

    `n`: trials in A, in the other one, of so many `planned`; `adjusted`: p after Holm for the `size` comparisons of all
    arms and sweeps.
    """

    arm: str
    letter: str
    n: tuple[int, int]
    planned: tuple[int, int]
    of: Estimate
    by_seed: bool
    adjusted: float
    size: int

    @property
    def method(self) -> str:
        """By what the interval over seeds was made, or why there is none."""
        if not self.of.seeds.known:
            return "n = 1" if max(self.n) == 1 else "all equal"
        by_seed = f"paired by seed, n = {self.n[0]}" if self.by_seed else "Welch"
        return "equal spread assumed" if self.of.is_assumed else by_seed


def accuracy_contrasts(sweeps: Sequence[Results], predictions: Sequence[Predictions]) -> list[AccuracyContrast]:
    """Every arm of A that has been tested there and in another sweep, against each such sweep."""
    found = [
        (arm, letter, *_accuracy(arm, (sweeps[0], predictions[0]), (other, its)))
        for arm in shared_arms(sweeps)
        for (letter, other), its in zip(lettered(sweeps)[1:], predictions[1:], strict=True)
        if min(len(finished_arm(sweeps[0], arm)), len(finished_arm(other, arm)))
    ]
    adjusted, size = adjust([of for *_, of, _ in found])
    return [AccuracyContrast(*one, p, size) for one, p in zip(found, adjusted, strict=True)]


def _accuracy(
    arm: str, a: tuple[Results, Predictions], b: tuple[Results, Predictions]
) -> tuple[tuple[int, int], tuple[int, int], Estimate, bool]:
    """Without predictions, as far as images go, where the sweeps were tested on other images."""
    trials = [finished_arm(results, arm).sort_values("seed", kind="stable") for results, _ in (a, b)]
    same = bool(a[1].trials and b[1].trials) and a[1].tests.same(b[1].tests)
    base, other = (
        arm_of(of, its if same else Predictions(), sweep.facts.grouped)
        for of, (sweep, its) in zip(trials, (a, b), strict=True)
    )
    by_seed = are_paired(trials[0]["seed"], trials[1]["seed"])
    first, second = (int((results.trials["arm"] == arm).sum()) for results, _ in (a, b))
    return (base.n, other.n), (first, second), apart(other, base, by_seed=by_seed), by_seed


def _by_seed(trials: pd.DataFrame, key: str) -> "pd.Series[float]":
    return trials.set_index("seed")[key].astype(float).dropna()


def lettered(sweeps: Sequence[Results]) -> list[tuple[str, Results]]:
    """A, B, C ...: two sweeps may have one name."""
    return list(zip(LETTERS, sweeps, strict=False))


def time_notes(sweeps: Sequence[Results]) -> list[str]:
    """What stands beside the times of several sweeps: the first paragraph of each one's notes."""
    return [f"Note on {letter}: {note}" for letter, results in lettered(sweeps) for note in results.notes[:1]]


def any_leaks(sweeps: Sequence[Results]) -> bool:
    """Whether a trial of any of the sweeps was validated on its training images."""
    return any(leaks(results.trials) for results in sweeps)


def finished_arm(results: Results, arm: str) -> pd.DataFrame:
    """The arm's tested trials; none where the sweep has no such arm."""
    return results.finished[results.finished["arm"] == arm]


def all_arms(sweeps: Sequence[Results]) -> list[str]:
    """Every sweep's arms, the first sweep's first."""
    return list(dict.fromkeys(arm for results in sweeps for arm in results.arms))


def shared_arms(sweeps: Sequence[Results]) -> list[str]:
    """The first sweep's arms that another one has too."""
    return [arm for arm in sweeps[0].arms if any(arm in other.arms for other in sweeps[1:])]


def differing_settings(sweeps: Sequence[Results]) -> list[Setting]:
    """The settings in which an arm's recipe, or its seeds, differ between sweeps that have it."""
    arms_of: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for arm in shared_arms(sweeps):
        recipes = [_recipe(results, arm) for results in sweeps]
        for key, values in _unlike(recipes):
            arms_of.setdefault((key, values), []).append(arm)
    return [Setting(tuple(arms), key, values) for (key, values), arms in arms_of.items()]


def differing_surroundings(sweeps: Sequence[Results]) -> list[Setting]:
    """What a sweep ran on and with, where it is not the same in all."""
    return [Setting((), key, values) for key, values in _unlike([_surroundings(results) for results in sweeps])]


def _unlike(tables: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The keys whose values differ among the tables that are not empty, with every table's value."""
    for key in dict.fromkeys(key for table in tables for key in table):
        values = tuple(table.get(key, ABSENT) for table in tables)
        if len({value for value, table in zip(values, tables, strict=True) if table}) > 1:
            yield key, values


def _recipe(results: Results, arm: str) -> dict[str, str]:
    """Setting -> its value as TOML writes it; empty where the sweep has no such arm."""
    trials = [trial for trial in results.spec.trials if trial.arm == arm]
    if not trials:
        return {}
    return trials[0].settings() | {"seeds": ", ".join(str(trial.seed) for trial in trials)}


def _surroundings(results: Results) -> dict[str, str]:
    record, trials = results.record, results.finished
    last = results.invocations[-1] if results.invocations else None
    return {
        "hardware": record.hardware,
        "device": ", ".join(dict.fromkeys(results.sessions["device"])) or ABSENT,
        "precision": ", ".join(trials["precision"].dropna().unique()) or ABSENT,
        "workers a trial": ", ".join(f"{n:.0f}" for n in trials["workers"].dropna().unique()) or ABSENT,
        "trials at once": str(last.trials_at_once) if last else ABSENT,
        "runner": last.runner if last else ABSENT,
        "ImageNet weights": record.weights or ABSENT,
        "commit": record.commit or ABSENT,
        **record.versions,
    }
