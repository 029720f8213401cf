"""DataFrame -> Figure: where the time went. Combined training time by arm, beside the wall clock of the sweep."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from raycifar.analysis.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    OTHERS,
    PURPLE,
    Drawing,
    canvas,
    in_words,
    legend,
    mark,
    shorten,
    time_unit,
)
from raycifar.analysis.results import leaks
from raycifar.analysis.wording import TRAINING_TIME

MOST_PARTED = 40  # trials of an arm whose bars are parted
HEIGHT = 0.62  # of a bar, where rows are 1 apart
PHASES = {
    "train": ("training steps", BLUE),
    "val": ("validation", ORANGE),
    "checkpoint": ("checkpointing", GREEN),
    "test": ("test", PURPLE),
}


def time_by_arm(trials: pd.DataFrame, arms: Sequence[str], wall_seconds: float) -> Drawing:
    """Every arm's training time, trial after trial and phase by phase, its start-up apart; below, the wall clock."""
    leak = leaks(trials)
    trials = trials.assign(arm=trials["arm"].where(trials["arm"].isin(arms), OTHERS))
    arms = [arm for arm in [*arms, OTHERS] if arm in set(trials["arm"])]
    figure, axes = canvas("Combined time by arm, and the sweep's wall clock", leak, 2.0 + 0.5 * len(arms))
    spent = trials.groupby("arm")["own_seconds"].sum()
    startup = trials.groupby("arm")["startup_seconds"].sum()
    longest = max(float((spent + startup).max()), wall_seconds)
    unit, name = time_unit(longest)
    for y, arm in enumerate(arms):
        end = _stack(axes, trials[trials["arm"] == arm], y, unit)
        axes.barh(y, startup[arm] / unit, left=end, height=HEIGHT, color="white", edgecolor=GREY, hatch="////")
        text = f"{in_words(spent[arm])}\n+ {in_words(startup[arm])} start-up"
        _beside(axes, text, end + startup[arm] / unit, y)
    axes.barh(len(arms), wall_seconds / unit, height=HEIGHT, color="#3A3A3A")
    _beside(axes, in_words(wall_seconds), wall_seconds / unit, len(arms))
    axes.set_yticks(range(len(arms) + 1), [*(_counted(trials, arm) for arm in arms), "wall clock of\nthe sweep"])
    axes.set_ylim(len(arms) + 0.5, -0.5)
    axes.set_xlim(0, 1.45 * longest / unit)
    axes.set_xlabel(f"time ({name})")
    axes.grid(visible=False, axis="y")
    legend(figure, axes, _key())
    caption = (
        f"{in_words(spent.sum())} of training time and {in_words(startup.sum())} of start-up in "
        f"{in_words(wall_seconds)} of wall clock. Training time: {TRAINING_TIME}. Each arm's trials follow one "
        "another, with gaps between them. The wall clock is shorter than the sum where trials ran at "
        f"once{mark(leak)}."
    )
    sums = "; ".join(f"{arm} {spent[arm]:,.0f} s and {startup[arm]:,.0f} s of start-up" for arm in arms)
    alt = f"Combined training time by arm: {sums}. Wall clock of the sweep: {wall_seconds:,.0f} s."
    return Drawing("time-by-arm", "Combined time and wall clock", caption, alt, figure)


def _beside(axes: Axes, text: str, x: float, y: int) -> None:
    """A text right of a bar that ends at `x`."""
    axes.annotate(text, (x, y), (5, 0), textcoords="offset points", va="center")


def _key() -> list[Patch]:
    phases = [Patch(color=colour, label=label) for label, colour in PHASES.values()]
    return [*phases, Patch(facecolor="white", edgecolor=GREY, hatch="////", label="start-up")]


def _stack(axes: Axes, trials: pd.DataFrame, y: int, unit: float) -> float:
    """Draw one arm's trials and phases, of many trials their sum; returns where they end."""
    if len(trials) > MOST_PARTED:
        trials = trials[[f"{phase}_seconds" for phase in PHASES]].sum().to_frame().T
    end = 0.0
    for i, (_, trial) in enumerate(trials.iterrows()):
        if i:
            axes.plot(
                [end, end],
                [y - HEIGHT / 2, y + HEIGHT / 2],
                color="white",
                linewidth=2.0,
                zorder=3,
                solid_capstyle="butt",
            )
        for phase, (_, colour) in PHASES.items():
            width = float(trial[f"{phase}_seconds"]) / unit
            axes.barh(y, width, left=end, height=HEIGHT, color=colour)
            end += width
    return end


def _counted(trials: pd.DataFrame, arm: str) -> str:
    return f"{shorten(arm, 18)}\n(n = {int((trials['arm'] == arm).sum())})"
