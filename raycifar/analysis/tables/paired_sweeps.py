"""Paired tests of sweeps: two networks of one arm, and of one seed, on the same test images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from raycifar.analysis.predictions import Predictions, Tested, median_trial
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.several_sweeps import shared_arms
from raycifar.analysis.tables.images import left_out
from raycifar.analysis.tables.paired import ALPHA, PairedTest, chance, tests_of
from raycifar.analysis.tables.table import Column, Table, count, figure, word
from raycifar.analysis.wording import percent

NOTHING = (
    "There is nothing to pair: this needs predictions of one arm, in A and another sweep, on the same test images."
)


class Pair(NamedTuple):
    """A trial of another sweep and the one of A that it is compared with."""

    letter: str
    other: Tested
    base: Tested


class SweepTest(NamedTuple):
    """The test of a trial of sweep `letter` against one of A."""

    letter: str
    paired: PairedTest


def image_tests(sweeps: Sequence[Results], predictions: Sequence[Predictions], letters: Sequence[str]) -> Table:
    """McNemar's exact test of the arms that A shares with another sweep, trials of one seed in pairs; A comes first."""
    pairs = [
        pair
        for arm in shared_arms(sweeps)
        for i in range(1, len(sweeps))
        if predictions[i].trials and predictions[0].trials and predictions[0].tests.same(predictions[i].tests)
        for pair in _pairs(
            letters[i], _by_seed(arm, sweeps[i], predictions[i]), _by_seed(arm, sweeps[0], predictions[0])
        )
    ]
    tests = tests_of([(pair.other, pair.base) for pair in pairs])
    records = [SweepTest(pair.letter, test) for pair, test in zip(pairs, tests, strict=True)]
    columns: list[Column[SweepTest]] = [
        Column("arm", lambda t: word(t.paired.a.arm), is_name=True, in_terminal=True),
        Column("sweep", lambda t: word(t.letter), is_name=True, in_terminal=True),
        Column("its trial", lambda t: word(t.paired.a.trial), is_name=True, in_terminal=True),
        Column("A's trial", lambda t: word(t.paired.b.trial), is_name=True, key="trial_of_a"),
        Column("images", lambda t: count(len(t.paired.a.right))),
        Column("only this right", lambda t: count(t.paired.test.only_a), in_terminal=True),
        Column("only A's right", lambda t: count(t.paired.test.only_b), in_terminal=True, key="only_a_right"),
        Column("minus A, points", lambda t: figure(t.paired.difference, percent, "+")),
        Column("p", lambda t: chance(t.paired.test.p)),
        Column("p after Holm", lambda t: chance(t.paired.adjusted), in_terminal=True),
    ]
    notes = [*(_notes(tests) if tests else [NOTHING]), *_not_included(predictions, letters)]
    leak = any(leaks(results.trials) for results in sweeps)
    return Table.of("images", "Paired tests on the same images", records, columns, notes=notes, leak=leak)


def _by_seed(arm: str, results: Results, predictions: Predictions) -> dict[int, Tested]:
    """The arm's tested trials by their seed."""
    seeds = dict(zip(results.trials["trial"], results.trials["seed"], strict=True))
    return {int(seeds[tested.trial]): tested for tested in predictions.trials if tested.arm == arm}


def _pairs(letter: str, other: dict[int, Tested], base: dict[int, Tested]) -> Iterator[Pair]:
    """Those of the same seed; where there are none, the two median trials."""
    shared = [seed for seed in other if seed in base]
    for seed in shared:
        yield Pair(letter, other[seed], base[seed])
    if not shared and other and base:
        yield Pair(letter, median_trial(list(other.values())), median_trial(list(base.values())))


def _notes(tests: Sequence[PairedTest]) -> list[str]:
    below = sum(test.adjusted < ALPHA for test in tests)
    return [
        "Exact McNemar test, two-sided, on the images that only one of two networks gets right. Pairs are of one seed, "
        f"or of the arms' median trials where no seed is in both; p adjusted after Holm for {len(tests)} "
        f"pair{'s' * (len(tests) != 1)}. Below {ALPHA:g}: {below}. A small p says that two trained networks differ, "
        "also with n = 1; whether two ways of training differ, only several seeds tell."
    ]


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
