"""The tables of who is ahead when: at equal epochs, at equal seconds, in the end; and the way to 85 ... 94 %.

Of finished trials alone: one that still runs would have its place only because it was started later.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from raycifar.analysis.learning import GOALS, accuracies_within, common_limit, first_epochs_at
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.contrasts import Estimate, estimate
from raycifar.analysis.statistics.formulas import SHARE, Sample, sample
from raycifar.analysis.tables.table import (
    MEAN_AND_RANGE,
    NOTHING_FINISHED,
    RANGE,
    Cell,
    Column,
    Table,
    figure,
    mean_and_range,
    word,
)
from raycifar.analysis.tested_arms import ComparedArms
from raycifar.analysis.wording import (
    TRAINING_TIME,
    Format,
    between,
    cut_span,
    epochs_of,
    listed,
    percent,
    seconds,
    tenths,
    too_few,
    whole,
)

WITH_OTHERS = "test, with other test images, too"


class Moment(NamedTuple):
    """A point at which the arms are compared, and the accuracies there by arm: one a trial, NaN for none yet."""

    name: str
    accuracies: dict[str, "pd.Series[float]"]
    tested: dict[str, Estimate] | None = None  # where the intervals are to be with other test images, too


class Milestone(NamedTuple):
    """How many of an arm's trials reached a validation accuracy, and their epochs and seconds until then."""

    arm: str
    goal: float
    reached: int
    trials: int
    planned: int
    epochs: "pd.Series[float]"
    seconds: "pd.Series[float]"


def at_equal_cost(results: Results, tested: ComparedArms) -> Table:
    """Every arm's validation accuracy after the epochs, and the seconds, that all arms have had; and at its end."""
    arms = {arm: trials for arm, trials in results.finished_by_arm() if arm in results.shown_arms}
    moments = _moments(results, arms)
    estimates = {arm: estimate(tested.arms[arm]) for arm in arms}
    if moments and any(of.images.known for of in estimates.values()):
        moments.append(Moment(WITH_OTHERS, moments[-1].accuracies, estimates))
    notes = [
        "The epochs, and the seconds of training time, are as many as every finished trial has had. An epoch counts "
        f"once it has ended. Training time: {TRAINING_TIME}. Means over finished trials with their 95 % interval "
        f"(Student's t), over seeds, {_images(results)}; a single trial (n = 1) has none. What other validation images "
        "would change is left out.",
        *_images_left_out(estimates),
        *_unlike_plans(results, list(arms)),
        *results.time_notes,
    ]
    notes = notes if moments else [NOTHING_FINISHED]
    columns: list[Column[Moment]] = [
        Column("after", lambda m: word(m.name), is_name=True, in_terminal=True),
        *map(_at, arms),
    ]
    title = "At equal epochs, at equal seconds, and in the end"
    return Table.of("equal-cost", title, moments, columns, notes=notes, leak=leaks(results.trials))


def _at(arm: str) -> Column[Moment]:
    def cell(moment: Moment) -> Cell:
        accuracies = moment.accuracies[arm]
        values, planned = sample(accuracies, SHARE), len(accuracies)
        if moment.tested:
            return _with_others(values, moment.tested[arm])
        cell = mean_and_range(values, planned, percent)
        return replace(cell, text=too_few(values.n, planned), is_cut=False) if 0 < values.n < planned else cell

    return Column(f"{arm}, %", cell, in_terminal=True, key=f"{arm}_percent", parts=MEAN_AND_RANGE)


def _with_others(values: Sample, of: Estimate) -> Cell:
    """A column of MEAN_AND_RANGE; for machines without ends where they are those of one network."""
    if of.images.known:
        ends = cut_span(*of.images, SHARE)
        return mean_and_range(replace(ends, n=values.n, mean=values.mean), values.n, percent)
    cell = mean_and_range(values if values.n == 1 else replace(values, low=math.nan, high=math.nan), values.n, percent)
    if not of.networks.known:
        return cell
    return replace(cell, text=f"{percent(of.mean)} (this network alone {between(*of.networks, percent)}, n = 1)")


def _images(results: Results) -> str:
    """On which images the intervals over seeds are."""
    if any(trial.data.split_varies for trial in results.spec.trials):
        return "validation on images that are drawn anew for each trial (data.split_seed), test on these images"
    return "on these images"


def _images_left_out(of_arms: Mapping[str, Estimate]) -> list[str]:
    """Whose tests have no interval with other test images."""
    lacking = [arm for arm, of in of_arms.items() if not (of.images.known or of.networks.known)]
    return [f"What other test images would change is not known of {listed(lacking)}."] if lacking else []


