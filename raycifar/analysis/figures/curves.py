"""DataFrame -> Figure: learning curves of single trials and of all repeats of an arm.

Figures 1-6, 9 and 10 of the reference report are `trial_curves`, 7 and 8 `arm_curves`.
"""

from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from raycifar.analysis.figures.style import (
    BLUE,
    DRAWN_REPEATS,
    MARKED_EPOCHS,
    MARKERS,
    PALETTE,
    VERMILLION,
    Drawing,
    canvas,
    epoch_axis,
    legend,
    mark,
    shorten,
)
from raycifar.analysis.learning import common_limit
from raycifar.analysis.results import leaks
from raycifar.analysis.wording import Format, epochs_of, number, percent

NAMED_REPEATS = 7  # with more repeats in one plot, single lines cannot be told apart


class Quantity(NamedTuple):
    """A column of the epochs, its unit in figures, and how it is written."""

    key: str
    unit: str
    show: Format
    unit_in_text: str = ""


ACCURACY = Quantity("accuracy", "%", percent, " %")
LOSS = Quantity("loss", "nats", number)


def trial_curves(epochs: pd.DataFrame, trial: str, quantity: Quantity, best_epoch: int | None) -> Drawing:
    """Training and validation of one trial; `best_epoch` is the one whose weights were tested."""
    leak = leaks(epochs)
    figure, axes = canvas(f"{shorten(trial, 26)}: {quantity.key} against epoch", leak)
    _both_parts(axes, epochs, quantity, leak)
    if best_epoch is not None:
        _tested_epoch(axes, epochs, quantity, best_epoch)
    axes.set_ylabel(f"{quantity.key} ({quantity.unit})")
    epoch_axis(axes, int(epochs["epoch"].max()))
    legend(figure, axes)
    ends = _ends(epochs, quantity)
    alt = f"{quantity.key.capitalize()} of {trial} over {len(epochs)} epochs: {ends} after the last{mark(leak)}."
    tested = ""
    if best_epoch is not None:
        tested = f"Tested with the weights of epoch {best_epoch} of {len(epochs)}, the best by validation accuracy. "
    unit = "Loss: cross-entropy in nats (natural logarithm). " if quantity is LOSS else ""
    caption = (
        f"After the last epoch {ends}. {tested}{unit}Training is measured on augmented images, while the weights "
        f"still change{mark(leak)}."
    )
    return Drawing(f"trial-{trial}-{quantity.key}", f"{trial}: {quantity.key}", caption, alt, figure)


def _both_parts(axes: Axes, epochs: pd.DataFrame, quantity: Quantity, leak: bool) -> None:
    marker = "o" if len(epochs) <= MARKED_EPOCHS else ""
    validation = "validation (leak)" if leak else "validation"
    for part, colour, dash, name in (("train", BLUE, "--", "training"), ("val", VERMILLION, "-", validation)):
        y = epochs[f"{part}_{quantity.key}"] * quantity.show.scale
        axes.plot(epochs["epoch"], y, linestyle=dash, marker=marker, color=colour, label=name)


def _tested_epoch(axes: Axes, epochs: pd.DataFrame, quantity: Quantity, best_epoch: int) -> None:
    best = epochs[epochs["epoch"] == best_epoch]
    y = best[f"val_{quantity.key}"] * quantity.show.scale
    label = f"epoch {best_epoch}: best, tested"
    axes.scatter(best["epoch"], y, marker="o", s=110, facecolors="none", edgecolors="black", zorder=5, label=label)


def _ends(epochs: pd.DataFrame, quantity: Quantity) -> str:
    """Where training and validation are after the last epoch."""
    last = epochs.iloc[-1]
    parts = {"train": "training", "val": "validation"}
    texts = {name: quantity.show(float(last[f"{part}_{quantity.key}"])) for part, name in parts.items()}
    return " and ".join(f"{name} is at {text}{quantity.unit_in_text}" for name, text in texts.items())


def arm_curves(epochs: pd.DataFrame, compared: pd.DataFrame, arm: str, column: str, name: str) -> Drawing:
    """One quantity of all repeats of an arm in one plot; `compared` are the epochs that speak for the arm."""
    leak = leaks(epochs) and column.startswith("val")
    trials = epochs["trial"].nunique()
    plural = f"{trials} trials" if trials > 1 else "1 trial"
    figure, axes = canvas(f"{shorten(arm, 18)}: {name} against epoch, {plural}", leaks(epochs))
    longest = int(epochs["epoch"].max())
    _repeats(axes, epochs, column)
    if trials > NAMED_REPEATS:
        _mean(axes, compared, column, trials)
    axes.set_ylabel(f"{name} (%)")
    epoch_axis(axes, longest)
    legend(figure, axes)
    last = epochs.groupby("trial")[column].last() * 100
    alt = f"{name.capitalize()} of the {plural} of {arm} over {longest} epochs, ending at {_range(last)}{mark(leak)}."
    caption = f"{_spread_in_words(compared, column, plural)}{mark(leaks(epochs))}."
    kind = "training" if column.startswith("train") else "validation"
    return Drawing(f"arm-{arm}-{kind}-accuracy", f"{arm}: {name}, all repeats", caption, alt, figure)


def _repeats(axes: Axes, epochs: pd.DataFrame, column: str) -> None:
    """A line for each trial: in its own colour where there are few, pale where there are many, none of very many."""
    by_trial = epochs.groupby("trial", sort=False)
    if len(by_trial) > DRAWN_REPEATS:
        return
    few, is_short = len(by_trial) <= NAMED_REPEATS, int(epochs["epoch"].max()) <= MARKED_EPOCHS
    for i, (trial, rows) in enumerate(by_trial):
        own = {"color": PALETTE[i % len(PALETTE)], "label": shorten(str(trial))}
        look = own if few else {"color": BLUE, "alpha": 0.3}
        marker = MARKERS[i % len(MARKERS)] if few and is_short else ""
        axes.plot(rows["epoch"], rows[column] * 100, marker=marker, **look)


def _mean(axes: Axes, compared: pd.DataFrame, column: str, trials: int) -> None:
    """Up to the last epoch that all have: with other trials at each epoch the mean would jump."""
    common = compared[compared["epoch"] <= common_limit(compared, "epoch")]
    mean = common.groupby("epoch")[column].mean() * 100
    if trials <= DRAWN_REPEATS:
        axes.plot([], [], color=BLUE, alpha=0.3, label="each trial")
    else:
        low, high = (common.groupby("epoch")[column].quantile(q) * 100 for q in (0.05, 0.95))
        label = "the middle 90 % of the trials"
        axes.fill_between(low.index, low, high, color=BLUE, alpha=0.3, linewidth=0, label=label)
    axes.plot(mean.index, mean, color="black", linewidth=2.2, label="mean")


def _spread_in_words(compared: pd.DataFrame, column: str, plural: str) -> str:
    """How far the repeats are apart at the last epoch that all have; `plural` says how many there are in all."""
    common, n = common_limit(compared, "epoch"), compared["trial"].nunique()
    accuracies = _range(100 * compared.loc[compared["epoch"] == common, column])
    if n == 1:
        return f"After {epochs_of(common)} it is at {accuracies}. n = 1: one trial shows no spread"
    these = f"the {n} trials" if plural == f"{n} trials" else f"the {n} of {plural} that did not fail"
    return f"After {epochs_of(common)} {these} are at {accuracies}: this is the spread between seeds"


def _range(percentages: "pd.Series[float]") -> str:
    low, high = f"{percentages.min():.1f} %", f"{percentages.max():.1f} %"
    return low if low == high else f"{low} to {high}"
