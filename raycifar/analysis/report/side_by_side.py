"""Sweeps side by side, as a report: the first one is what the others are compared with, arm by arm."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raycifar.analysis.figures.differences import difference_figures
from raycifar.analysis.predictions import Predictions, read_predictions
from raycifar.analysis.report.cautions import noted
from raycifar.analysis.report.comparing import assumed, intervals, span
from raycifar.analysis.report.findings import status_line
from raycifar.analysis.report.formats import write_frames
from raycifar.analysis.report.pages import Picture, Report, pages
from raycifar.analysis.report.plainly import HOW_SURE, OTHER_IMAGES, WHICH, how_sure, not_shown, other_images, trials_of
from raycifar.analysis.report.report import report_folder, write_tables
from raycifar.analysis.results import LEAK, Results, leaks
from raycifar.analysis.several_sweeps import (
    LETTERS,
    AccuracyContrast,
    Setting,
    accuracy_contrasts,
    differing_settings,
    differing_surroundings,
    finished_arm,
    lettered,
    shared_arms,
)
from raycifar.analysis.statistics.contrasts import Estimate
from raycifar.analysis.tables.paired_sweeps import image_tests
from raycifar.analysis.tables.side_by_side import (
    QUANTITIES,
    accuracy_table,
    quantity_table,
    settings_table,
    sweeps_table,
)
from raycifar.analysis.tables.table import Table
from raycifar.analysis.wording import above_or_below, epochs_of, is_level, listed, points
from raycifar.storage.beneath import write_bytes
from raycifar.texts import plain

SENTENCES = 6  # of the answer; the table has all
OF_PLACES = ("hardware", "device", "trials at once", "workers a trial")  # surroundings that decide times
FAILED_FLATTER = "failed trials are left out, which flatters an arm whose bad seeds fail."
OF_NUMBERS = ("precision", "torch", "cuda", "ImageNet weights")  # those that decide accuracies


def write_comparison(sweeps: Sequence[Results], out: Path) -> Report:
    """Write report.md, report.html, tables/, figures/ and every sweep's trials and epochs as one table each into `out`.

    Raises OSError where that cannot be done.
    """
    place = report_folder(out, *sweeps)
    write_frames(joined_tables(sweeps), place)
    predictions = [read_predictions(results) for results in sweeps]
    report = compare_sweeps(sweeps, predictions)
    write_tables(report, place)
    drawings = difference_figures(sweeps, accuracy_contrasts(sweeps, predictions))
    pictures = [Picture.of(drawing, place / "figures") for drawing in drawings]
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


def compare_sweeps(sweeps: Sequence[Results], predictions: Sequence[Predictions] | None = None) -> Report:
    """Everything in words and tables: differences with intervals, and what may explain them."""
    predictions = predictions or [read_predictions(results) for results in sweeps]
    surroundings = differing_surroundings(sweeps)
    names = [f"{letter} {results.record.name}" for letter, results in lettered(sweeps)]
    contrasts = accuracy_contrasts(sweeps, predictions)
    tables = _tables(sweeps, contrasts, predictions, surroundings)
    return Report(
        title=f"Sweeps side by side: {', '.join(names)}",
        plainly=_plainly(contrasts),
        answer=_answer(sweeps, contrasts),
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
    sweeps: Sequence[Results],
    contrasts: Sequence[AccuracyContrast],
    predictions: Sequence[Predictions],
    surroundings: Sequence[Setting],
) -> list[Table]:
    recipes = differing_settings(sweeps)
    return [
        sweeps_table(sweeps),
        accuracy_table(sweeps, contrasts, predictions),
        image_tests(sweeps, predictions, LETTERS),
        *(quantity_table(sweeps, quantity) for quantity in QUANTITIES),
        settings_table("recipes", "Where the recipes differ", sweeps, recipes),
        settings_table("surroundings", "Where hardware and versions differ", sweeps, surroundings),
    ]


def _provenance(results: Results) -> str:
    record = results.record
    commit = record.commit or "unknown"
    return f"{results.path} (from {record.source}, fingerprint {record.fingerprint}, commit {commit})"


def _answer(sweeps: Sequence[Results], contrasts: Sequence[AccuracyContrast]) -> str:
    """A sentence for each arm and each other sweep: how far apart in test accuracy, and how sure."""
    tested = {(one.arm, one.letter): one for one in contrasts}
    sentences = [
        _sentence(tested[arm, letter]) if (arm, letter) in tested else f"{arm}: not yet tested in both A and {letter}."
        for arm in shared_arms(sweeps)
        for letter, other in lettered(sweeps)[1:]
        if arm in other.arms
    ]
    if not sentences:
        arms = "; ".join(f"{letter} has {', '.join(results.arms)}" for letter, results in lettered(sweeps))
        return f"No arm of A is in another sweep, so nothing is compared: {arms}."
    rest = f" {len(sentences) - SENTENCES} more are in the table." if len(sentences) > SENTENCES else ""
    return " ".join(sentences[:SENTENCES]) + rest


def _sentence(one: AccuracyContrast) -> str:
    of, start = one.of, f"{one.arm}: {one.letter} is {above_or_below(one.of.mean)} A in test accuracy"
    if max(one.n) == 1:
        alone = f"; on other test images these two networks would be {span(of.networks)} points apart"
        fall = "with n = 1 there is no spread: another seed could fall elsewhere"
        return f"{start}, but {fall}{alone if of.networks.known else ''}."
    if not of.seeds.known:
        return f"{start}, but all trials have the same value: another seed could fall elsewhere."
    if of.is_assumed:
        return f"{start}. {assumed(*_one_and_many(one), of)}"
    pairs = f"Of the {of.pairs} pairs of one trial each, {one.letter} is above in {of.above}."
    return f"{start} ({intervals(of, one.method, one.adjusted, one.size)}). {pairs}"


def _one_and_many(one: AccuracyContrast) -> tuple[str, str]:
    """The sweep with the arm's single trial, and the other one."""
    return ("A", one.letter) if one.n[0] == 1 else (one.letter, "A")


