"""Trials -> Figure: test accuracy against a network's parameters and operations, where arms have unlike networks."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from raycifar.analysis.figures.style import (
    MARKERS,
    PALETTE,
    THIN,
    VERMILLION,
    WIDTH,
    Drawing,
    legend,
    mark,
    shorten,
    with_other_images,
)
from raycifar.analysis.results import LEAK
from raycifar.analysis.statistics.contrasts import Arm, estimate

AGAINST = {"all_parameters": (1e-6, "parameters (millions)"), "forward_flops": (1e-9, "GFLOP an image")}


def accuracy_against_size(
    finished: pd.DataFrame, arms: Sequence[str], tested: Mapping[str, Arm], leak: bool
) -> Drawing | None:
    """A mark for each arm's mean, a bar from its lowest to its highest trial, a thin line with other test images.

    None where no sizes are on record.
    """
    known = finished.dropna(subset=list(AGAINST))
    if known.empty:
        return None
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    figure.suptitle("Test accuracy by size of the network", x=0.01, ha="left", fontsize=11, fontweight="bold")
    if leak:
        figure.supxlabel(LEAK, x=0.01, ha="left", color=VERMILLION, fontsize=9.5)
    left, right = figure.subplots(1, 2, sharey=True)
    words = []
    for arm, trials in known.groupby("arm", sort=False):
        i, accuracy = arms.index(str(arm)), 100 * trials["test_accuracy"]
        for axes, (key, (scale, _)) in zip((left, right), AGAINST.items(), strict=True):
            x = scale * trials[key].max()
            label = f"{shorten(str(arm))} (n = {len(trials)})" if axes is left else None
            axes.vlines(x, accuracy.min(), accuracy.max(), color=PALETTE[i % len(PALETTE)], linewidth=4, alpha=0.3)
            with_other_images(axes, [estimate(tested[str(arm)])], [x], PALETTE[i % len(PALETTE)], upright=True)
            axes.scatter(
                x, accuracy.mean(), color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], label=label
            )
        sizes = ", ".join(f"{scale * trials[key].max():.3g} {name}" for key, (scale, name) in AGAINST.items())
        words.append(f"{arm} {accuracy.mean():.1f} % with {sizes}")
    for axes, (_, name) in zip((left, right), AGAINST.values(), strict=True):
        axes.set_xscale("log")
        axes.set_xlabel(name)
    left.set_ylabel("test accuracy (%)")
    legend(figure, left)
    caption = (
        f"Further up and to the left: more is right for less. Mark: mean of the trials; bar: from lowest to highest; "
        f"{THIN}; both scales of size are logarithmic{mark(leak)}."
    )
    alt = f"Test accuracy by size of the network: {'; '.join(words)}{mark(leak)}."
    return Drawing("accuracy-by-size", "Accuracy by size of the network", caption, alt, figure)
