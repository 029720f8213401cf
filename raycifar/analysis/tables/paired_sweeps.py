"""Paired tests of sweeps: the trained networks of one arm on the same test images."""

from collections.abc import Sequence
from typing import NamedTuple

from raycifar.analysis.predictions import Predictions
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.several_sweeps import shared_arms
from raycifar.analysis.tables.images import left_out
from raycifar.analysis.tables.paired import PairedTest, tests_of, what_is_asked
from raycifar.analysis.tables.table import Cell, Column, Table, chance, count, figure, word
from raycifar.analysis.wording import percent

NOTHING = (
    "There is nothing to pair: this needs predictions of one arm, in A and another sweep, on the same test images."
)


class SweepTest(NamedTuple):
    """The test of an arm's networks of sweep `letter` against those of A."""

    letter: str
    paired: PairedTest


def image_tests(sweeps: Sequence[Results], predictions: Sequence[Predictions], letters: Sequence[str]) -> Table:
    """The networks of the arms that A shares with another sweep, a row for each arm and sweep; A comes first."""
    pairs = [
        (letters[i], its, ours)
        for arm in shared_arms(sweeps)
        for i in range(1, len(sweeps))
        if predictions[i].trials and predictions[0].trials and predictions[0].tests.same(predictions[i].tests)
        if (its := predictions[i].by_arm([arm]).get(arm)) and (ours := predictions[0].by_arm([arm]).get(arm))
    ]
    tests = tests_of([(its, ours) for _, its, ours in pairs])
    records = [SweepTest(letter, test) for (letter, *_), test in zip(pairs, tests, strict=True)]
    columns: list[Column[SweepTest]] = [
        Column("arm", lambda t: word(t.paired.a[0].arm), is_name=True, in_terminal=True),
        Column("sweep", lambda t: word(t.letter), is_name=True, in_terminal=True),
        Column("networks", lambda t: Cell(f"{t.paired.n[0]}, {t.paired.n[1]}", t.paired.n), parts=("", "of_a")),
        Column("images", lambda t: count(t.paired.images)),
        Column("this right more often", lambda t: count(t.paired.test.only_a), in_terminal=True),
        Column("A right more often", lambda t: count(t.paired.test.only_b), in_terminal=True),
        Column("minus A, points", lambda t: figure(t.paired.difference, percent, "+")),
        Column("p", lambda t: chance(t.paired.test.p)),
        Column("p after Holm", lambda t: chance(t.paired.adjusted), in_terminal=True),
        Column("comparisons", lambda t: count(t.paired.size)),
        Column("test", lambda t: word(t.paired.method), is_name=True),
    ]
    notes = [*(what_is_asked(tests) if tests else [NOTHING]), *_not_included(predictions, letters)]
    leak = any(leaks(results.trials) for results in sweeps)
    return Table.of("images", "Paired tests on the same images", records, columns, notes=notes, leak=leak)


def _not_included(predictions: Sequence[Predictions], letters: Sequence[str]) -> list[str]:
    """Which trials and sweeps are not in the table, and why."""
    by_letter = list(zip(letters, predictions, strict=False))
    notes = [f"{letter}: {note}" for letter, its in by_letter for note in left_out(its)]
    silent = [letter for letter, its in by_letter if not its.trials]
    if silent:
        notes.append(f"No finished trial has left readable predictions in {', '.join(silent)}.")
    first = predictions[0]
    elsewhere = [letter for letter, its in by_letter if first.trials and its.trials and not its.tests.same(first.tests)]
    return notes + ([f"Not tested on A's images: {', '.join(elsewhere)}."] if elsewhere else [])
