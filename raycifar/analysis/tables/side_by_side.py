"""The tables of sweeps side by side: the sweeps, each quantity by arm, and where recipes and surroundings differ."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from raycifar.analysis.predictions import Predictions
from raycifar.analysis.results import Results
from raycifar.analysis.several_sweeps import (
    ABSENT,
    LEAST_PAIRS,
    LETTERS,
    TIMES,
    AccuracyContrast,
    Contrast,
    Setting,
    all_arms,
    any_leaks,
    contrast,
    finished_arm,
    lettered,
    time_notes,
)
from raycifar.analysis.statistics.contrasts import Estimate, estimate
from raycifar.analysis.statistics.formulas import SHARE, Sample, sample
from raycifar.analysis.tables.table import (
    RANGE,
    TRIALS,
    WITH_IMAGES,
    Cell,
    Column,
    Table,
    chance,
    count,
    figure,
    lacking,
    over_seeds,
    trials_of,
    with_images,
    word,
)
from raycifar.analysis.tested_arms import arm_of
from raycifar.analysis.wording import NONE, TRAINING_TIME, Format, between, is_number, number, percent, seconds
from raycifar.texts import plain


class Quantity(NamedTuple):
    """A column of the trials that is compared in a table of its own."""

    title: str
    key: str
    show: Format
    in_terminal: bool = False
    note: str = ""


QUANTITIES = [
    Quantity(
        "Best validation accuracy, %",
        "best_val_accuracy",
        percent,
        note="The highest of the epochs, on the images that chose it: it flatters, and longer trainings more. Here and "
        "below, intervals are over seeds alone, each a 95 % one by itself.",
    ),
    Quantity("Flip-averaged test accuracy, %", "test_accuracy_flip", percent),
    Quantity("Test loss", "test_loss", number),
    Quantity(
        "Training time of a trial, s",
        "own_seconds",
        seconds,
        in_terminal=True,
        note=f"Training time: {TRAINING_TIME}. Times are not paired: a seed decides nothing of them.",
    ),
    Quantity("Training images a second", "images_per_second", seconds),
]


ACCURACY_NOTE = (
    "An arm is one configuration: all seeds of one recipe. Over finished trials. Over seeds, on these images: Welch's "
    f"interval; within seeds where both sweeps have the same {LEAST_PAIRS} or more. With other test images: what other "
    "seeds and other images would change; given where each trial left predictions of the same images. One trial "
    "against several is taken to spread as they do, which nothing here tests. Each interval is a 95 % one by itself; p "
    "is that of the widest one, after Holm for all comparisons of this table."
)


class Tested(NamedTuple):
    """An arm's test accuracies in one sweep, and how they compare with those of A."""

    arm: str
    letter: str
    values: Sample
    planned: int
    of: Estimate  # their mean
    contrast: AccuracyContrast | None


class Comparison(NamedTuple):
    """An arm's trials of one sweep against those of A."""

    arm: str
    letter: str
    contrast: Contrast


def sweeps_table(sweeps: Sequence[Results]) -> Table:
    """What is compared."""
    columns: list[Column[tuple[str, Results]]] = [
        Column("sweep", lambda s: word(s[0]), is_name=True, in_terminal=True),
        Column("name", lambda s: word(s[1].record.name), is_name=True, in_terminal=True),
        Column("hardware", lambda s: word(s[1].record.hardware), is_name=True, in_terminal=True),
        Column("finished", lambda s: _finished(s[1]), in_terminal=True, parts=("", "of")),
        Column("wall clock, s", lambda s: figure(s[1].wall_seconds, seconds), in_terminal=True),
    ]
    leak = any_leaks(sweeps)
    return Table.of("sweeps", "The sweeps", lettered(sweeps), columns, notes=time_notes(sweeps), leak=leak)


def _finished(results: Results) -> Cell:
    counts = len(results.finished), len(results.trials)
    return Cell(f"{counts[0]} of {counts[1]}", counts)


def quantity_table(sweeps: Sequence[Results], quantity: Quantity) -> Table:
    """One row an arm and sweep."""
    show, shown = quantity.show, quantity.in_terminal
    columns: list[Column[Comparison]] = [
        Column("arm", lambda c: word(c.arm), is_name=True, in_terminal=shown),
        Column("sweep", lambda c: word(c.letter), is_name=True, in_terminal=shown),
        Column("n", lambda c: count(c.contrast.other.n), in_terminal=shown),
        Column("mean", lambda c: figure(c.contrast.other.mean, show), in_terminal=shown),
        Column("sd", lambda c: figure(c.contrast.other.sd, show), in_terminal=shown),
        Column("minus A", lambda c: _if_compared(c, figure(c.contrast.value, show, "+")), in_terminal=shown),
        Column(
            "95 % interval",
            lambda c: _if_compared(c, _interval(c.contrast, show)),
            in_terminal=shown,
            key="minus_a",
            parts=RANGE,
        ),
        Column("compared", lambda c: _if_compared(c, word(c.contrast.method)), in_terminal=shown),
    ]
    records = [
        Comparison(arm, letter, contrast(finished_arm(sweeps[0], arm), finished_arm(results, arm), quantity.key))
        for arm in all_arms(sweeps)
        for letter, results in lettered(sweeps)
        if arm in results.arms
    ]
    notes = [quantity.note] if quantity.note else []
    notes += time_notes(sweeps) if quantity.key in TIMES else []
    key = quantity.key.replace("_", "-")
    return Table.of(key, quantity.title, records, columns, notes=notes, leak=any_leaks(sweeps))


