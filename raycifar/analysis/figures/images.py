"""Predictions -> Figure: accuracy by class, confusion matrices, calibration, and the images themselves."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raycifar.analysis.figures.style import (
    GREY,
    MARKERS,
    PALETTE,
    VERMILLION,
    WIDTH,
    Drawing,
    canvas,
    ink,
    legend,
    mark,
    shorten,
)
from raycifar.analysis.predictions import Predictions, Tested
from raycifar.analysis.results import LEAK
from raycifar.analysis.stats import BINS, calibration, proportion_interval
from raycifar.analysis.tables.images import mean_confusion, most_confused
from raycifar.config.datasets import CIFAR10

IMAGES_A_ROW = 8
GUTTER = 3  # pixels between two images
PITCH = CIFAR10.side + GUTTER
ROWS_OF_EXAMPLES = 2

Groups = dict[str, list[Tested]]
Images = NDArray[np.uint8]  # (N, 32, 32, 3)


def class_figures(
    predictions: Predictions, arms: Sequence[str], images: Images | None, leak: bool
) -> Iterator[Drawing]:
    """Every figure that the predictions allow; those of single images only where the `images` are at hand."""
    groups = predictions.by_arm(arms)
    if not groups:
        return
    if len(np.unique(predictions.tests.labels)) == len(CIFAR10.classes):
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
    """A row for each class, a mark for each trial, a larger one for the arm's mean."""
    figure, axes = canvas("Test accuracy by class", leak, 4.6)
    said, hardest = [], []
    for arm, trials in groups.items():
        i = arms.index(arm)
        shares = np.array([np.diag(mean_confusion([trial])) for trial in trials]) * 100
        offset = 0.5 * ((i + 0.5) / len(arms) - 0.5)
        y = np.arange(len(CIFAR10.classes)) + offset
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        if len(trials) > 1:
            axes.hlines(y, shares.min(0), shares.max(0), color=colour, linewidth=4, alpha=0.3)
        axes.scatter(shares.mean(0), y, color=colour, marker=marker, s=34, label=f"{shorten(arm)} (n = {len(trials)})")
        least = int(shares.mean(0).argmin())
        hardest.append(f"{CIFAR10.classes[least]} for {arm} ({shares.mean(0)[least]:.1f} %)")
        said.append(
            f"{arm} {', '.join(f'{n} {s:.0f} %' for n, s in zip(CIFAR10.classes, shares.mean(0), strict=True))}"
        )
    _class_axis(axes)
    axes.set_ylim(len(CIFAR10.classes) - 0.5, -0.5)
    axes.set_xlabel("images of the class that are classified right (%)")
    legend(figure, axes)
    caption = (
        f"Which classes are hard, and for whom: the hardest is {', '.join(hardest)}. Mark: mean of the trials; bar: "
        f"from lowest to highest{mark(leak)}."
    )
    alt = f"Test accuracy by class: {'; '.join(said)}{mark(leak)}."
    return Drawing("class-accuracy", "Accuracy by class", caption, alt, figure)


def confusion_matrix(arm: str, trials: Sequence[Tested], leak: bool) -> Drawing:
    """Rows are what the images show, columns what the network said; in percent of the row."""
    shares = mean_confusion(trials) * 100
    figure, axes = canvas(f"{shorten(arm)}: confusion matrix, % of each class (n = {len(trials)})", leak, 5.2)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for i, j in np.ndindex(shares.shape):
        shade = "#{:02x}{:02x}{:02x}".format(*picture.to_rgba(shares[i, j], bytes=True)[:3])
        text = f"{shares[i, j]:.0f}"
        text = "" if text == "0" and i != j else text
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink(shade))
    _class_axis(axes)
    axes.set_xticks(range(len(CIFAR10.classes)), CIFAR10.classes, rotation=90)
    axes.set_xlabel("taken for")
    axes.set_ylabel("images of")
    axes.grid(visible=False)
    worst = [
        f"{CIFAR10.classes[pair.label]} taken for {CIFAR10.classes[pair.taken]}, {100 * pair.share:.1f} % of the class"
        for pair in most_confused(trials)
    ]
    most = f", most of all {worst[0]}" if worst else ": nothing"
    caption = f"Off the diagonal is what {arm} confuses{most}. Shares that round to 0 are left blank{mark(leak)}."
    alt = f"Confusion matrix of {arm}. Most confused: {'; '.join(worst) or 'nothing'}{mark(leak)}."
    return Drawing(f"arm-{arm}-confusion", f"{arm}: confusion matrix", caption, alt, figure)


def _class_axis(axes: Axes) -> None:
    axes.set_yticks(range(len(CIFAR10.classes)), CIFAR10.classes)


def reliability(groups: Groups, arms: Sequence[str], leak: bool) -> Drawing:
    """Accuracy against the probability that the networks gave to what they said, in bins."""
    figure, axes = canvas("Reliability: is the network as often right as it is sure?", leak, 4.4)
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=":", label="perfectly calibrated")
    said = []
    for arm, trials in groups.items():
        i = arms.index(arm)
        sure, right = (np.concatenate([getattr(t, key) for t in trials]) for key in ("confidence", "right"))
        bins = calibration(sure, right)
        there = bins.counts > 0
        x, y, share = 100 * bins.confidence[there], 100 * bins.accuracy[there], bins.counts[there] / bins.counts.sum()
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        chance = [proportion_interval(bins.accuracy[k], bins.counts[k]) for k in np.flatnonzero(there)]
        axes.vlines(x, *100 * np.array(chance).T, color=colour, linewidth=3, alpha=0.3)
        axes.plot(x, y, color=colour, linewidth=1)
        axes.scatter(x, y, s=12 + 260 * share, color=colour, marker=marker, alpha=0.8)
        axes.plot([], [], color=colour, marker=marker, label=f"{shorten(arm)} (n = {len(trials)})")
        said.append(f"{arm} is {100 * right.mean():.1f} % right and {100 * sure.mean():.1f} % sure")
    axes.set_xlabel("probability of the class that was given (%)")
    axes.set_ylabel("right (%)")
    legend(figure, axes)
    averages = "; ".join(said)
    caption = (
        f"On average {averages}. Below the dotted line a network is too sure of itself, above it not sure enough. "
        f"{BINS} bins of equal width, all trials of an arm together; larger marks hold more images. Bars: 95 % "
        f"intervals by the number of images alone, each counted once for every trial{mark(leak)}."
    )
    alt = f"Reliability diagram; on average {averages}{mark(leak)}."
    return Drawing("reliability", "Calibration", caption, alt, figure)