def _unlike_plans(results: Results, arms: Sequence[str]) -> list[str]:
    """That a plan for more epochs is compared in its middle."""
    plans = {trial.arm: trial.epochs for trial in results.spec.trials if trial.arm in arms}
    longer = [arm for arm, epochs in plans.items() if epochs > min(plans.values())]
    if not longer:
        return []
    return [
        f"Planned for more epochs: {listed(longer)}. At equal epochs and seconds such an arm is in the middle of its "
        "schedule; planned for as few, it might stand elsewhere."
    ]


def _moments(results: Results, arms: dict[str, pd.DataFrame]) -> list[Moment]:
    finished = results.finished[results.finished["arm"].isin(arms)]
    epochs = results.epochs[results.epochs["trial"].isin(finished["trial"])]
    if epochs.empty:
        return []
    common, spent = common_limit(epochs, "epoch"), common_limit(epochs, "own_seconds")
    by_epochs = accuracies_within(epochs, "epoch", common)
    by_seconds = accuracies_within(epochs, "own_seconds", spent)
    readings: dict[str, Callable[[pd.DataFrame], pd.Series[float]]] = {
        f"{epochs_of(common)}: validation": lambda trials: by_epochs.reindex(trials["trial"]),
        f"{seconds(spent)} s: validation": lambda trials: by_seconds.reindex(trials["trial"]),
        "last epoch: validation": lambda trials: trials["val_accuracy"],
        "best epoch's weights: test": lambda trials: trials["test_accuracy"],
    }
    return [Moment(name, {arm: read(trials) for arm, trials in arms.items()}) for name, read in readings.items()]


def milestones(results: Results) -> Table:
    """Epochs and seconds until an arm's trials first reached each of the GOALS in validation accuracy."""
    best = results.finished["best_val_accuracy"].max()
    firsts = {goal: first_epochs_at(results.epochs, goal) for goal in GOALS if best >= goal}
    records = [
        _milestone(arm, trials, goal, first)
        for arm, trials in results.finished_by_arm()
        for goal, first in firsts.items()
    ]
    notes = []
    if records:
        notes = [
            "Counted to the end of the first epoch that reached the accuracy: noisy curves are there early. Mean, and "
            "lowest to highest, of the trials that got there: those that did not are left out, which makes the mean "
            f"look better. Training time: {TRAINING_TIME}.",
            *results.time_notes,
        ]
    if missed := [f"{100 * goal:.0f}" for goal in GOALS if goal not in firsts]:
        notes.append(f"No finished trial has reached {', '.join(missed)} %.")
    notes = notes if len(results.finished) else [NOTHING_FINISHED]
    columns: list[Column[Milestone]] = [
        Column("arm", lambda m: word(m.arm), is_name=True),
        Column("validation %", lambda m: Cell(f"{100 * m.goal:.0f}", (percent.plain(m.goal),))),
        Column("reached by", lambda m: Cell(f"{m.reached} of {m.trials}", (m.reached, m.trials)), parts=("", "of")),
        Column("epochs", lambda m: figure(m.epochs.mean(), whole if m.reached == 1 else tenths)),
        Column("lowest to highest", lambda m: _from_to(m, m.epochs, whole), key="epochs", parts=RANGE),
        Column("training time, s", lambda m: figure(m.seconds.mean(), seconds)),
        Column("lowest to highest", lambda m: _from_to(m, m.seconds, seconds), key="training_time_s", parts=RANGE),
    ]
    title = f"Epochs and seconds to {', '.join(f'{100 * goal:.0f}' for goal in GOALS)} %"
    return Table.of("milestones", title, records, columns, notes=notes, leak=leaks(results.trials))


def _milestone(arm: str, trials: pd.DataFrame, goal: float, first: pd.DataFrame) -> Milestone:
    """`first` is every trial's first epoch that reached the goal."""
    first = first.loc[first.index.intersection(trials["trial"].tolist())]
    planned = int(trials["epochs_planned"].max())
    return Milestone(arm, goal, len(first), len(trials), planned, first["epoch"], first["own_seconds"])


def _from_to(milestone: Milestone, values: "pd.Series[float]", show: Format) -> Cell:
    """From the lowest to the highest trial, and how many did not get there."""
    missing = milestone.trials - milestone.reached
    late = f"not reached within {epochs_of(milestone.planned)} ({missing} of {milestone.trials})" if missing else ""
    ends = (float(values.min()), float(values.max())) if len(values) else (math.nan, math.nan)
    range_ = between(*ends, show) if len(values) > 1 else show(ends[0]) if len(values) else ""
    text = "; ".join(part for part in (range_, late) if part)
    return Cell(text, (show.plain(ends[0]), show.plain(ends[1])))
