"""Paired tests of the trained networks of two arms on the same test images: of every two arms of a sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from raycifar.analysis.predictions import Predictions, Tested
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.formulas import LEAST_GROUPS, Paired, group_test, holm_of_known, mean_test
from raycifar.analysis.tables.images import NO_PREDICTIONS, left_out
from raycifar.analysis.tables.table import Cell, Column, Table, chance, count, figure, lacking, word
from raycifar.analysis.wording import NONE, percent

ALPHA = 0.05
EXACT, OF_MEANS = "McNemar, exact", "z of the means by image"
OF_GROUPS, TOO_FEW = "sign flips of whole groups", f"none: fewer than {LEAST_GROUPS} groups"
WHAT_IT_ASKS = (
    "On the images that networks of one side get right more often than those of the other. Of one network each "
    "McNemar's exact test; of several a z-test of their means by image. Both are two-sided and ask whether these "
    "networks are equally accurate on images like these, not whether they say the same; above 0.05 they may still "
    "differ. They do not compare ways of training: networks of one recipe and two seeds may differ, too. The intervals "
    "over seeds do."
)
WHAT_GROUPS_ASK = (
    "On the images that networks of one side get right more often than those of the other. Images of one group are no "
    "independent cases, so whole groups are compared: were both sides equally accurate, each group's difference might "
    "as well have the other sign (sign flips, two-sided). That compares these networks, not ways of training."
)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The networks of two arms, and the test of them; `adjusted` is p after Holm for all `size` pairs of a table."""

    a: Sequence[Tested]
    b: Sequence[Tested]
    test: Paired
    adjusted: float
    size: int

    @property
    def images(self) -> int:
        return len(self.a[0].right)

    @property
    def difference(self) -> float:
        """The mean accuracy of `a` minus that of `b`, as a fraction."""
        a, b = (float(np.mean([tested.right.mean() for tested in side])) for side in (self.a, self.b))
        return a - b

    @property
    def n(self) -> tuple[int, int]:
        return len(self.a), len(self.b)

    @property
    def method(self) -> str:
        if self.a[0].tests.groups is not None:
            return TOO_FEW if math.isnan(self.test.p) else OF_GROUPS
        return EXACT if max(self.n) == 1 else OF_MEANS


def tests_of(pairs: Sequence[tuple[Sequence[Tested], Sequence[Tested]]]) -> list[PairedTest]:
    """The test of the networks of each two arms, adjusted after Holm for all of the pairs."""
    tests = [_test(*pair) for pair in pairs]
    adjusted, size = holm_of_known([test.p for test in tests])
    return [PairedTest(a, b, test, p, size) for (a, b), test, p in zip(pairs, tests, adjusted, strict=True)]


def _test(a: Sequence[Tested], b: Sequence[Tested]) -> Paired:
    ours, theirs = (np.stack([tested.right for tested in side]) for side in (a, b))
    groups = a[0].tests.groups
    return mean_test(ours, theirs) if groups is None else group_test(ours, theirs, groups)


def paired_tests(results: Results, predictions: Predictions) -> Table:
    """A row for each two arms, adjusted after Holm."""
    groups = predictions.by_arm(results.shown_arms)
    tests = tests_of(list(combinations(groups.values(), 2)))
    notes = _how_far_this_goes(groups, tests) if tests else [_why_no_pairs(groups)]
    columns: list[Column[PairedTest]] = [
        Column("arm A", lambda t: word(t.a[0].arm), is_name=True, in_terminal=True),
        Column("arm B", lambda t: word(t.b[0].arm), is_name=True, in_terminal=True),
        Column("networks", lambda t: Cell(f"{t.n[0]}, {t.n[1]}", t.n), parts=("a", "b")),
        Column("images", lambda t: count(t.images)),
        Column("A right more often", lambda t: count(t.test.only_a), in_terminal=True),
        Column("B right more often", lambda t: count(t.test.only_b), in_terminal=True),
        Column("A − B, points", lambda t: figure(t.difference, percent, "+"), key="a_minus_b_points"),
        Column("p", lambda t: chance(t.test.p)),
        Column("p after Holm", lambda t: chance(t.adjusted), in_terminal=True),
        Column("comparisons", lambda t: count(t.size) if t.size else lacking(NONE)),
        Column("test", lambda t: word(t.method), is_name=True),
    ]
    notes, leak = [*notes, *left_out(predictions)], leaks(results.trials)
    return Table.of("paired", "Paired tests on the same images", tests, columns, notes=notes, leak=leak)


def family_note(tests: Sequence[PairedTest]) -> str:
    """For how many pairs p is adjusted, and how many of them are shown to differ."""
    if not any(test.size for test in tests):
        return f"No p: with fewer than {LEAST_GROUPS} groups it would say nothing."
    below = sum(test.adjusted < ALPHA for test in tests)
    if len(tests) == 1:
        return f"The one pair is {'' if below else 'not '}shown to differ; it needs no adjustment."
    shown = f"{below or 'none'} of {len(tests)} shown to differ"
    return f"p adjusted after Holm for the {len(tests)} pairs of this table. Below {ALPHA:g}: {shown}."


def what_is_asked(tests: Sequence[PairedTest]) -> list[str]:
    """What the tests ask, and how many of them are shown to differ."""
    grouped = tests[0].a[0].tests.groups is not None
    return [WHAT_GROUPS_ASK if grouped else WHAT_IT_ASKS, family_note(tests)]


def _how_far_this_goes(groups: dict[str, list[Tested]], tests: Sequence[PairedTest]) -> list[str]:
    notes = what_is_asked(tests)
    if len(groups) > 2:
        notes.append("Rows that name one arm share its networks: they do not confirm each other.")
    single = [arm for arm, trials in groups.items() if len(trials) == 1]
    if single:
        notes.append(
            f"How far this goes: {', '.join(single)} {'has' if len(single) == 1 else 'have'} one tested trial (n = 1), "
            "so the test compares trained networks, not ways of training. Another seed could fall elsewhere; only "
            "several seeds of each arm would tell."
        )
    return notes


def _why_no_pairs(groups: dict[str, list[Tested]]) -> str:
    if not groups:
        return NO_PREDICTIONS
    return f"Only {next(iter(groups))} has tested trials with predictions: there is no other arm to compare it with."