def _plainly(contrasts: Sequence[AccuracyContrast]) -> list[tuple[str, str]]:
    """Three questions, with a sentence for each of the first comparisons."""
    shown = contrasts[:SENTENCES]
    several = len(contrasts) > 1
    told = [
        (WHICH, [_which(one) for one in shown]),
        (OTHER_IMAGES, [other_images(*_as_arms(one), one.adjusted, _counted(one, contrasts)) for one in shown]),
        (HOW_SURE, [how_sure(*_as_arms(one), one.adjusted, one.size) for one in shown]),
    ]
    names = [f"{one.arm}{f' in {one.letter}' if one.letter != 'B' else ''}: " if several else "" for one in shown]
    return [(q, " ".join(f"{name}{reply}" for name, reply in zip(names, of, strict=True))) for q, of in told if of]


def _counted(one: AccuracyContrast, contrasts: Sequence[AccuracyContrast]) -> int:
    """How many comparisons were made; of single networks, which are in no family, all of the table."""
    return one.size if max(one.n) > 1 else len(contrasts)


def _as_arms(one: AccuracyContrast) -> tuple[Estimate, tuple[str, str], tuple[int, int]]:
    """The difference as that of the sweep ahead, with the names and trials of both."""
    names, n = (one.letter, "A"), one.n[::-1]
    return (one.of, names, n) if one.of.mean >= 0 else (one.of.reversed(), names[::-1], n[::-1])


def _which(one: AccuracyContrast) -> str:
    of, names, n = _as_arms(one)
    planned = one.planned[::-1] if one.of.mean >= 0 else one.planned
    if is_level(of.mean):
        return "Neither: both are level in test accuracy."
    more = f"gets {points(of.mean)} more of the test images right than {names[1]}"
    return f"{not_shown(one.adjusted, of)}{names[0]} {more} ({trials_of(n, planned)})."


def _cautions(
    sweeps: Sequence[Results], predictions: Sequence[Predictions], surroundings: Sequence[Setting]
) -> list[str]:
    notes = [note for letter, results in lettered(sweeps) for note in noted(letter, results)]
    notes += [
        f"{letter} is not complete: {status_line(results)}."
        for letter, results in lettered(sweeps)
        if len(results.finished) < len(results.trials)
    ]
    notes += [f"{letter}: {FAILED_FLATTER}" for letter, results in lettered(sweeps) if _has_failed(results)]
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


def _has_failed(results: Results) -> bool:
    return bool((results.trials["status"] == "failed").any())


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
