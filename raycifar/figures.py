"""DataFrame -> Figure: learning curves, accuracy against seconds, over-fitting; and the list of all figures.

The reference report's figures are here: 1-6, 9 and 10 are `trial_curves`, 7 and 8 `arm_curves`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raycifar.plotting import (
    BLUE,
    GREY,
    MARKED_EPOCHS,
    MARKERS,
    PALETTE,
    VERMILLION,
    Drawing,
    canvas,
    epoch_axis,
    legend,
    shorten,
    style,
    time_unit,
)
from raycifar.results import LEAK, THRESHOLD, Results
from raycifar.time_figures import time_by_arm, timeline

NAMED_REPEATS = 7  # with more repeats in one plot, single lines cannot be told apart


class Quantity(NamedTuple):
    """A column of the epochs, and how it is drawn."""

    key: str
    name: str
    unit: str
    scale: float


ACCURACY = Quantity("accuracy", "accuracy", "%", 100)
LOSS = Quantity("loss", "loss", "nats", 1)


def all_figures(results: Results) -> Iterator[Drawing]:
    """Every figure that the epochs and trials so far allow, the overall ones first."""
    with style():
        epochs, arms = results.epochs, results.arms
        if results.finished["train_test_gap"].notna().any():
            yield gap(results.finished, arms)
        if not epochs.empty:
            yield accuracy_against_seconds(epochs, arms)
            yield time_by_arm(results.trials[results.trials["epochs_run"] > 0], arms, results.wall_seconds)
        if not results.sessions.empty:
            yield timeline(results.sessions, arms, results.active)
        for arm, of_arm in epochs.groupby("arm", sort=False):
            yield arm_curves(of_arm, str(arm), "train_accuracy", "training accuracy")
            yield arm_curves(of_arm, str(arm), "val_accuracy", "validation accuracy")
        for trial, of_trial in epochs.groupby("trial", sort=False):
            tested = results.finished[results.finished["trial"] == trial]
            best = int(tested["best_epoch"].iloc[0]) if len(tested) else None
            yield trial_curves(of_trial, str(trial), ACCURACY, best)
            yield trial_curves(of_trial, str(trial), LOSS, best)


def trial_curves(epochs: pd.DataFrame, trial: str, quantity: Quantity, best_epoch: int | None) -> Drawing:
    """Training and validation of one trial; `best_epoch` is the one whose weights were tested."""
    leak = _leaks(epochs)
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
    alt = f"{quantity.name.capitalize()} of {trial} over {len(epochs)} epochs: {ends} after the last{_mark(leak)}."
    caption = f"Training is measured on augmented images while the weights still change{_mark(leak)}."
    return Drawing(f"trial-{trial}-{quantity.key}", f"{trial}: {quantity.name}", caption, alt, figure)


def arm_curves(epochs: pd.DataFrame, arm: str, column: str, name: str) -> Drawing:
    """One quantity of all repeats of an arm in one plot."""
    leak = _leaks(epochs) and column.startswith("val")
    trials = list(epochs["trial"].unique())
    plural = f"{len(trials)} trials" if len(trials) > 1 else "1 trial"
    figure, axes = canvas(f"{shorten(arm, 18)}: {name} against epoch, {plural}", _leaks(epochs))
    longest = int(epochs["epoch"].max())
    few = len(trials) <= NAMED_REPEATS
    for i, (trial, rows) in enumerate(epochs.groupby("trial", sort=False)):
        look = (
            {"color": PALETTE[i % len(PALETTE)], "label": shorten(str(trial))} if few else {"color": BLUE, "alpha": 0.3}
        )
        marker = MARKERS[i % len(MARKERS)] if few and longest <= MARKED_EPOCHS else ""
        axes.plot(rows["epoch"], rows[column] * 100, marker=marker, **look)
    if not few:
        mean = epochs.groupby("epoch")[column].mean() * 100
        axes.plot([], [], color=BLUE, alpha=0.3, label="each trial")
        axes.plot(mean.index, mean, color="black", linewidth=2.2, label="mean")
    axes.set_ylabel(f"{name} (%)")
    epoch_axis(axes, longest)
    legend(figure, axes)
    last = epochs.groupby("trial")[column].last() * 100
    alt = f"{name.capitalize()} of the {plural} of {arm} over {longest} epochs, ending at {_range(last)}{_mark(leak)}."
    caption = f"How far the repeats, which differ only in their seed, lie apart{_mark(_leaks(epochs))}."
    if len(trials) == 1:
        caption = f"n = 1: one trial shows no spread{_mark(_leaks(epochs))}."
    kind = "training" if column.startswith("train") else "validation"
    return Drawing(f"arm-{arm}-{kind}-accuracy", f"{arm}: {name}, all repeats", caption, alt, figure)


def accuracy_against_seconds(epochs: pd.DataFrame, arms: Sequence[str]) -> Drawing:
    """Validation accuracy against each trial's own seconds, so that epochs of different cost compare."""
    leak = _leaks(epochs)
    figure, axes = canvas("Validation accuracy against own time", leak)
    unit, name = time_unit(float(epochs["own_seconds"].max()))
    for i, arm in enumerate(arms):
        rows = epochs[epochs["arm"] == arm]
        for j, (_, trial) in enumerate(rows.groupby("trial", sort=False)):
            x, y = trial["own_seconds"] / unit, trial["val_accuracy"] * 100
            label = f"{shorten(arm)} (n = {rows['trial'].nunique()})" if j == 0 else None
            look: dict[str, Any] = {
                "color": PALETTE[i % len(PALETTE)],
                "linestyle": ("-", "--", ":", "-.")[i // len(PALETTE) % 4],
            }
            axes.plot(
                x, y, marker=MARKERS[i % len(MARKERS)] if len(trial) <= MARKED_EPOCHS else "", label=label, **look
            )
    reached = epochs["val_accuracy"].max() >= THRESHOLD - 0.1
    if reached:
        axes.axhline(100 * THRESHOLD, color=GREY, linestyle=":", label=f"{100 * THRESHOLD:.0f} %")
    axes.set_xlim(left=0)
    axes.set_xlabel(f"own time: training, validation and checkpointing, without start-up ({name})")
    axes.set_ylabel("validation accuracy (%)")
    legend(figure, axes)
    caption = f"One point an epoch, one line a trial: who is ahead after the same time of computing{_mark(leak)}."
    best = "; ".join(
        f"{arm} up to {100 * rows['val_accuracy'].max():.1f} % within {rows['own_seconds'].max():,.0f} s"
        for arm, rows in epochs.groupby("arm", sort=False)
    )
    alt = f"Validation accuracy against own time: {best}{_mark(leak)}."
    return Drawing("validation-accuracy-against-seconds", "Accuracy against time", caption, alt, figure)


def gap(finished: pd.DataFrame, arms: Sequence[str]) -> Drawing:
    """Last training accuracy and test accuracy of every finished trial, and the gap between them."""
    leak = _leaks(finished)
    rows = finished[finished["train_test_gap"].notna()]
    height = min(1.9 + 0.27 * len(rows), 18)
    figure, axes = canvas("Over-fitting: training and test accuracy", leak, height)
    figures = zip(rows["arm"], 100 * rows["train_accuracy"], 100 * rows["test_accuracy"], strict=True)
    for y, (arm, train, test) in enumerate(figures):
        colour = PALETTE[arms.index(arm) % len(PALETTE)]
        axes.plot([train, test], [y, y], color=colour, linewidth=3, alpha=0.45, zorder=1)
        axes.scatter(train, y, marker="o", s=42, facecolors="white", edgecolors=colour, linewidths=1.6, zorder=2)
        axes.scatter(test, y, marker="D", s=34, color=colour, zorder=3)
        axes.annotate(
            f"{train - test:+.1f}".replace("-", "−"),
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
    caption = (
        "Training far above test: the network has learnt its training images by heart. Training is measured on "
        f"augmented images and with dropout, which can put it below test{_mark(leak)}."
    )
    shown = rows.head(20)
    gaps = ", ".join(f"{t} {g:+.1f}" for t, g in zip(shown["trial"], 100 * shown["train_test_gap"], strict=True))
    alt = f"Training less test accuracy in percentage points: {gaps}{_mark(leak)}."
    return Drawing("train-test-gap", "Over-fitting", caption, alt, figure)


def _trial_axis(axes: Axes, names: Sequence[str]) -> None:
    """One row a trial, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _leaks(frame: pd.DataFrame) -> bool:
    return bool((frame["validation"] == "train").any())


def _mark(leak: bool) -> str:
    return f" — {LEAK}" if leak else ""


def _range(percent: pd.Series) -> str:
    low, high = f"{percent.min():.1f} %", f"{percent.max():.1f} %"
    return low if low == high else f"{low} to {high}"
