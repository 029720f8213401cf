"""Predictions and test images -> Figure: photographs of what is confused, and of what one arm alone gets right."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from raycifar.analysis.figures.style import VERMILLION, WIDTH, Drawing, mark, shorten
from raycifar.analysis.predictions import Images, Tested, most_confused
from raycifar.analysis.results import LEAK

IMAGES_A_ROW = 8
GUTTER = 3  # pixels between two images
ROWS_OF_EXAMPLES = 2
MOST_PIXELS = 64  # a side of an image as it is shown
LONGEST_TITLE = 90  # characters
LONGEST_NAME = 12  # characters of a class above an image


def confused_images(arm: str, trials: Sequence[Tested], images: Images, leak: bool) -> Drawing:
    """The images behind the most confused pairs, a row a pair: first those that most trials confused most surely."""
    pairs = most_confused(trials)
    figure = _photographs(f"{shorten(arm)}: what it confuses most", 0.5 + 1.02 * len(pairs), leak)
    rows = figure.subplots(len(pairs), squeeze=False)[:, 0]
    titles, names = [], trials[0].tests.facts.classes
    for row, pair in zip(rows, pairs, strict=True):
        chosen = _strongest(trials, pair.label, pair.predicted)[:IMAGES_A_ROW]
        _row(row, images, chosen)
        title = f"{names[pair.label]} classified as {names[pair.predicted]}: {100 * pair.share:.1f} % of the class"
        row.set_title(shorten(title, LONGEST_TITLE), loc="left", fontsize=9)
        titles.append(f"{title} (official test images {_numbers(trials[0], chosen)})")
    caption = (
        f"Images of each pair: first those that most trials of {arm} classified so, of these first those of which the "
        f"trials were surest{mark(leak)}."
    )
    alt = f"Test images that {arm} gets wrong: {'; '.join(titles)}{mark(leak)}."
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
    title = f"{shorten(right, 18)} is right, {shorten(wrong, 18)} is wrong"
    figure = _photographs(title, 0.5 + 1.25 * len(starts), leak)
    labels, predicted, names = losers[0].tests.labels, losers[0].predicted, losers[0].tests.facts.classes
    for row, start in zip(figure.subplots(len(starts), squeeze=False)[:, 0], starts, strict=True):
        here = chosen[start : start + IMAGES_A_ROW]
        _row(row, images, here, [_both(names[labels[i]], names[predicted[i]]) for i in here])
    which = f"every trial of {right} gets right and every trial of {wrong} wrong"
    caption = (
        f"{split.sum():,} of {len(split):,} images ({100 * split.mean():.1f} %) are those that {which}. Shown are "
        f"those of which {wrong} was surest, with the true class and the one that {losers[0].trial} gave"
    )
    truth = "; ".join(f"{names[labels[i]]}, not {names[predicted[i]]}" for i in chosen)
    alt = f"Test images that {which}: {truth} (official test images {_numbers(losers[0], chosen)}){mark(leak)}."
    name = f"examples-{right}-right-{wrong}-wrong"
    return Drawing(name, f"Only {right} gets right", f"{caption}{mark(leak)}.", alt, figure, photographs=True)


def _both(true: str, said: str) -> str:
    return f"{shorten(true, LONGEST_NAME)}\nnot {shorten(said, LONGEST_NAME)}"


def _strongest(trials: Sequence[Tested], label: int, predicted: int) -> list[int]:
    """The images of class `label` that were classified as `predicted`: by how many trials, then how sure these were."""
    confused = np.array([t.predicted == predicted for t in trials]) & (trials[0].tests.labels == label)
    sure = (confused * np.array([t.confidence for t in trials])).sum(0)
    votes = confused.sum(0)
    return sorted(np.flatnonzero(votes).tolist(), key=lambda i: (-votes[i], -sure[i]))


def _photographs(title: str, height: float, leak: bool) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if leak:
        figure.supxlabel(LEAK, x=0.01, ha="left", color=VERMILLION, fontsize=9.5)
    return figure


def _row(axes: Axes, images: Images, chosen: Sequence[int], labels: Sequence[str] = ()) -> None:
    """Up to IMAGES_A_ROW images side by side, with labels above them: a pixel a pixel, larger ones made smaller."""
    pictures = [smaller(images[i]) for i in chosen]
    side = len(pictures[0])
    pitch = side + GUTTER
    strip = np.full((side, IMAGES_A_ROW * pitch - GUTTER, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        strip[:, place * pitch : place * pitch + side] = picture
    axes.imshow(strip, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_axis_off()
    for place, label in enumerate(labels):
        axes.text(place * pitch + side // 2, -2, label, ha="center", va="bottom", fontsize=6.5)


def smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most MOST_PIXELS a side: as many as a screen shows of it here; the report holds each image twice."""
    if len(image) <= MOST_PIXELS:
        return image
    return np.asarray(Image.fromarray(image).resize((MOST_PIXELS, MOST_PIXELS), Image.Resampling.BOX))


def _numbers(tested: Tested, chosen: Sequence[int]) -> str:
    index = tested.tests.index
    return ", ".join(str(i if index is None else index[i]) for i in chosen)
