"""DataFrame -> Figure: over-fitting, the gap between training and test accuracy."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from raycifar.analysis.figures.style import DRAWN_REPEATS, GREY, PALETTE, Drawing, canvas, legend, mark, shorten
from raycifar.analysis.results import leaks
from raycifar.analysis.wording import blended, signed

DESCRIBED = 20  # trials in the text for screen readers
AUGMENTED = (
    "training is measured on augmented images, with dropout if any, while the weights change, which can put it below "
    "test"
)
PLAIN = "training is measured as test is: the best epoch's weights, on the training images as they are"


def gap(finished: pd.DataFrame, arms: Sequence[str], unlike: Sequence[str] = ()) -> Drawing:
    """Last training accuracy and test accuracy of every finished trial, and the gap between them; of many, by arm.

    `unlike` are the arms that train on images blended of two.
    """
    leak = leaks(finished)
    finished, is_plain = _measured_alike(finished)
    unlike = () if is_plain else unlike
    rows = finished[finished["train_test_gap"].notna()]
    by_arm = rows.groupby("arm", sort=False)["train_test_gap"].mean()
    on_average = " on average" if len(rows) > len(by_arm) else ""
    if len(rows) > DRAWN_REPEATS:
        means = rows.groupby("arm", sort=False)[["train_accuracy", "test_accuracy", "train_test_gap"]].mean()
        rows = means.reset_index().assign(trial=[f"{arm} (mean)" for arm in means.index])
    height = min(1.9 + 0.27 * len(rows), 18)
    figure, axes = canvas("Over-fitting: training and test accuracy", leak, height)
    _bars(axes, rows, arms, unlike)
    which = "training, best epoch's weights" if is_plain else "training, last epoch"
    axes.scatter([], [], marker="o", facecolors="white", edgecolors=GREY, linewidths=1.6, label=which)
    axes.scatter([], [], marker="D", color=GREY, label="test, best epoch's weights")
    margin = 0.32 if rows["arm"].isin(unlike).any() else 0.18  # for the words beside
    _axes(axes, [shorten(str(trial), 20) for trial in rows["trial"]], margin)
    legend(figure, axes)
    alike = {arm: mean for arm, mean in by_arm.items() if arm not in unlike}
    mean_gaps = ", ".join(f"{signed(100 * mean, 1)} points for {arm}" for arm, mean in alike.items())
    caption = f"The gap is {mean_gaps}{on_average}. The table of over-fitting has its intervals. " if alike else ""
    caption += f"It hints at over-fitting, it does not measure it: {PLAIN if is_plain else AUGMENTED}{mark(leak)}."
    if why := blended([arm for arm in by_arm.index if arm in unlike]):
        caption += f" Dotted: {why}."
    first = rows.head(DESCRIBED)
    values = zip(first["trial"], 100 * first["train_test_gap"], strict=True)
    gaps = ", ".join(f"{trial} {signed(value, 1)}" for trial, value in values)
    alt = f"Training accuracy minus test accuracy in percentage points: {gaps}{mark(leak)}."
    return Drawing("train-test-gap", "Over-fitting", caption, alt, figure)


def _measured_alike(finished: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The trials with the accuracy on plain training images in place of the last epoch's, where all have it."""
    if finished["plain_gap"].isna().any():
        return finished, False
    return finished.assign(train_accuracy=finished["plain_train_accuracy"], train_test_gap=finished["plain_gap"]), True


def _bars(axes: Axes, rows: pd.DataFrame, arms: Sequence[str], unlike: Sequence[str]) -> None:
    """Both accuracies of a row, a line between them, and the gap beside it."""
    accuracies = zip(rows["arm"], 100 * rows["train_accuracy"], 100 * rows["test_accuracy"], strict=True)
    for y, (arm, train, test) in enumerate(accuracies):
        colour = PALETTE[arms.index(arm) % len(PALETTE)]
        solid, dotted = {"linewidth": 3, "alpha": 0.45}, {"linewidth": 1.6, "linestyle": ":"}
        line: dict[str, Any] = dotted if arm in unlike else solid
        axes.plot([train, test], [y, y], color=colour, zorder=1, **line)
        axes.scatter(train, y, marker="o", s=42, facecolors="white", edgecolors=colour, linewidths=1.6, zorder=2)
        axes.scatter(test, y, marker="D", s=34, color=colour, zorder=3)
        beside = max(train, test), y
        text = "(blended images)" if arm in unlike else signed(train - test, 1)
        axes.annotate(text, beside, (9, 0), textcoords="offset points", va="center")


def _axes(axes: Axes, names: Sequence[str], margin: float) -> None:
    """One row a trial, the first on top; room for the gaps, but no ticks beyond 100 %."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("accuracy (%), and the gap in points")
    axes.margins(x=margin)
    left, right = axes.get_xlim()
    ticks = MaxNLocator(nbins=7).tick_values(left, right)
    axes.set_xticks([tick for tick in ticks if left <= tick <= min(100, right)])
