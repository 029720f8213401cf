"""The report's tables of who is ahead when: at equal epochs, at equal seconds, in the end; and the way to 85 ... 94 %.

Of finished trials alone: one that still runs would have its place only because it was started later.
"""

import math
from collections.abc import Callable

import pandas as pd

from raycifar.results import THRESHOLD, Results, leaks
from raycifar.stats import sample
from raycifar.tables import NONE, NOTHING_FINISHED, Table, by_arm, percent, seconds

GOALS = (THRESHOLD, 0.90, 0.93, 0.94)


def at_equal_cost(results: Results) -> Table:
    """Every arm's validation accuracy after the epochs, and the seconds, that all arms have had; and at its end."""
    columns = ["after", *(f"{arm}, %" for arm, _ in by_arm(results))]
    epochs = results.epochs[results.epochs["trial"].isin(results.finished["trial"])]
    rows = []
    if len(epochs):
        common, spent = (epochs.groupby("trial")[along].max().min() for along in ("epoch", "own_seconds"))
        rows = [
            [f"{common:.0f} epoch{'' if common == 1 else 's'}: validation", *_by(results, epochs, "epoch", common)],
            [f"{seconds(spent)} s: validation", *_by(results, epochs, "own_seconds", spent)],
            ["its last epoch: validation", *_each(results, "val_accuracy")],
            ["all of it: test", *_each(results, "test_accuracy")],
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
    rows = [_milestone(results, arm, trials, goal) for arm, trials in by_arm(results) for goal in goals]
    notes = []
    if rows:
        notes = [
            "At the end of the first epoch that reached it; of the trials that did: others would have taken longer."
        ]
    if missed := [f"{100 * goal:.0f}" for goal in GOALS if goal not in goals]:
        notes.append(f"No trial has reached {', '.join(missed)} %.")
    notes = notes if len(results.finished) else [NOTHING_FINISHED]
    return Table(
        "milestones", "Epochs and seconds to 85, 90, 93, 94 %", columns, rows, 1, (), notes, leaks(results.trials)
    )


def _milestone(results: Results, arm: str, trials: pd.DataFrame, goal: float) -> list[str]:
    epochs = results.epochs[results.epochs["trial"].isin(trials["trial"])]
    first = epochs[epochs["val_accuracy"] >= goal].groupby("trial").first()
    figures = [*_mean(first["epoch"], "{:.1f}".format), *_mean(first["own_seconds"], seconds)]
    return [arm, f"{100 * goal:.0f}", f"{len(first)} of {len(trials)}", *figures]


def _by(results: Results, epochs: pd.DataFrame, along: str, limit: float) -> list[str]:
    """Each arm's validation accuracy in its trials' last epochs within the limit."""
    last = epochs[epochs[along] <= limit].groupby("trial")["val_accuracy"].last()
    return [_cell(last.reindex(of_arm["trial"], fill_value=math.nan)) for _, of_arm in by_arm(results)]


def _each(results: Results, key: str) -> list[str]:
    return [_cell(finished[key]) for _, finished in by_arm(results)]


def _cell(accuracies: "pd.Series[float]") -> str:
    """NaN stands for a trial without an epoch by then, which is said: a mean over the quickest trials flatters."""
    of = sample(accuracies)
    n = f"n = {of.n}" if of.n == len(accuracies) else f"n = {of.n} of {len(accuracies)}"
    if of.n < 2:
        return f"{percent(of.mean)} ({n})" if of.n else NONE
    return f"{percent(of.mean)} ({percent(max(0.0, of.low))} to {percent(min(1.0, of.high))}, {n})"


def _mean(values: "pd.Series[float]", show: Callable[[float], str]) -> list[str]:
    of = sample(values)
    if not of.n:
        return [NONE, NONE]
    return [show(of.mean), of.note or f"{show(of.low)} to {show(of.high)}"]
