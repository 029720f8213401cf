"""DataFrame -> Figure: every arm's validation accuracy against epochs and seconds, with bands over its seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from raycifar.analysis.figures.style import (
    DRAWN_REPEATS,
    GREY,
    MARKED_EPOCHS,
    MARKERS,
    PALETTE,
    Drawing,
    canvas,
    epoch_axis,
    in_words,
    legend,
    mark,
    shorten,
    time_unit,
)
from raycifar.analysis.learning import accuracies_within, common_limit
from raycifar.analysis.results import THRESHOLD, leaks
from raycifar.analysis.wording import TRAINING_TIME, epochs_of, n_of, too_few

BAND = (
    "line: mean of the trials; band: from the lowest to the highest of them; a single trial has no band; what other "
    "validation images would change is in neither"
)
GOAL = 100 * THRESHOLD
ON_TOP: dict[str, Any] = {"linestyle": (0, (3, 2)), "linewidth": 3.0, "zorder": 3}  # dashes, for what lies below shows
SAME_LINE = 0.02  # of the axis: less than a line's width
AHEAD = "; thin: trials beyond the last epoch that all of their arm have"


def accuracy_against_epochs(epochs: pd.DataFrame, arms: Sequence[str]) -> Drawing:
    """Validation accuracy of all arms against the epoch."""
    leak = leaks(epochs)
    figure, axes = canvas("Validation accuracy against epoch", leak)
    curves = _curves(epochs)
    _bands(axes, curves, arms, 1.0, "epoch")
    ahead = _ahead(axes, epochs, arms, 1.0, "epoch")
    epoch_axis(axes, int(epochs["epoch"].max()))
    legend(figure, axes)
    caption = (
        f"{_together(epochs, arms, 'epoch')} How fast the arms learn, epoch by epoch, and how far their seeds are "
        f"apart; {BAND}{ahead}{mark(leak)}."
    )
    return Drawing(
        "validation-accuracy-against-epochs",
        "Accuracy against epochs",
        caption,
        f"Validation accuracy against epoch: {_ends(curves, arms)}{mark(leak)}.",
        figure,
    )


def accuracy_against_seconds(epochs: pd.DataFrame, arms: Sequence[str]) -> Drawing:
    """Validation accuracy of all arms against their training time, so that epochs of different cost compare."""
    leak = leaks(epochs)
    figure, axes = canvas("Validation accuracy against training time", leak)
    curves = _curves(epochs)
    unit, name = time_unit(float(epochs["own_seconds"].max()))
    _bands(axes, curves, arms, unit, "own_seconds")
    ahead = _ahead(axes, epochs, arms, unit, "own_seconds")
    axes.set_xlim(left=0)
    axes.set_xlabel(f"training time: training steps, validation and checkpointing, without start-up ({name})")
    legend(figure, axes)
    caption = (
        f"{_together(epochs, arms, 'own_seconds')} Who is ahead after the same training time ({TRAINING_TIME}). An "
        f"epoch is drawn at the mean time at which its trials finished it; {BAND}{ahead}{mark(leak)}."
    )
    return Drawing(
        "validation-accuracy-against-seconds",
        "Accuracy against time",
        caption,
        f"Validation accuracy against training time: {_ends(curves, arms)}{mark(leak)}.",
        figure,
    )


def _curves(epochs: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm and epoch that all of its trials have: accuracy in percent, mean seconds to its end.

    Further on the mean would be of other trials, and jump, even back in time.
    """
    by_epoch = epochs[epochs["epoch"] <= _limits(epochs)].groupby(["arm", "epoch"])
    accuracy = by_epoch["val_accuracy"].agg(["count", "mean", "min", "max"])
    accuracy[["mean", "min", "max"]] *= 100
    return accuracy.assign(own_seconds=by_epoch["own_seconds"].mean()).reset_index()


def _limits(epochs: pd.DataFrame) -> "pd.Series[float]":
    """For each row, the last epoch that all trials of its arm have."""
    return epochs["arm"].map({arm: common_limit(of_arm, "epoch") for arm, of_arm in epochs.groupby("arm")})


