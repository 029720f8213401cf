"""A sweep's arms as `contrasts` takes them: the accuracies of their tested trials, and what each got right."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

from raycifar.analysis.answers import Answers
from raycifar.analysis.contrasts import Arm, Estimate, Family, against_baseline, against_best, estimate
from raycifar.analysis.predictions import Predictions, Swept, read_predictions


class Sweep(Swept, Protocol):
    """A sweep's results, by arm."""

    @property
    def arms(self) -> list[str]: ...
    def finished_by_arm(self) -> Iterator[tuple[str, pd.DataFrame]]: ...


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


def baseline(results: Sweep) -> str:
    """The arm that the others are compared with whatever their numbers: the first one of the sweep file."""
    return results.arms[0]


def families(results: Sweep, arms: Mapping[str, Arm]) -> list[Family]:
    """The comparisons with the best arm and, where those are other ones, with the baseline."""
    best, base = against_best(arms), against_baseline(arms, baseline(results))
    same = len(arms) < 3 or best.comparisons[0].a == baseline(results)
    return [best] if same else [best, base]


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
    adjusted for the `comparisons` of the family. `is_assumed`: one trial against several, taken to spread as they do.
    """
    arms = arms_of(results, read_predictions(results))
    rows = [row for family in families(results, arms) for row in _comparisons(family)]
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
