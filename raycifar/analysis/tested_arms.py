"""A sweep's arms as `contrasts` takes them: the accuracies of their tested trials, and what each got right."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from raycifar.analysis.predictions import Predictions, Swept, Tested, read_predictions
from raycifar.analysis.statistics.answers import Answers
from raycifar.analysis.statistics.contrasts import Arm, Estimate, arm_interval, estimate
from raycifar.analysis.statistics.families import Comparison, Family, compare


class Sweep(Swept, Protocol):
    """A sweep's results, by arm."""

    @property
    def arms(self) -> list[str]: ...
    @property
    def trials(self) -> pd.DataFrame: ...
    def finished_by_arm(self) -> Iterator[tuple[str, pd.DataFrame]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class ComparedArms:
    """The tested arms of a sweep, in its file's order, with their comparisons: worked out once for a whole report.

    `baseline`: the arm that the others are compared with whatever their numbers, the first one of the sweep file.
    `planned`: how many trials each has, where some may not be tested.
    """

    arms: dict[str, Arm]
    baseline: str
    family: Family
    planned: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, arms: dict[str, Arm], baseline: str, planned: Mapping[str, int] | None = None) -> "ComparedArms":
        return cls(arms, baseline, compare(arms, baseline), planned or {})

    @property
    def best(self) -> str:
        """The arm of the highest mean test accuracy."""
        return max(self.arms, key=lambda arm: self.arms[arm].mean)

    @property
    def with_best(self) -> list[Comparison]:
        """The best arm against each other one."""
        return [one for one in self.family.comparisons if one.a == self.best]


def compared_arms(results: Sweep, predictions: Predictions | None = None) -> ComparedArms:
    """Those of a sweep's results; without predictions, what other test images would change is not known."""
    planned = {str(arm): count for arm, count in results.trials["arm"].value_counts().items()}
    return ComparedArms.of(arms_of(results, predictions or Predictions()), results.arms[0], planned)


def arms_of(results: Sweep, predictions: Predictions) -> dict[str, Arm]:
    """Every arm of which a trial has been tested, in the sweep file's order.

    Answers are given where each of the arm's tested trials left predictions, all on the images that most trials were
    tested on: of some trials alone, they would belong to another mean.
    """
    grouped = results.facts.grouped
    return {arm: arm_of(trials, predictions, grouped) for arm, trials in results.finished_by_arm()}


def arm_of(trials: pd.DataFrame, predictions: Predictions, are_grouped: bool = False) -> Arm:
    """An arm of these tested trials, in their order; `are_grouped`: their images belong to groups, drawn whole."""
    by_trial = {tested.trial: tested for tested in predictions.trials}
    known = [by_trial[name] for name in trials["trial"] if name in by_trial]
    accuracies, images = trials["test_accuracy"].to_numpy(np.float64), int(trials["test_images"].min())
    if len(known) < len(trials):
        return Arm(accuracies, None, images, not are_grouped)
    answers = Answers.of(np.stack([tested.right for tested in known]), known[0].tests.groups)
    return Arm(accuracies, answers, images, not are_grouped)


def gap_estimate(trials: pd.DataFrame, arm: Arm, gap: str = "train_test_gap") -> Estimate:
    """By how much the arm's training accuracy is above its test accuracy; `gap` is the column of these `trials`.

    The training images stay, so the choice of the test images leaves as much open as it does of the test accuracy.
    """
    return estimate(Arm(-trials[gap].to_numpy(np.float64), arm.answers, arm.images, are_single=False)).reversed()


def within_classes(trials: Sequence[Tested], labels: Iterable[int]) -> dict[int, Estimate]:
    """The accuracy of an arm's networks on the test images of each of these classes, which all have some."""
    tests, right = trials[0].tests, np.stack([tested.right for tested in trials])
    places = {label: tests.labels == label for label in labels}
    groups = tests.groups
    return {k: arm_interval(right[:, of], None if groups is None else groups[of]) for k, of in places.items()}


def too_sure(trials: Sequence[Tested]) -> Estimate:
    """By how much an arm's networks are surer of the classes that they choose than they are right."""
    above = np.stack([tested.confidence.astype(np.float64) - tested.right for tested in trials])
    answers = Answers.of(above, trials[0].tests.groups)
    return estimate(Arm(above.mean(axis=1), answers, above.shape[1], are_single=False))


def accuracy_frame(results: Sweep) -> pd.DataFrame:
    """A row for each tested arm: n, its mean test accuracy, and its 95 % intervals, as fractions.

    `seeds_`: over seeds, on these test images; `images_`: with other test images, too; `network_`: of a single trial's
    network with other test images, which leaves out its seed. NaN where one cannot be given.
    """
    arms = arms_of(results, read_predictions(results))
    rows = [{"arm": name, "n": arm.n, "mean": arm.mean, **_ends(estimate(arm))} for name, arm in arms.items()]
    return pd.DataFrame(rows, columns=["arm", "n", "mean", *_END_COLUMNS])


def difference_frame(results: Sweep) -> pd.DataFrame:
    """A row for each comparison of an arm with the best one (`a`), and with the sweep file's first one (`b`).

    `difference` is a minus b, with intervals as in `accuracy_frame`; `p` is that of the widest one, `p_holm` the same
    adjusted for the `comparisons` of all pairs of arms. `is_assumed`: one trial against several, taken to spread as
    they do.
    """
    rows = list(_comparisons(compared_arms(results, read_predictions(results)).family))
    columns = ["a", "b", "difference", *_END_COLUMNS, "p", "p_holm", "comparisons", "is_assumed"]
    return pd.DataFrame(rows, columns=columns)


def _comparisons(family: Family) -> Iterable[dict[str, Any]]:
    for one in family.comparisons:
        found = one.apart
        tests = {"p": found.p, "p_holm": one.adjusted, "comparisons": family.size, "is_assumed": found.is_assumed}
        yield {"a": one.a, "b": one.b, "difference": found.mean, **_ends(found), **tests}


_END_COLUMNS = [f"{name}_{end}" for name in ("seeds", "images", "network") for end in ("low", "high")]


def _ends(of: Estimate) -> dict[str, float]:
    return dict(zip(_END_COLUMNS, (*of.seeds, *of.images, *of.networks), strict=True))
