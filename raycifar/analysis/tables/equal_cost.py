"""The report's tables of who is ahead when: at equal epochs, at equal seconds, in the end; and the way to 85 ... 94 %.

Of finished trials alone: one that still runs would have its place only because it was started later.
"""

import math
from collections.abc import Callable

import pandas as pd

from raycifar.analysis.results import THRESHOLD, Results, leaks
from raycifar.analysis.stats import FROM_ZERO, SHARE, n_of, sample
from raycifar.analysis.tables.accuracy import NONE, NOTHING_FINISHED, Table, by_arm, interval, percent, seconds

GOALS = (THRESHOLD, 0.90, 0.93, 0.94)


def at_equal_cost(results: Results) -> Table:
    """Every arm's validation accuracy after the epochs, and the seconds, that all arms have had; and at its end."""
    shown = results.shown_arms
    arms = {arm: trials for arm, trials in by_arm(results) if arm in shown}
    columns = ["after", *(f"{arm}, %" for arm in arms)]
    finished = results.finished[results.finished["arm"].isin(arms)]
    epochs = results.epochs[results.epochs["trial"].isin(finished["trial"])]
    rows = []
    if len(epochs):
        common, spent = common_limit(epochs, "epoch"), common_limit(epochs, "own_seconds")
        after = accuracies_within(epochs, "epoch", common), accuracies_within(epochs, "own_seconds", spent)
        rows = [
            [f"{epochs_of(common)}: validation", *(_cell(after[0].reindex(of["trial"])) for of in arms.values())],
            [f"{seconds(spent)} s: validation", *(_cell(after[1].reindex(of["trial"])) for of in arms.values())],
            ["last epoch: validation", *(_cell(of["val_accuracy"]) for of in arms.values())],
            ["best epoch's weights: test", *(_cell(of["test_accuracy"]) for of in arms.values())],
        ]
    notes = [
        "The epochs, and the seconds of own time, are as many as every finished trial has had; an epoch counts once it "
        "has ended. Means over finished trials with their 95 % interval (Student's t); n = 1 has none."
    ]
    title = "At equal epochs, at equal seconds, and in the end"
    notes = notes if rows else [NOTHING_FINISHED]
    return Table("equal-cost", title, columns, rows, 1, tuple(range(len(columns))), notes, leaks(results.trials))


def milestones(results: Results) -> Table:
    """Epochs and own seconds until an arm's trials first reached each of the GOALS in validation accuracy."""
    columns = ["arm", "validation %", "reached by", "epochs", "95 % interval", "own time, s", "95 % interval"]
    best = results.finished["best_val_accuracy"].max()
    goals = [goal for goal in GOALS if best >= goal]
    first = {goal: results.epochs[results.epochs["val_accuracy"] >= goal].groupby("trial").first() for goal in goals}
    rows = [_milestone(arm, trials, goal, first[goal]) for arm, trials in by_arm(results) for goal in goals]
    notes = []
    if rows:
        notes = ["At the end of the first epoch that reached it; a mean without the trials that did not flatters."]
    if missed := [f"{100 * goal:.0f}" for goal in GOALS if goal not in goals]:
        notes.append(f"No finished trial has reached {', '.join(missed)} %.")
    notes = notes if len(results.finished) else [NOTHING_FINISHED]
    title = f"Epochs and seconds to {', '.join(f'{100 * goal:.0f}' for goal in GOALS)} %"
    return Table("milestones", title, columns, rows, 1, (), notes, leaks(results.trials))


def _milestone(arm: str, trials: pd.DataFrame, goal: float, first: pd.DataFrame) -> list[str]:
    """`first` is every trial's first epoch that reached the goal."""
    first = first.loc[first.index.intersection(trials["trial"].tolist())]
    figures = [
        *_mean(first["epoch"], "{:.1f}".format, (1.0, math.inf)),
        *_mean(first["own_seconds"], seconds, FROM_ZERO),
    ]
    return [arm, f"{100 * goal:.0f}", f"{len(first)} of {len(trials)}", *figures]


def common_limit(epochs: pd.DataFrame, along: str) -> float:
    """As many epochs, or own seconds, as each trial of the `epochs` has had; `along` is their column."""
    return float(epochs.groupby("trial")[along].max().min())


def accuracies_within(epochs: pd.DataFrame, along: str, limit: float) -> "pd.Series[float]":
    """By trial, the validation accuracy of its last epoch within the limit; trials without one are left out."""
    return epochs[epochs[along] <= limit].groupby("trial")["val_accuracy"].last()


def epochs_of(number: float) -> str:
    """ "1 epoch", "15 epochs"."""
    return f"{number:.0f} epoch{'' if number == 1 else 's'}"


def _cell(accuracies: "pd.Series[float]") -> str:
    """NaN stands for a trial without an epoch by then."""
    of = sample(accuracies, SHARE)
    n = n_of(of.n, len(accuracies))
    if not of.has_interval:
        return f"{percent(of.mean)} ({n})" if of.n else NONE
    return f"{percent(of.mean)} ({percent(of.low)} to {percent(of.high)}, {n})"


def _mean(values: "pd.Series[float]", show: Callable[[float], str], bounds: tuple[float, float]) -> list[str]:
    of = sample(values, bounds)
    return [show(of.mean), interval(of, show)] if of.n else [NONE, NONE]