def _ahead(axes: Axes, epochs: pd.DataFrame, arms: Sequence[str], unit: float, along: str) -> str:
    """Draw, each by itself, the trials that have come further than their arm's slowest; returns the caption's words."""
    rest = epochs[epochs["epoch"] >= _limits(epochs)]
    lines = [(arm, line) for (arm, _), line in rest.groupby(["arm", "trial"], sort=False) if len(line) > 1]
    if len(lines) > DRAWN_REPEATS:
        return ""
    for arm, line in lines:
        colour = PALETTE[arms.index(arm) % len(PALETTE)]
        axes.plot(line[along] / unit, 100 * line["val_accuracy"], color=colour, linewidth=0.8)
    return AHEAD if lines else ""


def _bands(axes: Axes, curves: pd.DataFrame, arms: Sequence[str], unit: float, along: str) -> None:
    hidden = _hidden(curves, arms, along)
    for i, arm in enumerate(arms):
        curve = curves[curves["arm"] == arm]
        if curve.empty:
            continue
        x = curve[along] / unit
        colour = PALETTE[i % len(PALETTE)]
        marker = MARKERS[i % len(MARKERS)] if len(curve) <= MARKED_EPOCHS else ""
        n = int(curve["count"].max())
        look = ON_TOP if arm in hidden else {}
        axes.plot(x, curve["mean"], marker=marker, label=f"{shorten(arm)} (n = {n})", color=colour, **look)
        if n > 1:
            axes.fill_between(x, curve["min"], curve["max"], color=colour, alpha=0.25, linewidth=0)
    if _crosses_goal(curves):
        axes.axhline(GOAL, color=GREY, linestyle=":", label=f"{GOAL:.0f} % (epochs-to table)")
    axes.set_ylabel("validation accuracy (%)")


def _crosses_goal(curves: pd.DataFrame) -> bool:
    """Whether an arm's mean passes the goal: another line would stretch the axis and say nothing."""
    means = curves.groupby("arm")["mean"].agg(["min", "max"])
    return bool(((means["min"] < GOAL) & (means["max"] >= GOAL)).any())


def _hidden(curves: pd.DataFrame, arms: Sequence[str], along: str) -> list[str]:
    """Arms on whose whole curve the curve of a later arm lies: the same training, up to what the eye can see."""
    by_arm = {arm: curves[curves["arm"] == arm] for arm in arms}
    seen = SAME_LINE * float(curves["mean"].max() - curves["mean"].min())
    return [
        arm
        for i, arm in enumerate(arms)
        if any(_lies_on(by_arm[later], by_arm[arm], along, seen) for later in arms[i + 1 :])
    ]


def _lies_on(above: pd.DataFrame, below: pd.DataFrame, along: str, seen: float) -> bool:
    if above.empty or below.empty or above[along].max() < below[along].max() * (1 - SAME_LINE):
        return False
    apart = np.interp(below[along], above[along], above["mean"]) - below["mean"]
    return bool(np.abs(apart).max() <= seen)


def _together(epochs: pd.DataFrame, arms: Sequence[str], along: str) -> str:
    """Where all arms are after as many epochs, or seconds, as each trial has had."""
    limit = common_limit(epochs, along)
    reached = accuracies_within(epochs, along, limit)
    parts = []
    for arm in arms:
        trials = epochs.loc[epochs["arm"] == arm, "trial"].unique()
        accuracies = reached[reached.index.isin(trials)]
        n = n_of(len(accuracies), len(trials))
        if 0 < len(accuracies) < len(trials):
            parts.append(f"{arm} is {too_few(len(accuracies), len(trials))}")
        elif len(accuracies):
            parts.append(f"{arm} is at {100 * accuracies.mean():.1f} % ({n})")
        elif len(trials):
            parts.append(f"{arm} has no epoch yet")
    amount = epochs_of(limit) if along == "epoch" else in_words(limit)
    return f"After {amount} {', '.join(parts)}."


def _ends(curves: pd.DataFrame, arms: Sequence[str]) -> str:
    parts = []
    for arm in arms:
        curve = curves[curves["arm"] == arm]
        if len(curve):
            last = curve.iloc[-1]
            parts.append(f"{arm} at {last['mean']:.1f} % after {len(curve)} epochs and {last['own_seconds']:,.0f} s")
    return "; ".join(parts)
