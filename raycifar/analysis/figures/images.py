"""Predictions -> Figure: accuracy by class, confusion matrices and calibration; and the list of these figures."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raycifar.analysis.figures.photographs import confused_images, only_one_right
from raycifar.analysis.figures.style import (
    GREY,
    MARKERS,
    PALETTE,
    THIN,
    Drawing,
    canvas,
    ink,
    legend,
    mark,
    shorten,
    with_other_images,
)
from raycifar.analysis.predictions import (
    ENDS,
    MOST_CLASSES,
    Images,
    Predictions,
    Tested,
    easiest_first,
    ends,
    mean_confusion,
    most_confused,
)
from raycifar.analysis.statistics.formulas import BINS, calibration, proportion_interval
from raycifar.analysis.tested_arms import within_classes

Groups = dict[str, list[Tested]]


def class_figures(
    predictions: Predictions, arms: Sequence[str], images: Images | None, leak: bool
) -> Iterator[Drawing]:
    """Every figure that the predictions allow; those of single images only where the `images` are at hand."""
    groups = predictions.by_arm(arms)
    if not groups:
        return
    if len(np.unique(predictions.tests.labels)) == len(predictions.tests.facts.classes):
        order = easiest_first(groups)
        yield accuracy_by_class(groups, arms, ends(order), leak)
        for arm, trials in groups.items():
            is_map = len(order) > MOST_CLASSES
            yield confusion_map(arm, trials, order, leak) if is_map else confusion_matrix(arm, trials, leak)
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


def accuracy_by_class(groups: Groups, arms: Sequence[str], classes: Sequence[int], leak: bool) -> Drawing:
    """A row for each of the classes; in it a mark for each arm's mean, a bar from its lowest to its highest trial."""
    every = _names(groups)
    names, are_all = [shorten(every[label]) for label in classes], len(classes) == len(every)
    figure, axes = canvas("Test accuracy by class", leak, 4.6 if len(classes) <= 10 else 1.6 + 0.3 * len(classes))
    descriptions, hardest = [], []
    for arm, trials in groups.items():
        i = arms.index(arm)
        shares = np.array([np.diag(mean_confusion([trial]))[classes] for trial in trials]) * 100
        offset = 0.5 * ((i + 0.5) / len(arms) - 0.5)
        y = np.arange(len(names)) + offset
        colour, marker = _colour(i), _marker(i)
        if len(trials) > 1:
            axes.hlines(y, shares.min(0), shares.max(0), color=colour, linewidth=4, alpha=0.3)
        with_other_images(axes, within_classes(trials, classes).values(), y, colour)
        axes.scatter(shares.mean(0), y, color=colour, marker=marker, s=34, label=f"{shorten(arm)} (n = {len(trials)})")
        means = dict(zip([every[label] for label in classes], shares.mean(0).tolist(), strict=True))
        least = min(means, key=lambda name: means[name])
        hardest.append(f"{least} for {arm} ({means[least]:.1f} %)")
        descriptions.append(f"{arm} {', '.join(f'{name} {share:.0f} %' for name, share in means.items())}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("images of the class that are classified correctly (%)")
    legend(figure, axes)
    which = "" if are_all else f" The {ENDS} worst and the {ENDS} best of {len(every)} classes, by the mean over arms."
    caption = (
        f"Which classes are hard, and for which arm: the hardest is {', '.join(hardest)}.{which} Mark: mean of the "
        f"trials; bar: from lowest to highest; {THIN}{mark(leak)}."
    )
    if not are_all:
        axes.axhline(ENDS - 0.5, color=GREY, linewidth=1)
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
    names = [shorten(name) for name in trials[0].tests.facts.classes]
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(names)), names, rotation=90)
    return _confusion(arm, trials, figure, axes, "Shares that round to 0 are left blank", leak)


def confusion_map(arm: str, trials: Sequence[Tested], order: Sequence[int], leak: bool) -> Drawing:
    """As confusion_matrix, without numbers and names; the classes are in this order on both axes."""
    shares = mean_confusion(trials)[np.ix_(order, order)] * 100
    figure, axes = canvas(f"{shorten(arm)}: confusion of {len(order)} classes (n = {len(trials)})", leak, 5.2)
    # The root shows what is confused beside what is right, which is many times as much.
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes, label="% of the class", shrink=0.8)
    bar.set_ticks([0, 1, 5, 10, 25, 50, 100])
    places = [place - 1 for place in (1, *range(10, len(order) + 1, 10))]
    step = -(-len(places) // 11)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(places[::step], [str(place + 1) for place in places[::step]])
    how = f"Classes are in order of accuracy, the mean over arms, from 1, the best, to {len(order)}"
    return _confusion(arm, trials, figure, axes, how, leak)


def _confusion(arm: str, trials: Sequence[Tested], figure: Figure, axes: Axes, how: str, leak: bool) -> Drawing:
    """The drawing, with what is confused most in words; `how` says what is particular in reading it."""
    names = trials[0].tests.facts.classes
    axes.set_xlabel("classified as")
    axes.set_ylabel("images of")
    axes.grid(visible=False)
    worst = [
        f"{names[pair.label]} classified as {names[pair.predicted]}, {100 * pair.share:.1f} % of the class"
        for pair in most_confused(trials)
    ]
    most = f", most of all {worst[0]}" if worst else ": nothing"
    caption = f"Off the diagonal is what {arm} confuses{most}. {how}{mark(leak)}."
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
        _bins(axes, sure, right, len(trials), i)
        axes.plot([], [], color=_colour(i), marker=_marker(i), label=f"{shorten(arm)} (n = {len(trials)})")
        averages.append(f"{arm} is {100 * right.mean():.1f} % right and {100 * sure.mean():.1f} % sure")
    axes.set_xlabel("probability of the chosen class (%)")
    axes.set_ylabel("right (%)")
    legend(figure, axes)
    caption = (
        f"On average {'; '.join(averages)} (the table of calibration has intervals). Below the dotted line a network "
        f"is too sure of itself, above it not sure enough. {BINS} bins of equal width, all trials of an arm together; "
        "larger marks hold more images. Bars: 95 % intervals by the number of images alone, each counted once however "
        f"many trials it was shown to{mark(leak)}."
    )
    alt = f"Reliability diagram; on average {'; '.join(averages)}{mark(leak)}."
    return Drawing("reliability", "Calibration", caption, alt, figure)


def _bins(axes: Axes, sure: NDArray[np.float32], right: NDArray[np.bool_], trials: int, i: int) -> None:
    """The bins of the arm of colour and marker `i` that hold images, with intervals: trials see the same images."""
    bins = calibration(sure, right)
    filled = np.flatnonzero(bins.counts)
    counts, accuracy = bins.counts[filled], bins.accuracy[filled]
    x, y = 100 * bins.confidence[filled], 100 * accuracy
    chance = [proportion_interval(share, max(1, n // trials)) for share, n in zip(accuracy, counts, strict=True)]
    axes.vlines(x, *100 * np.array(chance).T, color=_colour(i), linewidth=3, alpha=0.3)
    axes.plot(x, y, color=_colour(i), linewidth=1)
    axes.scatter(x, y, s=12 + 260 * counts / counts.sum(), color=_colour(i), marker=_marker(i), alpha=0.8)


def _colour(i: int) -> str:
    return PALETTE[i % len(PALETTE)]


def _marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]
