"""DataFrame -> Figure: learning curves of trials and arms, over-fitting; and the list of all figures.

The reference report's figures are here: 1-6, 9 and 10 are `trial_curves`, 7 and 8 `arm_curves`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raycifar.analysis.figures.bands import accuracy_against_epochs, accuracy_against_seconds
from raycifar.analysis.figures.durations import time_by_arm, timeline
from raycifar.analysis.figures.images import Images, class_figures
from raycifar.analysis.figures.style import (
    BLUE,
    DRAWN_REPEATS,
    GREY,
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
    style,
)
from raycifar.analysis.predictions import Predictions
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.stats import signed
from raycifar.analysis.tables.equal_cost import common_limit, epochs_of

NAMED_REPEATS = 7  # with more repeats in one plot, single lines cannot be told apart
MOST_TRIALS = 12  # whose curves have figures of their own


class Quantity(NamedTuple):
    """A column of the epochs, and how it is drawn."""

    key: str
    name: str
    unit: str
    scale: float


ACCURACY = Quantity("accuracy", "accuracy", "%", 100)
LOSS = Quantity("loss", "loss", "nats", 1)


def all_figures(
    results: Results, predictions: Predictions | None = None, images: Images | None = None
) -> Iterator[Drawing]:
    """Every figure that epochs, trials, predictions and test images allow, the overall ones first.

    Of arms, the shown ones; of single trials, none where there are more than MOST_TRIALS.
    """
    with style():
        arms = results.shown_arms
        every, epochs, finished = (
            frame[frame["arm"].isin(arms)] for frame in (results.epochs, results.compared_epochs, results.finished)
        )
        if not epochs.empty:
            yield accuracy_against_epochs(epochs, arms)
            yield accuracy_against_seconds(epochs, arms)
        if finished["train_test_gap"].notna().any():
            yield gap(finished, arms)
        yield from class_figures(predictions or Predictions(), arms, images, leaks(results.trials))
        if not epochs.empty:
            yield time_by_arm(results.trials[results.trials["epochs_run"] > 0], arms, results.wall_seconds)
        if not results.sessions.empty:
            yield timeline(results.sessions, arms, results.active)
        for arm, of_arm in every.groupby("arm", sort=False):
            compared = epochs[epochs["arm"] == arm]
            yield arm_curves(of_arm, compared, str(arm), "train_accuracy", "training accuracy")
            yield arm_curves(of_arm, compared, str(arm), "val_accuracy", "validation accuracy")
        if len(results.trials) > MOST_TRIALS:
            return
        for trial, of_trial in every.groupby("trial", sort=False):
            tested = results.finished[results.finished["trial"] == trial]
            best = int(tested["best_epoch"].iloc[0]) if len(tested) else None
            yield trial_curves(of_trial, str(trial), ACCURACY, best)
            yield trial_curves(of_trial, str(trial), LOSS, best)


def trial_curves(epochs: pd.DataFrame, trial: str, quantity: Quantity, best_epoch: int | None) -> Drawing:
    """Training and validation of one trial; `best_epoch` is the one whose weights were tested."""
    leak = leaks(epochs)
    title = f"{shorten(trial, 26)}: {quantity.name} against epoch"
    figure, axes = canvas(title, leak)
    marker = "o" if len(epochs) <= MARKED_EPOCHS else ""
    of = " (leak)" if leak else ""
    for part, colour, dash, name in (("train", BLUE, "--", "training"), ("val", VERMILLION, "-", f"validation{of}")):
        y = epochs[f"{part}_{quantity.key}"] * quantity.scale
        axes.plot(epochs["epoch"], y, linestyle=dash, marker=marker, color=colour, label=name)
    if best_epoch is not None:
        at = epochs[epochs["epoch"] == best_epoch]
        y = at[f"val_{quantity.key}"] * quantity.scale
        label = f"epoch {best_epoch}: best, tested"
        axes.scatter(at["epoch"], y, marker="o", s=110, facecolors="none", edgecolors="black", zorder=5, label=label)
    axes.set_ylabel(f"{quantity.name} ({quantity.unit})")
    epoch_axis(axes, int(epochs["epoch"].max()))
    legend(figure, axes)
    last = epochs.iloc[-1]
    ends = " and ".join(
        f"{name} at {last[f'{part}_{quantity.key}'] * quantity.scale:.4g}{' %' if quantity.unit == '%' else ''}"
        for part, name in (("train", "training"), ("val", "validation"))
    )
    alt = f"{quantity.name.capitalize()} of {trial} over {len(epochs)} epochs: {ends} after the last{mark(leak)}."
    tested = ""
    if best_epoch is not None:
        tested = f"Tested with the weights of epoch {best_epoch} of {len(epochs)}, the best by validation accuracy. "
    caption = (
        f"After the last epoch {ends}. {tested}Training is measured on augmented images while the weights still "
        f"change{mark(leak)}."
    )
    return Drawing(f"trial-{trial}-{quantity.key}", f"{trial}: {quantity.name}", caption, alt, figure)


def arm_curves(epochs: pd.DataFrame, compared: pd.DataFrame, arm: str, column: str, name: str) -> Drawing:
    """One quantity of all repeats of an arm in one plot; `compared` are the epochs that speak for the arm."""
    leak = leaks(epochs) and column.startswith("val")
    trials = list(epochs["trial"].unique())
    plural = f"{len(trials)} trials" if len(trials) > 1 else "1 trial"
    figure, axes = canvas(f"{shorten(arm, 18)}: {name} against epoch, {plural}", leaks(epochs))
    longest, common = int(epochs["epoch"].max()), common_limit(compared, "epoch")
    few = len(trials) <= NAMED_REPEATS
    for i, (trial, rows) in enumerate(epochs.groupby("trial", sort=False)):
        if len(trials) > DRAWN_REPEATS:
            break
        look = (
            {"color": PALETTE[i % len(PALETTE)], "label": shorten(str(trial))} if few else {"color": BLUE, "alpha": 0.3}
        )
        marker = MARKERS[i % len(MARKERS)] if few and longest <= MARKED_EPOCHS else ""
        axes.plot(rows["epoch"], rows[column] * 100, marker=marker, **look)
    if not few:
        alike = compared[compared["epoch"] <= common]  # of the same trials at each epoch, or the mean would jump
        mean = alike.groupby("epoch")[column].mean() * 100
        _spread(axes, alike, column, len(trials))
        axes.plot(mean.index, mean, color="black", linewidth=2.2, label="mean")
    axes.set_ylabel(f"{name} (%)")
    epoch_axis(axes, longest)
    legend(figure, axes)
    last = epochs.groupby("trial")[column].last() * 100
    alt = f"{name.capitalize()} of the {plural} of {arm} over {longest} epochs, ending at {_range(last)}{mark(leak)}."
    there = _range(100 * compared.loc[compared["epoch"] == common, column])
    n = compared["trial"].nunique()
    these = f"the {n} trials" if n == len(trials) else f"the {n} of {plural} that did not fail"
    caption = f"After {epochs_of(common)} {these} are at {there}: so far apart lie repeats with other seeds"
    if n == 1:
        caption = f"After {epochs_of(common)} it is at {there}. n = 1: one trial shows no spread"
    caption = f"{caption}{mark(leaks(epochs))}."
    kind = "training" if column.startswith("train") else "validation"
    return Drawing(f"arm-{arm}-{kind}-accuracy", f"{arm}: {name}, all repeats", caption, alt, figure)


def _spread(axes: Axes, epochs: pd.DataFrame, column: str, trials: int) -> None:
    """Behind the mean: what the pale lines are, or the band that stands for them."""
    if trials <= DRAWN_REPEATS:
        axes.plot([], [], color=BLUE, alpha=0.3, label="each trial")
        return
    low, high = (epochs.groupby("epoch")[column].quantile(q) * 100 for q in (0.05, 0.95))
    axes.fill_between(low.index, low, high, color=BLUE, alpha=0.3, linewidth=0, label="the middle 90 % of the trials")


def gap(finished: pd.DataFrame, arms: Sequence[str]) -> Drawing:
    """Last training accuracy and test accuracy of every finished trial, and the gap between them; of many, by arm."""
    leak = leaks(finished)
    rows = finished[finished["train_test_gap"].notna()]
    by_arm = rows.groupby("arm", sort=False)["train_test_gap"].mean()
    each = " on average" if len(rows) > len(by_arm) else ""
    if len(rows) > DRAWN_REPEATS:
        means = rows.groupby("arm", sort=False)[["train_accuracy", "test_accuracy", "train_test_gap"]].mean()
        rows = means.reset_index().assign(trial=[f"{arm} (mean)" for arm in means.index])
    height = min(1.9 + 0.27 * len(rows), 18)
    figure, axes = canvas("Over-fitting: training and test accuracy", leak, height)
    figures = zip(rows["arm"], 100 * rows["train_accuracy"], 100 * rows["test_accuracy"], strict=True)
    for y, (arm, train, test) in enumerate(figures):
        colour = PALETTE[arms.index(arm) % len(PALETTE)]
        axes.plot([train, test], [y, y], color=colour, linewidth=3, alpha=0.45, zorder=1)
        axes.scatter(train, y, marker="o", s=42, facecolors="white", edgecolors=colour, linewidths=1.6, zorder=2)
        axes.scatter(test, y, marker="D", s=34, color=colour, zorder=3)
        axes.annotate(
            signed(train - test, 1),
            (max(train, test), y),
            (9, 0),
            textcoords="offset points",
            va="center",
        )
    axes.scatter([], [], marker="o", facecolors="white", edgecolors=GREY, linewidths=1.6, label="training, last epoch")
    axes.scatter([], [], marker="D", color=GREY, label="test, best epoch's weights")
    _trial_axis(axes, [shorten(str(trial), 20) for trial in rows["trial"]])
    axes.set_xlabel("accuracy (%), and the gap in points")
    axes.margins(x=0.18)
    ticks = MaxNLocator(nbins=7).tick_values(*axes.get_xlim())
    axes.set_xticks([tick for tick in ticks if axes.get_xlim()[0] <= tick <= min(100, axes.get_xlim()[1])])
    legend(figure, axes)
    mean_gaps = ", ".join(f"{signed(100 * mean, 1)} points for {arm}" for arm, mean in by_arm.items())
    caption = (
        f"The gap is {mean_gaps}{each}. Training far above test: the network has learnt its training images by heart. "
        f"Training is measured on augmented images, with dropout if any, which can put it below test{mark(leak)}."
    )
    shown = rows.head(20)
    gaps = ", ".join(f"{t} {g:+.1f}" for t, g in zip(shown["trial"], 100 * shown["train_test_gap"], strict=True))
    alt = f"Training less test accuracy in percentage points: {gaps}{mark(leak)}."
    return Drawing("train-test-gap", "Over-fitting", caption, alt, figure)


def _trial_axis(axes: Axes, names: Sequence[str]) -> None:
    """One row a trial, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _range(percent: pd.Series) -> str:
    low, high = f"{percent.min():.1f} %", f"{percent.max():.1f} %"
    return low if low == high else f"{low} to {high}"
