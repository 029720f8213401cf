"""Every arm against the best one and against the baseline: differences in test accuracy, with as many comparisons."""

from typing import NamedTuple

from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.contrasts import Estimate
from raycifar.analysis.statistics.families import Comparison
from raycifar.analysis.tables.table import (
    RANGE,
    WITH_IMAGES,
    Cell,
    Column,
    Table,
    chance,
    count,
    figure,
    lacking,
    over_seeds,
    with_images,
    word,
)
from raycifar.analysis.tested_arms import ComparedArms
from raycifar.analysis.wording import NONE, is_number, percent

ALONE = "There is no other arm to compare with: this table needs two tested ones."
METHODS = (
    "Difference: the first arm minus the second. Over seeds: Welch's interval, on these images. With other test "
    "images: what other seeds and other images would change. One trial against several is taken to spread as they do, "
    "which nothing here tests. Each interval is a 95 % one by itself; p is that of the widest one. Pairs above: of all "
    "pairs of one trial each, those in which the first is above."
)
HOLM = (
    "These numbers picked the best arm, and the baseline's pairs are among all: p is adjusted after Holm for all {} "
    "pairs of arms, of which this table shows those with the best arm and those with the first one of the sweep file."
)


class Row(NamedTuple):
    """A comparison, and the trials of both arms."""

    one: Comparison
    n: tuple[int, int]


def differences(results: Results, tested: ComparedArms) -> Table:
    """A row for each comparison with the best arm, then with the baseline where that is another one."""
    arms, size = tested.arms, tested.family.size
    rows = [Row(one, (arms[one.a].n, arms[one.b].n)) for one in tested.family.comparisons]
    columns: list[Column[Row]] = [
        Column("arm", lambda r: word(r.one.a), is_name=True, in_terminal=True),
        Column("minus", lambda r: word(r.one.b), is_name=True, in_terminal=True),
        Column("n", lambda r: Cell(f"{r.n[0]}, {r.n[1]}", r.n), parts=("", "of_the_other")),
        Column("points", lambda r: figure(r.one.apart.mean, percent, "+"), in_terminal=True),
        Column("95 % interval over seeds", lambda r: over_seeds(r.one.apart, percent), in_terminal=True, parts=RANGE),
        Column(
            "with other test images",
            lambda r: with_images(r.one.apart, percent, "+"),
            in_terminal=True,
            parts=WITH_IMAGES,
        ),
        Column("p", lambda r: chance(r.one.apart.p)),
        Column("p after Holm", lambda r: chance(r.one.adjusted), in_terminal=True),
        Column("comparisons", lambda r: count(size) if is_number(r.one.apart.p) else lacking(NONE)),
        Column("pairs above", lambda r: _above(r.one.apart), parts=("", "of")),
        Column("compared", lambda r: word(compared_by(r.one.apart, r.n)), is_name=True),
    ]
    notes = [METHODS, *([HOLM.format(f"{size:,}")] if size > 1 else [])] if rows else [ALONE]
    title = "Every arm against the best and against the baseline"
    return Table.of("differences", title, rows, columns, notes=notes, leak=leaks(results.trials))


def _above(of: Estimate) -> Cell:
    return Cell(f"{of.above} of {of.pairs}", (of.above, of.pairs))


def compared_by(of: Estimate, n: tuple[int, int]) -> str:
    """By what a difference has its interval over seeds, or why it has none."""
    if not of.seeds.known:
        return "n = 1: no spread" if min(n) == 1 else "all equal: no interval"
    return "equal spread assumed" if of.is_assumed else "Welch"
