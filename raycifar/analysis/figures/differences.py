"""Contrasts -> Figure: how far apart sweeps are in test accuracy, arm by arm, with intervals."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from raycifar.analysis.figures.style import BLUE, GREY, Drawing, canvas, mark, shorten, style
from raycifar.analysis.results import Results
from raycifar.analysis.several_sweeps import Contrast, any_leaks, contrast, finished_arm, lettered, shared_arms
from raycifar.analysis.wording import NONE, between, percent

MOST_DRAWN = 40  # rows; the table has all
TITLE = "Difference in test accuracy"


def difference_figures(sweeps: Sequence[Results]) -> list[Drawing]:
    """The differences in test accuracy with their intervals, where there is one to draw."""
    contrasts = [
        (
            f"{shorten(arm)}, {letter} − A",
            contrast(finished_arm(sweeps[0], arm), finished_arm(other, arm), "test_accuracy"),
        )
        for arm in shared_arms(sweeps)
        for letter, other in lettered(sweeps)[1:]
    ]
    tested = [(name, difference) for name, difference in contrasts if min(difference.base.n, difference.other.n)]
    return [_forest(tested, any_leaks(sweeps))] if tested else []


def _forest(contrasts: Sequence[tuple[str, Contrast]], leak: bool) -> Drawing:
    drawn, rest = contrasts[:MOST_DRAWN], len(contrasts) - MOST_DRAWN
    with style():
        figure, axes = canvas(TITLE, leak, 1.4 + 0.4 * len(drawn) + 0.3 * leak)
        for y, (_, difference) in enumerate(drawn):
            _row(axes, y, difference)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_yticks(range(len(drawn)), [name for name, _ in drawn])
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.set_xlabel("percentage points")
    caption = "Point: mean difference; line: its 95 % interval; an open point has no interval"
    caption += f"; {rest:,} more are in the table{mark(leak)}." if rest > 0 else f"{mark(leak)}."
    values = "; ".join(f"{name}: {_in_words(difference)}" for name, difference in drawn)
    alt = f"Differences in percentage points with intervals. {values}{mark(leak)}."
    return Drawing("differences", TITLE, caption, alt, figure)


def _row(axes: Axes, y: int, difference: Contrast) -> None:
    if difference.has_interval:
        axes.plot([100 * difference.low, 100 * difference.high], [y, y], color=BLUE)
    axes.plot(100 * difference.value, y, "o", color=BLUE, markerfacecolor=BLUE if difference.has_interval else "white")


def _in_words(difference: Contrast) -> str:
    range_ = between(difference.low, difference.high, percent, "+") if difference.has_interval else NONE
    return f"{percent(difference.value, '+')} ({range_})"