def confused_images(arm: str, trials: Sequence[Tested], images: Images, leak: bool) -> Drawing:
    """The images behind the most confused pairs, a row a pair: those that most trials, and the surest, got wrong so."""
    pairs = most_confused(trials)
    figure = _photographs(f"{shorten(arm)}: what it confuses most", 0.5 + 1.02 * len(pairs), leak)
    rows = figure.subplots(len(pairs), squeeze=False)[:, 0]
    said = []
    for row, pair in zip(rows, pairs, strict=True):
        chosen = _strongest(trials, pair.label, pair.taken)[:IMAGES_A_ROW]
        _row(row, images, chosen)
        label, taken = CIFAR10.classes[pair.label], CIFAR10.classes[pair.taken]
        title = f"{label} taken for {taken}: {100 * pair.share:.1f} % of the class"
        row.set_title(title, loc="left", fontsize=9)
        said.append(f"{title} (official test images {_numbers(trials[0], chosen)})")
    caption = (
        f"The images of each pair that most trials of {arm}, and the surest of them, got wrong in this way{mark(leak)}."
    )
    alt = f"Test images that {arm} gets wrong: {'; '.join(said)}{mark(leak)}."
    return Drawing(f"arm-{arm}-confused", f"{arm}: most confused images", caption, alt, figure, photographs=True)


def only_one_right(
    arms: tuple[str, str], groups: tuple[Sequence[Tested], Sequence[Tested]], images: Images, leak: bool
) -> Drawing | None:
    """Images that every trial of the first arm gets right and every one of the second wrong; None without any."""
    (right, wrong), (winners, losers) = arms, groups
    split = np.all([t.right for t in winners], axis=0) & ~np.any([t.right for t in losers], axis=0)
    surest = np.mean([t.confidence for t in losers], axis=0)
    chosen = sorted(np.flatnonzero(split).tolist(), key=lambda i: -surest[i])[: ROWS_OF_EXAMPLES * IMAGES_A_ROW]
    if not chosen:
        return None
    starts = range(0, len(chosen), IMAGES_A_ROW)
    title = f"Right: {shorten(right, 18)}; wrong: {shorten(wrong, 18)}"
    figure = _photographs(title, 0.5 + 1.25 * len(starts), leak)
    labels, said = losers[0].tests.labels, losers[0].predicted
    for row, start in zip(figure.subplots(len(starts), squeeze=False)[:, 0], starts, strict=True):
        here = chosen[start : start + IMAGES_A_ROW]
        _row(row, images, here, [f"{CIFAR10.classes[labels[i]]}\nnot {CIFAR10.classes[said[i]]}" for i in here])
    share = f"{split.sum():,} of {len(split):,} images ({100 * split.mean():.1f} %)"
    which = f"every trial of {right} gets right and every trial of {wrong} wrong"
    caption = f"{share} are those that {which}; here those that {wrong} was surest of, with what {losers[0].trial} said"
    truth = ", ".join(f"{CIFAR10.classes[labels[i]]} not {CIFAR10.classes[said[i]]}" for i in chosen)
    alt = f"Test images that {which}: {truth} (official test images {_numbers(losers[0], chosen)}){mark(leak)}."
    name = f"examples-{right}-right-{wrong}-wrong"
    return Drawing(name, f"Only {right} gets right", f"{caption}{mark(leak)}.", alt, figure, photographs=True)


def _strongest(trials: Sequence[Tested], label: int, taken: int) -> list[int]:
    """The images of class `label` that were taken for `taken`: by how many trials, then how sure these were."""
    said = np.array([t.predicted == taken for t in trials]) & (trials[0].tests.labels == label)
    sure = (said * np.array([t.confidence for t in trials])).sum(0)
    votes = said.sum(0)
    return sorted(np.flatnonzero(votes).tolist(), key=lambda i: (-votes[i], -sure[i]))


def _photographs(title: str, height: float, leak: bool) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if leak:
        figure.supxlabel(LEAK, x=0.01, ha="left", color=VERMILLION, fontsize=9.5)
    return figure


def _row(axes: Axes, images: Images, chosen: Sequence[int], labels: Sequence[str] = ()) -> None:
    """Up to IMAGES_A_ROW images side by side, a pixel a pixel, with labels above them."""
    strip = np.full((CIFAR10.side, IMAGES_A_ROW * PITCH - GUTTER, 3), 255, np.uint8)
    for place, i in enumerate(chosen):
        strip[:, place * PITCH : place * PITCH + CIFAR10.side] = images[i]
    axes.imshow(strip, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_axis_off()
    for place, label in enumerate(labels):
        axes.text(place * PITCH + 16, -2, label, ha="center", va="bottom", fontsize=6.5)


def _numbers(tested: Tested, chosen: Sequence[int]) -> str:
    index = tested.tests.index
    return ", ".join(str(i if index is None else index[i]) for i in chosen)
