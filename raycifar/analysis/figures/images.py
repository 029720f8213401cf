"""Predictions -> Figure: accuracy by class, confusion matrices and calibration; and the list of these figures."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from raycifar.analysis.figures.photographs import Images, confused_images, only_one_right
from raycifar.analysis.figures.style import (
    GREY,
    MARKERS,
    PALETTE,
    Drawing,
    canvas,
    ink,
    legend,
    mark,
    shorten,
)
from raycifar.analysis.predictions import Predictions, Tested, mean_confusion, most_confused
from raycifar.analysis.stats import BINS, calibration, proportion_interval

Groups = dict[str, list[Tested]]


def class_figures(
    predictions: Predictions, arms: Sequence[str], images: Images | None, leak: bool
) -> Iterator[Drawing]:
    """Every figure that the predictions allow; those of single images only where the `images` are at hand."""
    groups = predictions.by_arm(arms)
    if not groups:
        return
    if len(np.unique(predictions.tests.labels)) == len(predictions.tests.facts.classes):
        yield accuracy_by_class(groups, arms, leak)
        for arm, trials in groups.items():
            yield confusion_matrix(arm, trials, leak)
    yield reliability(groups, arms, leak)
    if images is None:
        return
    for arm, trials in groups.items():
        if most_confused(trials):
            yield confused_images(arm, trials, images, leak)
    if len(groups) > 1:
        ahead, behind = sorted(groups, key=lambda arm: -np.mean([t.right.mean() for t in groups[arm]]))[:2]
        for right, wrong in ((ahead, behind), (behind, ahead)):
            drawing = only_one_right((right, wrong), (groups[right], groups[wrong]), images, leak)
            if drawing:
                yield drawing


def accuracy_by_class(groups: Groups, arms: Sequence[str], leak: bool) -> Drawing:
    """A row for each class; in it a mark for each arm's mean, and a bar from its lowest to its highest trial."""
    figure, axes = canvas("Test accuracy by class", leak, 4.6)
    descriptions, hardest, names = [], [], _names(groups)
    for arm, trials in groups.items():
        i = arms.index(arm)
        shares = np.array([np.diag(mean_confusion([trial])) for trial in trials]) * 100
        offset = 0.5 * ((i + 0.5) / len(arms) - 0.5)
        y = np.arange(len(names)) + offset
        colour, marker = _colour(i), _marker(i)
        if len(trials) > 1:
            axes.hlines(y, shares.min(0), shares.max(0), color=colour, linewidth=4, alpha=0.3)
        axes.scatter(shares.mean(0), y, color=colour, marker=marker, s=34, label=f"{shorten(arm)} (n = {len(trials)})")
        means = dict(zip(names, shares.mean(0).tolist(), strict=True))
        least = min(means, key=lambda name: means[name])
        hardest.append(f"{least} for {arm} ({means[least]:.1f} %)")
        descriptions.append(f"{arm} {', '.join(f'{name} {share:.0f} %' for name, share in means.items())}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("images of the class that are classified correctly (%)")
    legend(figure, axes)
    caption = (
        f"Which classes are hard, and for which arm: the hardest is {', '.join(hardest)}. Mark: mean of the trials; "
        f"bar: from lowest to highest{mark(leak)}."
    )
    alt = f"Test accuracy by class: {'; '.join(descriptions)}{mark(leak)}."
    return Drawing("class-accuracy", "Accuracy by class", caption, alt, figure)


def confusion_matrix(arm: str, trials: Sequence[Tested], leak: bool) -> Drawing:
    """Rows are the true classes, columns those that the network gave; in percent of the row."""
    shares = mean_confusion(trials) * 100
    figure, axes = canvas(f"{shorten(arm)}: confusion matrix, % of each class (n = {len(trials)})", leak, 5.2)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for i, j in np.ndindex(shares.shape):
        shade = "#{:02x}{:02x}{:02x}".format(*picture.to_rgba(shares[i, j], bytes=True)[:3])
        text = f"{shares[i, j]:.0f}"
        text = "" if text == "0" and i != j else text
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink(shade))
    names = trials[0].tests.facts.classes
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_xlabel("classified as")
    axes.set_ylabel("images of")
    axes.grid(visible=False)
    worst = [
        f"{names[pair.label]} classified as {names[pair.predicted]}, {100 * pair.share:.1f} % of the class"
        for pair in most_confused(trials)
    ]
    most = f", most of all {worst[0]}" if worst else ": nothing"
    caption = f"Off the diagonal is what {arm} confuses{most}. Shares that round to 0 are left blank{mark(leak)}."
    alt = f"Confusion matrix of {arm}. Most confused: {'; '.join(worst) or 'nothing'}{mark(leak)}."
    return Drawing(f"arm-{arm}-confusion", f"{arm}: confusion matrix", caption, alt, figure)


def _names(groups: Groups) -> Sequence[str]:
    """Of the classes; all trials were tested on the same images."""
    return next(trials[0].tests.facts.classes for trials in groups.values())


def reliability(groups: Groups, arms: Sequence[str], leak: bool) -> Drawing:
    """Accuracy against the probability that the networks gave to the class that they chose, in bins."""
    figure, axes = canvas("Reliability: is the network as often right as it is sure?", leak, 4.4)
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=":", label="perfectly calibrated")
    averages = []
    for arm, trials in groups.items():
        sure, right = (np.concatenate([getattr(t, key) for t in trials]) for key in ("confidence", "right"))
        i = arms.index(arm)
        _bins(axes, sure, right, i)
        axes.plot([], [], color=_colour(i), marker=_marker(i), label=f"{shorten(arm)} (n = {len(trials)})")
        averages.append(f"{arm} is {100 * right.mean():.1f} % right and {100 * sure.mean():.1f} % sure")
    axes.set_xlabel("probability of the chosen class (%)")
    axes.set_ylabel("right (%)")
    legend(figure, axes)
    caption = (
        f"On average {'; '.join(averages)}. Below the dotted line a network is too sure of itself, above it not sure "
        f"enough. {BINS} bins of equal width, all trials of an arm together; larger marks hold more images. Bars: 95 % "
        f"intervals by the number of images alone, each counted once for every trial{mark(leak)}."
    )
    alt = f"Reliability diagram; on average {'; '.join(averages)}{mark(leak)}."
    return Drawing("reliability", "Calibration", caption, alt, figure)


def _bins(axes: Axes, sure: NDArray[np.float32], right: NDArray[np.bool_], i: int) -> None:
    """The bins of the arm of colour and marker `i` that hold images, with intervals."""
    bins = calibration(sure, right)
    filled = np.flatnonzero(bins.counts)
    counts, accuracy = bins.counts[filled], bins.accuracy[filled]
    x, y = 100 * bins.confidence[filled], 100 * accuracy
    chance = [proportion_interval(share, n) for share, n in zip(accuracy, counts, strict=True)]
    axes.vlines(x, *100 * np.array(chance).T, color=_colour(i), linewidth=3, alpha=0.3)
    axes.plot(x, y, color=_colour(i), linewidth=1)
    axes.scatter(x, y, s=12 + 260 * counts / counts.sum(), color=_colour(i), marker=_marker(i), alpha=0.8)


def _colour(i: int) -> str:
    return PALETTE[i % len(PALETTE)]


def _marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]
