"""Ours beside the reference report's: one table, whose rows name the report's errors by letter."""

from collections.abc import Callable, Sequence

import pandas as pd

from raycifar.analysis.reference import Reference, kind
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.stats import Sample, above_or_below, sample
from raycifar.analysis.tables.accuracy import NONE, Table, by_arm, number, percent, seconds

COMPARED: list[tuple[str, str, Callable[[float], str]]] = [
    ("training accuracy, last epoch, % [d]", "train_accuracy", percent),
    ("training loss, last epoch [d]", "train_loss", number),
    ("validation accuracy, last epoch, % [a]", "val_accuracy", percent),
    ("best validation accuracy, % [a]", "best_val_accuracy", percent),
    ("validation loss, last epoch [a]", "val_loss", number),
    ("test accuracy, %", "test_accuracy", percent),
    ("test loss", "test_loss", number),
    ("training less test accuracy, points", "train_test_gap", percent),
    ("mean training accuracy over epochs, %", "mean_train_accuracy", percent),
]


def against_reference(results: Results, reference: Reference) -> Table:
    """Every arm beside the report's arm that starts from the same weights."""
    arms, kinds = results.shown_arms, {trial.arm: kind(trial) for trial in results.spec.trials}
    columns = ["quantity"]
    for arm in arms:
        columns += [f"{arm}, ours", f"{kinds[arm]}, report"]
    finished = dict(by_arm(results))
    planned = {trial.arm: trial.epochs for trial in results.spec.trials}
    empty = results.finished.iloc[:0]
    rows = [["trials (n)"], ["epochs planned"]]
    for arm in arms:
        rows[0] += [str(len(finished.get(arm, empty))), str(len(reference.values(kinds[arm], "test_accuracy")))]
        rows[1] += [str(planned[arm]), str(reference.protocol["epochs"][kinds[arm]])]
    for name, key, show in COMPARED:
        row = [name]
        for arm in arms:
            row += [_spread(sample(finished.get(arm, empty)[key]), show)]
            row += [_spread(sample(reference.values(kinds[arm], key)), show)]
        rows.append(row)
    rows += _compared_times(arms, kinds, {arm: finished.get(arm, empty) for arm in arms}, reference)
    notes = [
        *(_apart(arm, finished[arm], reference.values(kinds[arm], "test_accuracy")) for arm in arms if arm in finished),
        "Mean ± standard deviation where n > 1.",
        *_held_out(results),
        "The report names neither its optimizer nor its learning rate: what is apart may be the recipe's doing as much "
        "as the protocol's.",
    ]
    title = "Ours beside the reference report"
    return Table("reference", title, columns, rows, 1, (), notes, leaks(results.trials))


def _apart(arm: str, trials: pd.DataFrame, theirs: Sequence[float]) -> str:
    """How far the mean test accuracies are apart: in words, for the table has them in two columns."""
    report = sample(theirs).mean
    where = above_or_below(trials["test_accuracy"].mean() - report)
    return f"{arm}: {where} the report's {percent(report)} % in test accuracy."


def _held_out(results: Results) -> list[str]:
    trial = next((trial for trial in results.spec.trials if trial.data.validation == "holdout"), None)
    if trial is None:
        return []
    train, val, _ = trial.data.images
    return [f"Ours train on {train:,} images and validate on {val:,} others; the report did both on the same 50,000."]


def _compared_times(
    arms: Sequence[str], kinds: dict[str, str], finished: dict[str, pd.DataFrame], reference: Reference
) -> list[list[str]]:
    each, combined, stated = ["own time of a trial, s [b]"], ["combined own time, s [b]"], ["time as stated, s [b] [c]"]
    for arm in arms:
        own = finished[arm]["own_seconds"]
        again = reference.recomputed.get(kinds[arm], {})
        each += [_spread(sample(own), seconds), _recomputed(again.get("seconds"))]
        combined += [seconds(own.sum()) if len(own) else NONE, _recomputed(again.get("combined_seconds"))]
        stated += [NONE, seconds(sum(reference.values(kinds[arm], "stated_seconds")))]
    return [each, combined, stated]


def _recomputed(value: float | None) -> str:
    return NONE if value is None else f"{seconds(value)} (recomputed)"


def _spread(of: Sample, show: Callable[[float], str]) -> str:
    return f"{show(of.mean)} ± {show(of.sd)}" if of.n > 1 else f"{show(of.mean)} (n = 1)" if of.n else NONE
