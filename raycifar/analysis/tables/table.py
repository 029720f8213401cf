"""What every table is made of: records, and columns that make a cell of each; a cell is a text and plain values.

The text is for people: terminal, Markdown and HTML. The values are for machines: the CSV files.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from raycifar.analysis.statistics.contrasts import Estimate
from raycifar.analysis.statistics.formulas import APART, SHARE, Sample
from raycifar.analysis.wording import (
    CUT_NOTE,
    NONE,
    Format,
    cut_span,
    interval,
    is_number,
    n_of,
    probability,
    whole,
)
from raycifar.texts import plain

NOTHING_FINISHED = "No trial has finished: this table needs tested trials."
MOST_ROWS = 60  # that a reader is shown
MOST_COLUMNS, LONGEST_WORD = 12, 24  # that fit on paper

Value = str | float | None  # None: no value
Record = TypeVar("Record")

RANGE = ("low", "high")
TRIALS = ("", "of")  # how many of the planned ones
MEAN_AND_RANGE = ("mean", "low", "high", "n", "of")  # the mean of n trials of how many
MEAN_AND_SD = ("", "sd", "n")
MEAN_AND_BOTH = (*MEAN_AND_SD, "seeds_low", "seeds_high", "images_low", "images_high", "covers")
WITH_IMAGES = ("low", "high", "covers")  # an interval, and which of the following it covers
SEEDS_AND_IMAGES, ONE_NETWORK, TWO_NETWORKS = "seeds and images", "this network alone", "these two networks alone"


@dataclass(frozen=True, slots=True)
class Cell:
    """`values` has one entry for each of its column's parts."""

    text: str
    values: tuple[Value, ...]
    is_cut: bool = False  # it shows an interval with the sign CUT


def word(text: str) -> Cell:
    return Cell(plain(text), (text,))


def figure(value: float, show: Format, sign: str = "") -> Cell:
    """A number, or NONE where there is none."""
    return Cell(show(value, sign), (show.plain(value),))


def count(value: int) -> Cell:
    return figure(int(value), whole)


def trials_of(counted: int, planned: int) -> Cell:
    """A column of TRIALS: "3", or "2 of 3" where some are missing."""
    return Cell(f"{counted:,} of {planned:,}" if counted < planned else f"{counted:,}", (counted, planned))


def lacking(text: str, parts: int = 1) -> Cell:
    """A text in the place of a number."""
    return Cell(text, (None,) * parts)


def range_of(values: Sample, show: Format, sign: str = "") -> Cell:
    """A column of RANGE: the interval of the mean, or why there is none."""
    return Cell(interval(values, show, sign), (show.plain(values.low), show.plain(values.high)), values.is_cut)


def over_seeds(of: Estimate, show: Format, sign: str = "+", bounds: tuple[float, float] = APART) -> Cell:
    """A column of RANGE: the interval over seeds, on these images, cut at what such a number can be."""
    return range_of(cut_span(*of.seeds, bounds), show, sign) if of.seeds.known else lacking(NONE, len(RANGE))


def chance(p: float) -> Cell:
    """A p-value, or NONE where there is none."""
    return Cell(probability(p), (p,)) if is_number(p) else lacking(NONE)


def with_images(of: Estimate, show: Format, sign: str = "", bounds: tuple[float, float] = APART) -> Cell:
    """A column of WITH_IMAGES: the interval with other test images; of a single network, that of this network alone."""
    alone = TWO_NETWORKS if of.pairs else ONE_NETWORK
    span, covers = (of.images, SEEDS_AND_IMAGES) if of.images.known else (of.networks, alone)
    if not span.known:
        return lacking(NONE, len(WITH_IMAGES))
    ends = cut_span(*span, bounds)
    this = f" ({covers})" if covers == alone else ""
    values = (show.plain(ends.low), show.plain(ends.high), covers)
    return Cell(f"{interval(ends, show, sign)}{this}", values, ends.is_cut)


def mean_and_range(values: Sample, planned: int, show: Format) -> Cell:
    """A column of MEAN_AND_RANGE: the mean, its interval if it has one, and of how many of the `planned` trials."""
    plain = (*(show.plain(value) for value in (values.mean, values.low, values.high)), values.n, planned)
    n = n_of(values.n, planned)
    if values.has_interval:
        return Cell(f"{show(values.mean)} ({interval(values, show)}, {n})", plain, values.is_cut)
    return Cell(f"{show(values.mean)} ({n})" if values.n else NONE, plain)


def mean_and_both(values: Sample, of: Estimate, show: Format) -> Cell:
    """A column of MEAN_AND_BOTH: the mean of shares ± standard deviation, in brackets with other test images."""
    plain = mean_and_sd(values, show)
    seeds, images = over_seeds(of, show, "", SHARE), with_images(of, show, bounds=SHARE)
    brackets = f" ({images.text.removesuffix(f' ({ONE_NETWORK})')})" if images.values[-1] else ""
    return Cell(plain.text + brackets, (*plain.values, *seeds.values, *images.values), bool(brackets) and images.is_cut)


def mean_and_sd(values: Sample, show: Format, sign: str = "", alone: str = "") -> Cell:
    """A column of MEAN_AND_SD; `alone` follows the mean where there is one value, which has no deviation."""
    plain = (show.plain(values.mean), show.plain(values.sd), values.n)
    spread = f" ± {show(values.sd)}" if values.n > 1 else alone
    return Cell(show(values.mean, sign) + spread if values.n else NONE, plain)