def accuracy_table(
    sweeps: Sequence[Results], contrasts: Sequence[AccuracyContrast], predictions: Sequence[Predictions]
) -> Table:
    """One row an arm and sweep, with both intervals and with as many comparisons as were made."""
    columns: list[Column[Tested]] = [
        Column("arm", lambda t: word(t.arm), is_name=True, in_terminal=True),
        Column("sweep", lambda t: word(t.letter), is_name=True, in_terminal=True),
        Column("n", lambda t: trials_of(t.values.n, t.planned), in_terminal=True, parts=TRIALS),
        Column("mean", lambda t: figure(t.values.mean, percent), in_terminal=True),
        Column("sd", lambda t: figure(t.values.sd, percent), in_terminal=True),
        Column("minus A", lambda t: _of(t, lambda c: figure(c.of.mean, percent, "+")), in_terminal=True),
        Column(
            "95 % interval over seeds",
            lambda t: _of(t, lambda c: over_seeds(c.of, percent), len(RANGE)),
            in_terminal=True,
            key="minus_a",
            parts=RANGE,
        ),
        Column(
            "with other test images",
            lambda t: _of(t, lambda c: with_images(c.of, percent, "+"), len(WITH_IMAGES)),
            in_terminal=True,
            key="minus_a_with_other_test_images",
            parts=WITH_IMAGES,
        ),
        Column("p", lambda t: _of(t, lambda c: chance(c.of.p))),
        Column("p after Holm", lambda t: _of(t, lambda c: chance(c.adjusted)), in_terminal=True),
        Column("comparisons", lambda t: _of(t, lambda c: count(c.size) if is_number(c.of.p) else lacking(NONE))),
        Column("of the mean, over seeds", lambda t: over_seeds(t.of, percent, "", SHARE), key="mean", parts=RANGE),
        Column(
            "of the mean, with other test images",
            lambda t: with_images(t.of, percent, bounds=SHARE),
            key="mean_with_other_test_images",
            parts=WITH_IMAGES,
        ),
        Column("compared", lambda t: _of(t, lambda c: word(c.method)), is_name=True, in_terminal=True),
    ]
    made = {(contrast.arm, contrast.letter): contrast for contrast in contrasts}
    records = [
        _tested(arm, letter, finished_arm(results, arm), (results, its), made.get((arm, letter)))
        for arm in all_arms(sweeps)
        for (letter, results), its in zip(lettered(sweeps), predictions, strict=True)
        if arm in results.arms
    ]
    leak = any_leaks(sweeps)
    return Table.of("test-accuracy", "Test accuracy, %", records, columns, notes=[ACCURACY_NOTE], leak=leak)


def _tested(
    arm: str,
    letter: str,
    trials: pd.DataFrame,
    of: tuple[Results, Predictions],
    contrast: AccuracyContrast | None,
) -> Tested:
    values, (results, predictions) = sample(trials["test_accuracy"]), of
    its = estimate(arm_of(trials, predictions, results.facts.grouped)) if len(trials) else Estimate(math.nan)
    return Tested(arm, letter, values, int((results.trials["arm"] == arm).sum()), its, contrast)


def _of(tested: Tested, cell: Callable[[AccuracyContrast], Cell], parts: int = 1) -> Cell:
    return lacking(NONE, parts) if tested.contrast is None else cell(tested.contrast)


def _if_compared(comparison: Comparison, cell: Cell) -> Cell:
    """A is not compared with itself, nor another sweep with an A that has no such trials."""
    compares = comparison.letter != LETTERS[0] and comparison.contrast.base.n > 0
    return cell if compares else lacking(NONE, len(cell.values))


def _interval(difference: Contrast, show: Format) -> Cell:
    text = between(difference.low, difference.high, show, "+") if difference.has_interval else NONE
    return Cell(text, (show.plain(difference.low), show.plain(difference.high)))


def settings_table(key: str, title: str, sweeps: Sequence[Results], settings: Sequence[Setting]) -> Table:
    """The settings that differ, with a column for each sweep; the arms that they are of, if they are of some."""
    columns: list[Column[Setting]] = [
        Column("setting", lambda s: word(s.key), is_name=True, in_terminal=True),
        *(_value(i, letter) for i, (letter, _) in enumerate(lettered(sweeps))),
    ]
    if any(setting.arms for setting in settings):
        columns.insert(0, Column("arm", lambda s: word(", ".join(s.arms)), is_name=True, in_terminal=True))
    note = f"Only what differs is listed; {ABSENT}: this sweep has none." if settings else "Nothing differs."
    return Table.of(key, title, settings, columns, notes=[note], leak=any_leaks(sweeps))


def _value(i: int, letter: str) -> Column[Setting]:
    return Column(letter, lambda s: word(plain(s.values[i])), is_name=True, in_terminal=True, key=letter)
