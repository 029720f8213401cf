"""Sweeps side by side, image by image: what two networks of one arm, and of one seed, say of the same test images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from raycifar.analysis.contrasts import shared_arms
from raycifar.analysis.predictions import Predictions, Tested
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.tables.accuracy import Table
from raycifar.analysis.tables.images import ALPHA, image_by_image, left_out, median_trial

COLUMNS = ["arm", "sweep", "its trial", "A's trial", "images", "this alone right", "A's alone right", "less A, points"]
NOTHING = (
    "There is nothing to pair: this needs predictions of one arm, in A and another sweep, on the same test images."
)


class Pair(NamedTuple):
    """A trial of another sweep and the one of A that it is compared with."""

    letter: str
    other: Tested
    base: Tested


def image_tests(sweeps: Sequence[Results], predictions: Sequence[Predictions], letters: Sequence[str]) -> Table:
    """McNemar's exact test of the arms that A shares with another sweep, trials of one seed in pairs; A comes first."""
    pairs = [
        pair
        for arm in shared_arms(sweeps)
        for i in range(1, len(sweeps))
        if predictions[i].trials and predictions[0].trials and predictions[0].tests.same(predictions[i].tests)
        for pair in _pairs(letters[i], _of(arm, sweeps[i], predictions[i]), _of(arm, sweeps[0], predictions[0]))
    ]
    figures, adjusted = image_by_image([(pair.other, pair.base) for pair in pairs])
    rows = [
        [pair.other.arm, pair.letter, pair.other.trial, pair.base.trial, *row]
        for pair, row in zip(pairs, figures, strict=True)
    ]
    notes = [*(_notes(adjusted) if rows else [NOTHING]), *_apart(predictions, letters)]
    leak = any(leaks(results.trials) for results in sweeps)
    columns = [*COLUMNS, "p", "p after Holm"]
    return Table("images", "Paired tests on the same images", columns, rows, 4, (0, 1, 2, 5, 6, 9), notes, leak)


def _of(arm: str, results: Results, predictions: Predictions) -> dict[int, Tested]:
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


def _notes(adjusted: Sequence[float]) -> list[str]:
    surely = sum(p < ALPHA for p in adjusted)
    return [
        "Exact McNemar test, two-sided, on the images that one of two networks alone gets right; pairs of one seed, or "
        f"of the arms' median trials where no seed is in both; p adjusted after Holm for {len(adjusted)} "
        f"pair{'s' * (len(adjusted) != 1)}. Below {ALPHA:g}: {surely}. It says whether two trained networks differ, "
        "also with n = 1; whether two ways of training do, only several seeds tell."
    ]


def _apart(predictions: Sequence[Predictions], letters: Sequence[str]) -> list[str]:
    """Which trials and sweeps are not in the table, and why."""
    of = list(zip(letters, predictions, strict=False))
    notes = [f"{letter}: {note}" for letter, found in of for note in left_out(found)]
    silent = [letter for letter, found in of if not found.trials]
    if silent:
        notes.append(f"No finished trial has left readable predictions in {', '.join(silent)}.")
    first = predictions[0]
    elsewhere = [letter for letter, found in of if first.trials and found.trials and not found.tests.same(first.tests)]
    return notes + ([f"Not tested on A's images: {', '.join(elsewhere)}."] if elsewhere else [])
