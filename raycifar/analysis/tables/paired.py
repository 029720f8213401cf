"""Paired tests of two trials on the same test images: of every two arms of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from raycifar.analysis.predictions import Predictions, Tested, median_trial
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.stats import Paired, holm, mcnemar
from raycifar.analysis.tables.images import NO_PREDICTIONS, left_out
from raycifar.analysis.tables.table import Cell, Column, Table, count, figure, word
from raycifar.analysis.wording import percent, probability

MOST_PAIRS = 30  # of trials that are tested against each other
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class PairedTest:
    """McNemar's exact test of two trials; `adjusted` is p after Holm's adjustment for all pairs of a table."""

    a: Tested
    b: Tested
    test: Paired
    adjusted: float

    @property
    def difference(self) -> float:
        """The accuracy of `a` minus that of `b`, as a fraction."""
        return (self.test.only_a - self.test.only_b) / len(self.a.right)


def tests_of(pairs: Sequence[tuple[Tested, Tested]]) -> list[PairedTest]:
    """McNemar's exact test of each two trials, adjusted after Holm for all of the pairs."""
    tests = [mcnemar(a.right, b.right) for a, b in pairs]
    adjusted = holm([test.p for test in tests])
    return [PairedTest(a, b, test, p) for (a, b), test, p in zip(pairs, tests, adjusted, strict=True)]


def chance(p: float) -> Cell:
    """A p-value."""
    return Cell(probability(p), (p,))


def paired_tests(results: Results, predictions: Predictions) -> Table:
    """McNemar's exact test of every two trials of different arms, adjusted after Holm."""
    groups = predictions.by_arm(results.shown_arms)
    pairs, selection = _pairs(groups)
    tests = tests_of(pairs)
    notes = [*_how_far_this_goes(groups, tests), *selection] if tests else [_why_no_pairs(groups)]
    columns: list[Column[PairedTest]] = [
        Column("trial A", lambda t: word(t.a.trial), is_name=True, in_terminal=True),
        Column("trial B", lambda t: word(t.b.trial), is_name=True, in_terminal=True),
        Column("images", lambda t: count(len(t.a.right))),
        Column("only A right", lambda t: count(t.test.only_a), in_terminal=True),
        Column("only B right", lambda t: count(t.test.only_b), in_terminal=True),
        Column("A − B, points", lambda t: figure(t.difference, percent, "+"), key="a_minus_b_points"),
        Column("p", lambda t: chance(t.test.p)),
        Column("p after Holm", lambda t: chance(t.adjusted), in_terminal=True),
    ]
    notes, leak = [*notes, *left_out(predictions)], leaks(results.trials)
    return Table.of("paired", "Paired tests on the same images", tests, columns, notes=notes, leak=leak)


def _pairs(groups: dict[str, list[Tested]]) -> tuple[list[tuple[Tested, Tested]], list[str]]:
    """Every two trials of different arms; of the arms' median trials alone, and a note, where those are too many."""
    pairs = _across(groups)
    if len(pairs) <= MOST_PAIRS:
        return pairs, []
    middle = {arm: [median_trial(trials)] for arm, trials in groups.items()}
    note = f"Of the {len(pairs):,} pairs only those of the arms' median trials (by test accuracy) are tested."
    return _across(middle), [note]


def _across(groups: dict[str, list[Tested]]) -> list[tuple[Tested, Tested]]:
    return [(a, b) for one, other in combinations(groups.values(), 2) for a in one for b in other]


def _how_far_this_goes(groups: dict[str, list[Tested]], tests: Sequence[PairedTest]) -> list[str]:
    below = sum(test.adjusted < ALPHA for test in tests)
    pairs = f"{below} of {len(tests)} pairs" if len(tests) > 1 else f"{'the' if below else 'not the'} one pair"
    notes = [
        "Exact McNemar test, two-sided, on the images that only one of two networks gets right; p adjusted after "
        f"Holm for {len(tests)} pairs. Below {ALPHA:g}: {pairs}. A small p says that these two trained networks differ."
    ]
    single = [arm for arm, trials in groups.items() if len(trials) == 1]
    if single:
        notes.append(
            f"How far this goes: {', '.join(single)} {'has' if len(single) == 1 else 'have'} one tested trial (n = 1), "
            "so the test compares trained networks, not ways of training. Another seed could fall elsewhere; only "
            "several seeds of each arm would tell."
        )
    else:
        fewest = min(len(trials) for trials in groups.values())
        notes.append(
            f"How far this goes: each arm has {fewest} trials or more, so the ways of training can be compared, too: "
            "by the intervals over seeds. These tests take each network as it is."
        )
    return notes


def _why_no_pairs(groups: dict[str, list[Tested]]) -> str:
    if not groups:
        return NO_PREDICTIONS
    return f"Only {next(iter(groups))} has tested trials with predictions: there is no other arm to compare it with."