@dataclass(frozen=True, slots=True)
class Column(Generic[Record]):
    """One cell of each record, under a heading.

    `key` is the heading's form in CSV files, made from it where none is given. A column of several `parts` becomes as
    many there, named key_part.
    """

    heading: str
    cell: Callable[[Record], Cell] = field(compare=False)
    is_name: bool = False  # words, not numbers
    in_terminal: bool = False
    key: str | None = None
    parts: tuple[str, ...] = ("",)

    @property
    def csv_headings(self) -> list[str]:
        key = machine_name(self.heading) if self.key is None else self.key
        return ["_".join(name for name in (key, part) if name) for part in self.parts]


def machine_name(heading: str) -> str:
    """ "training time, s" -> "training_time_s"; "test %" -> "test_percent"."""
    return re.sub(r"\W+", "_", heading.lower().replace("%", " percent ")).strip("_")


@dataclass(frozen=True, slots=True)
class Table:
    """Cells by row and column, with a title, notes below, and the mark of a leak."""

    key: str
    title: str
    columns: list[Column[Any]]
    cells: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    leak: bool = False
    urgent: frozenset[int] = frozenset()  # rows of failed trials, shown before any other where not all can be
    chosen: tuple[int, ...] = ()  # the rows that alone are shown, in this order; of none, as many as can be read
    choice: str = ""  # which rows these are
    groups: tuple[tuple[int, ...], ...] = ()  # rows that belong together; the first groups, whole, where not all can be

    @classmethod
    def of(  # noqa: PLR0913 - what a table has
        cls,
        key: str,
        title: str,
        records: Iterable[Record],
        columns: Sequence[Column[Record]],
        *,
        notes: Sequence[str] = (),
        leak: bool = False,
        is_urgent: Callable[[Record], bool] = lambda _: False,
    ) -> "Table":
        """One row a record; those that are urgent are shown before any other where not all can be."""
        rows = list(records)
        cells = [[column.cell(record) for column in columns] for record in rows]
        urgent = frozenset(i for i, record in enumerate(rows) if is_urgent(record))
        cut = [CUT_NOTE] if any(cell.is_cut for row in cells for cell in row) else []
        return cls(key, title, list(columns), cells, [*notes, *cut], leak, urgent)

    @property
    def headings(self) -> list[str]:
        return [column.heading for column in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        """The texts."""
        return [[cell.text for cell in row] for row in self.cells]

    @property
    def is_crowded(self) -> bool:
        """Whether it fits on paper only if words are broken."""
        words = [word for row in (self.headings, *self.rows) for text in row for word in text.split()]
        return len(self.columns) > MOST_COLUMNS or max(map(len, words), default=0) > LONGEST_WORD

    def head(self, most: int = MOST_ROWS) -> "Table":
        """At most so many rows, and a note that says where the others are.

        Chosen rows are shown alone, or the first groups of rows that have room. Else urgent rows come first, but leave
        half of the room to the others: evenly taken, so that every arm shows.
        """
        if self.chosen:
            more = f"{len(self.chosen)} of {len(self.cells):,} rows: {self.choice}; all are in tables/{self.key}.csv."
            return replace(self, cells=[self.cells[i] for i in self.chosen], chosen=(), notes=[more, *self.notes])
        if len(self.cells) <= most:
            return self
        if whole := _first_groups(self.groups, most):
            more = f"{len(whole)} of {len(self.cells):,} rows; all are in tables/{self.key}.csv."
            return replace(self, cells=[self.cells[i] for i in whole], groups=(), notes=[more, *self.notes])
        others = [i for i in range(len(self.cells)) if i not in self.urgent]
        first = sorted(self.urgent)[: max(most // 2, most - len(others))]
        room = most - len(first)
        evenly = others if len(others) <= room else [others[i * len(others) // room] for i in range(room)]
        cells = [self.cells[i] for i in sorted([*first, *evenly])]
        failed = f"the first {len(first)} of {len(self.urgent):,} failed trials, the others " if first else ""
        more = f"{most} of {len(self.cells):,} rows, {failed}evenly taken; all are in tables/{self.key}.csv."
        return replace(self, cells=cells, urgent=frozenset(), notes=[more, *self.notes])

    def for_terminal(self) -> "Table":
        """The columns that a terminal has room for; none where the table is not for it."""
        chosen = [i for i, column in enumerate(self.columns) if column.in_terminal]
        columns = [self.columns[i] for i in chosen]
        return replace(self, columns=columns, cells=[[row[i] for i in chosen] for row in self.cells])

    def plain_rows(self) -> list[list[str]]:
        """Headings and rows for machines: plain numbers in the headings' units, nothing where there is none."""
        rows = [[plain_text(value) for cell in row for value in cell.values] for row in self.cells]
        return [[heading for column in self.columns for heading in column.csv_headings], *rows]


def _first_groups(groups: Sequence[Sequence[int]], most: int) -> list[int]:
    """The rows of as many first groups as there is room for, in the table's order."""
    rows: list[int] = []
    for group in groups:
        if len(rows) + len(group) > most:
            break
        rows += group
    return sorted(rows)


def plain_text(value: Value) -> str:
    """As a machine reads it back: no separators, no rounding to be seen."""
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)
