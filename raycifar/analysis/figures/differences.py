"""Contrasts -> Figure: how far apart sweeps are in test accuracy, arm by arm, with intervals."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from raycifar.analysis.figures.style import BLUE, GREY, Drawing, canvas, mark, shorten, style
from raycifar.analysis.results import Results
from raycifar.analysis.several_sweeps import AccuracyContrast, any_leaks
from raycifar.analysis.statistics.contrasts import Estimate
from raycifar.analysis.wording import NONE, between, percent

MOST_DRAWN = 40  # rows; the table has all
TITLE = "Difference in test accuracy"


def difference_figures(sweeps: Sequence[Results], contrasts: Sequence[AccuracyContrast]) -> list[Drawing]:
    """The differences in test accuracy with both intervals, where there is one to draw."""
    return [_forest(contrasts, any_leaks(sweeps))] if contrasts else []


def _forest(contrasts: Sequence[AccuracyContrast], leak: bool) -> Drawing:
    drawn, rest = contrasts[:MOST_DRAWN], len(contrasts) - MOST_DRAWN
    names = [f"{shorten(one.arm)}, {one.letter} − A" for one in drawn]
    with style():
        figure, axes = canvas(TITLE, leak, 1.4 + 0.4 * len(drawn) + 0.3 * leak)
        for y, one in enumerate(drawn):
            _row(axes, y, one.of)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_yticks(range(len(drawn)), names)
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.set_xlabel("percentage points")
    caption = (
        "Point: mean difference; thick line: its 95 % interval over seeds; thin line: with other test images, too, "
        "dotted where it is of two single networks; an open point is of a single trial, with an interval only if its "
        "seeds spread as the others do"
    )
    caption += f"; {rest:,} more are in the table{mark(leak)}." if rest > 0 else f"{mark(leak)}."
    values = "; ".join(f"{name}: {_in_words(one.of)}" for name, one in zip(names, drawn, strict=True))
    alt = f"Differences in percentage points with intervals. {values}{mark(leak)}."
    return Drawing("differences", TITLE, caption, alt, figure)


def _row(axes: Axes, y: int, of: Estimate) -> None:
    """An interval over seeds as a thick line, the wider one as a thin one below it."""
    if of.seeds.known:
        axes.plot([100 * end for end in of.seeds], [y, y], color=BLUE, linewidth=3.5)
    if of.images.known:
        axes.plot([100 * end for end in of.images], [y, y], color=BLUE, linewidth=1)
    if of.networks.known:
        axes.plot([100 * end for end in of.networks], [y, y], color=BLUE, linewidth=1, linestyle=":")
    filled = of.seeds.known and not of.is_assumed
    axes.plot(100 * of.mean, y, "o", color=BLUE, markersize=8, markerfacecolor=BLUE if filled else "white")


def _in_words(of: Estimate) -> str:
    range_ = between(*of.seeds, percent, "+") if of.seeds.known else NONE
    wide = f"; with other test images {between(*of.images, percent, '+')}" if of.images.known else ""
    alone = f"; these two networks alone {between(*of.networks, percent, '+')}" if of.networks.known else ""
    return f"{percent(of.mean, '+')} ({range_}{wide}{alone})"
