"""Sweeps side by side, as a report: the first one is what the others are compared with, arm by arm."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raycifar.analysis.figures.differences import difference_figures
from raycifar.analysis.predictions import Predictions, read_predictions
from raycifar.analysis.report.cautions import noted
from raycifar.analysis.report.findings import status_line
from raycifar.analysis.report.formats import write_frames
from raycifar.analysis.report.pages import Picture, Report, pages
from raycifar.analysis.report.report import report_folder, write_tables
from raycifar.analysis.results import LEAK, Results, leaks
from raycifar.analysis.several_sweeps import (
    LETTERS,
    Contrast,
    Setting,
    contrast,
    differing_settings,
    differing_surroundings,
    finished_arm,
    lettered,
    shared_arms,
)
from raycifar.analysis.tables.paired_sweeps import image_tests
from raycifar.analysis.tables.side_by_side import QUANTITIES, quantity_table, settings_table, sweeps_table
from raycifar.analysis.tables.table import Table
from raycifar.analysis.wording import above_or_below, between, epochs_of, listed, percent
from raycifar.storage.beneath import write_bytes
from raycifar.texts import plain

SENTENCES = 6  # of the answer; the table has all
OF_PLACES = ("hardware", "device", "trials at once", "workers a trial")  # surroundings that decide times
OF_NUMBERS = ("precision", "torch", "cuda", "ImageNet weights")  # those that decide accuracies


def write_comparison(sweeps: Sequence[Results], out: Path) -> Report:
    """Write report.md, report.html, tables/, figures/ and every sweep's trials and epochs as one table each into `out`.

    Raises OSError where that cannot be done.
    """
    place = report_folder(out, *sweeps)
    write_frames(joined_tables(sweeps), place)
    report = compare_sweeps(sweeps)
    write_tables(report, place)
    pictures = [Picture.of(drawing, place / "figures") for drawing in difference_figures(sweeps)]
    for name, text in pages(report, pictures).items():
        write_bytes(place / name, text.encode())
    return report


def joined_tables(sweeps: Sequence[Results]) -> dict[str, pd.DataFrame]:
    """The epochs and the trials of all sweeps, with the sweep's letter in a first column."""
    tables = {}
    for name in ("epochs", "trials"):
        frames = {letter: getattr(results, name) for letter, results in lettered(sweeps)}
        tables[name] = pd.concat(frames, names=["sweep", None]).reset_index(level="sweep")
    return tables


def compare_sweeps(sweeps: Sequence[Results]) -> Report:
    """Everything in words and tables: differences with intervals, and what may explain them."""
    predictions = [read_predictions(results) for results in sweeps]
    surroundings = differing_surroundings(sweeps)
    names = [f"{letter} {results.record.name}" for letter, results in lettered(sweeps)]
    tables = _tables(sweeps, predictions, surroundings)
    return Report(
        title=f"Sweeps side by side: {', '.join(names)}",
        answer=_answer(sweeps),
        cautions=[plain(caution) for caution in _cautions(sweeps, predictions, surroundings)],
        tables=[table.head() for table in tables],
        whole_tables=tables,
        errata=[],
        failures=[],
        provenance=[(f"sweep {letter}", plain(_provenance(results))) for letter, results in lettered(sweeps)],
        commands=[plain(f"{letter}  {c.command}") for letter, results in lettered(sweeps) for c in results.invocations],
        calls_heading="Every call of run_sweep.py on these folders",
    )


def _tables(
    sweeps: Sequence[Results], predictions: Sequence[Predictions], surroundings: Sequence[Setting]
) -> list[Table]:
    first, *others = QUANTITIES
    recipes = differing_settings(sweeps)
    return [
        sweeps_table(sweeps),
        quantity_table(sweeps, first),
        image_tests(sweeps, predictions, LETTERS),
        *(quantity_table(sweeps, quantity) for quantity in others),
        settings_table("recipes", "Where the recipes differ", sweeps, recipes),
        settings_table("surroundings", "Where hardware and versions differ", sweeps, surroundings),
    ]


def _provenance(results: Results) -> str:
    record = results.record
    commit = record.commit or "unknown"
    return f"{results.path} (from {record.source}, fingerprint {record.fingerprint}, commit {commit})"


