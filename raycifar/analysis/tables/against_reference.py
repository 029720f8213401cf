"""Ours beside the reference report's: one table, whose rows name the report's errors by letter."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from raycifar.analysis.reference import Reference, kind
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.contrasts import Arm, apart
from raycifar.analysis.statistics.formulas import sample
from raycifar.analysis.tables.differences import compared_by
from raycifar.analysis.tables.table import MEAN_AND_SD, Cell, Column, Table, lacking, mean_and_sd, word
from raycifar.analysis.wording import NONE, Format, above_or_below, between, number, percent, seconds

IMAGES_LEFT_OUT = "what other test images would change is left out, for want of the report's predictions"


class Compared(NamedTuple):
    """A column of the trials that both sides have."""

    name: str
    key: str
    show: Format
    sign: str = ""


COMPARED = [
    Compared("training accuracy, last epoch, % [d]", "train_accuracy", percent),
    Compared("training loss, last epoch [d]", "train_loss", number),
    Compared("validation accuracy, last epoch, % [a]", "val_accuracy", percent),
    Compared("best validation accuracy, % [a]", "best_val_accuracy", percent),
    Compared("validation loss, last epoch [a]", "val_loss", number),
    Compared("test accuracy, %", "test_accuracy", percent),
    Compared("test loss", "test_loss", number),
    Compared("training − test accuracy, points", "train_test_gap", percent, "+"),
    Compared("mean training accuracy over epochs, %", "mean_train_accuracy", percent),
]


class Side(NamedTuple):
    """An arm's finished trials, or the report's arm that starts from the same weights."""

    arm: str
    trials: pd.DataFrame
    planned_epochs: int
    kind: str  # the arm's name in the report
    reference: Reference


class Row(NamedTuple):
    """A quantity, and how each side's cell is made: ours and the report's."""

    name: str
    ours: Callable[[Side], Cell]
    report: Callable[[Side], Cell]


def against_reference(results: Results, reference: Reference) -> Table:
    """Every arm beside the report's arm that starts from the same weights."""
    sides = _sides(results, reference)
    columns: list[Column[Row]] = [Column("quantity", lambda row: word(row.name), is_name=True)]
    for side in sides:
        columns += _columns(side)
    rows = [*COUNTS, *map(_compared, COMPARED), *TIMES]
    notes = [
        *(_difference(side) for side in sides if len(side.trials)),
        "Mean ± standard deviation where n > 1.",
        *_held_out(results),
        "The report names neither its optimizer nor its learning rate: a difference may come from the recipe as much "
        "as from the protocol.",
        *results.time_notes,
    ]
    title = "Ours beside the reference report"
    return Table.of("reference", title, rows, columns, notes=notes, leak=leaks(results.trials))


def _sides(results: Results, reference: Reference) -> list[Side]:
    finished, specs = dict(results.finished_by_arm()), {trial.arm: trial for trial in results.spec.trials}
    none = results.finished.iloc[:0]
    return [
        Side(arm, finished.get(arm, none), specs[arm].epochs, kind(specs[arm]), reference) for arm in results.shown_arms
    ]


def _columns(side: Side) -> list[Column[Row]]:
    return [
        Column(f"{side.arm}, ours", lambda row: row.ours(side), key=f"{side.arm}_ours", parts=MEAN_AND_SD),
        Column(f"{side.kind}, report", lambda row: row.report(side), key=f"{side.arm}_report", parts=MEAN_AND_SD),
    ]


def _compared(quantity: Compared) -> Row:
    def cell(values: Sequence[float]) -> Cell:
        return mean_and_sd(sample(values), quantity.show, quantity.sign, alone=" (n = 1)")

    return Row(
        quantity.name,
        lambda side: cell(side.trials[quantity.key].tolist()),
        lambda side: cell(side.reference.values(side.kind, quantity.key)),
    )


def _single(text: str, value: float | None) -> Cell:
    """A number that is no mean."""
    return Cell(text, (value, None, None))


def _whole(value: int) -> Cell:
    return _single(str(value), value)


def _recomputed(side: Side, key: str) -> Cell:
    value = side.reference.recomputed.get(side.kind, {}).get(key)
    return _none(side) if value is None else _single(f"{seconds(value)} (recomputed)", value)


def _none(_: Side) -> Cell:
    return lacking(NONE, len(MEAN_AND_SD))


def _combined(side: Side) -> Cell:
    total = float(side.trials["own_seconds"].sum())
    return _single(seconds(total), total) if len(side.trials) else _none(side)


def _stated(side: Side) -> Cell:
    total = sum(side.reference.values(side.kind, "stated_seconds"))
    return _single(seconds(total), total)


COUNTS = [
    Row(
        "trials (n)",
        lambda side: _whole(len(side.trials)),
        lambda side: _whole(len(side.reference.values(side.kind, "test_accuracy"))),
    ),
    Row(
        "epochs planned",
        lambda side: _whole(side.planned_epochs),
        lambda side: _whole(side.reference.protocol["epochs"][side.kind]),
    ),
]
TIMES = [
    Row(
        "training time of a trial, s [b]",
        lambda side: mean_and_sd(sample(side.trials["own_seconds"]), seconds, alone=" (n = 1)"),
        lambda side: _recomputed(side, "seconds"),
    ),
    Row("combined training time, s [b]", _combined, lambda side: _recomputed(side, "combined_seconds")),
    Row("time as stated, s [b] [c]", _none, _stated),
]


def _difference(side: Side) -> str:
    """How far the mean test accuracies are apart: in words, for the table has them in two columns."""
    ours, report = (
        Arm(np.asarray(values, np.float64))
        for values in (side.trials["test_accuracy"], side.reference.values(side.kind, "test_accuracy"))
    )
    of = apart(ours, report)
    how = compared_by(of, (ours.n, report.n))
    seeds = f"95 % interval over seeds {between(*of.seeds, percent, '+')} points, {how}" if of.seeds.known else how
    start = f"{side.arm}: {above_or_below(of.mean)} the report's {percent(report.mean)} % in test accuracy"
    return f"{start} ({seeds}; {IMAGES_LEFT_OUT})."


def _held_out(results: Results) -> list[str]:
    trial = next((trial for trial in results.spec.trials if trial.data.validation == "holdout"), None)
    if trial is None:
        return []
    train, val, _ = trial.data.images
    return [
        f"Ours train on {train:,} images and validate on {val:,} others, held out of training; the report did both on "
        "the same 50,000."
    ]