def _answer(sweeps: Sequence[Results]) -> str:
    """A sentence for each arm and each other sweep: how far apart in test accuracy, and how sure."""
    sentences = [
        _sentence(arm, letter, contrast(finished_arm(sweeps[0], arm), finished_arm(other, arm), "test_accuracy"))
        for arm in shared_arms(sweeps)
        for letter, other in lettered(sweeps)[1:]
        if arm in other.arms
    ]
    if not sentences:
        arms = "; ".join(f"{letter} has {', '.join(results.arms)}" for letter, results in lettered(sweeps))
        return f"No arm of A is in another sweep, so nothing is compared: {arms}."
    rest = f" {len(sentences) - SENTENCES} more are in the table." if len(sentences) > SENTENCES else ""
    return " ".join(sentences[:SENTENCES]) + rest


def _sentence(arm: str, letter: str, difference: Contrast) -> str:
    if not min(difference.base.n, difference.other.n):
        return f"{arm}: not yet tested in both A and {letter}."
    some = 0 < difference.pairs < max(difference.base.n, difference.other.n)
    where = f"{above_or_below(difference.value)} A in test accuracy"
    where += f" over the {difference.pairs} seeds in both" if some else ""
    if not difference.has_interval:
        return f"{arm}: {letter} is {where}, but {_without_spread(difference)}: another seed could fall elsewhere."
    range_ = between(difference.low, difference.high, percent, "+")
    verdict = "includes 0: it may be chance" if difference.low <= 0 <= difference.high else "excludes 0"
    how = difference.method.replace("paired", "paired by seed")
    return f"{arm}: {letter} is {where} (95 % interval {range_}, {how}; {verdict})."


def _without_spread(difference: Contrast) -> str:
    few = min(difference.base.n, difference.other.n)
    if few < 2:
        return f"with n = {few} there is no spread"
    if difference.pairs:
        return f"the {difference.pairs} pairs all differ by the same amount"
    return "within each sweep all trials have the same value"


def _cautions(
    sweeps: Sequence[Results], predictions: Sequence[Predictions], surroundings: Sequence[Setting]
) -> list[str]:
    notes = [note for letter, results in lettered(sweeps) for note in noted(letter, results)]
    notes += [
        f"{letter} is not complete: {status_line(results)}."
        for letter, results in lettered(sweeps)
        if len(results.finished) < len(results.trials)
    ]
    notes += [f"{letter}: {LEAK}." for letter, results in lettered(sweeps) if leaks(results.trials)]
    unlike = _unlike(sweeps)
    if protocol := [key for keys in unlike.values() for key in keys if key.startswith("data.")]:
        notes.append(
            f"The protocols differ ({listed(protocol)}): the sweeps do not train, validate or test on the same images."
        )
    notes += _lengths(sweeps)
    if several := [f"{where} ({len(keys)})" for where, keys in unlike.items() if len(keys) > 1]:
        notes.append(
            f"Several settings differ, so no difference can be attributed to one of them alone: {listed(several)}."
        )
    if places := [setting.key for setting in surroundings if setting.key in OF_PLACES]:
        notes.append(f"Times do not compare as they stand: the sweeps differ in {listed(places)}.")
    if numeric := [setting.key for setting in surroundings if setting.key in OF_NUMBERS]:
        notes.append(f"The sweeps differ in {listed(numeric)}: this may explain part of a difference in accuracy.")
    return notes + [
        f"{letter}: unreadable: {line}"
        for (letter, results), its in zip(lettered(sweeps), predictions, strict=True)
        for line in (*results.problems, *its.problems)
    ]


def _unlike(sweeps: Sequence[Results]) -> dict[str, list[str]]:
    """For each comparison of tested trials, such as "transfer in B": in which settings its recipe is not that of A."""
    keys_of = {}
    for letter, other in lettered(sweeps)[1:]:
        settings = differing_settings([sweeps[0], other])
        for arm in _tested_in_both(sweeps[0], other):
            keys_of[f"{arm} in {letter}"] = [s.key for s in settings if arm in s.arms and s.key != "seeds"]
    return keys_of


def _lengths(sweeps: Sequence[Results]) -> list[str]:
    """Arms, tested in both, that did not train for as many epochs as in A."""
    base, lines = sweeps[0], []
    for letter, other in lettered(sweeps)[1:]:
        for arm in _tested_in_both(base, other):
            theirs, ours = (
                next(trial.epochs for trial in results.spec.trials if trial.arm == arm) for results in (other, base)
            )
            if theirs != ours:
                lines.append(f"{arm}: {epochs_of(theirs)} in {letter}, {ours} in A")
    return [f"The numbers of epochs differ: {listed(lines)}."] if lines else []


def _tested_in_both(base: Results, other: Results) -> list[str]:
    return [
        arm for arm in shared_arms([base, other]) if min(len(finished_arm(base, arm)), len(finished_arm(other, arm)))
    ]
