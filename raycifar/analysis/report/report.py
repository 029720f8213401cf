"""Results -> a folder with epochs.csv, trials.csv, tables, figures, report.md and report.html."""

from datetime import UTC, datetime
from pathlib import Path

from raycifar.analysis.balance import is_unequal
from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.predictions import Predictions, open_images, read_predictions
from raycifar.analysis.reference import load_reference
from raycifar.analysis.report.cautions import MOST_LINES, cautions
from raycifar.analysis.report.findings import answer, costs, status_line
from raycifar.analysis.report.formats import write_frames, write_rows
from raycifar.analysis.report.pages import Picture, Report, pages
from raycifar.analysis.report.plainly import plainly
from raycifar.analysis.results import Results
from raycifar.analysis.tables.accuracy import (
    accuracy_by_trial,
    averages_by_arm,
    learning_speed,
    overfitting,
    recipes,
)
from raycifar.analysis.tables.against_reference import against_reference
from raycifar.analysis.tables.balance import unequal_classes
from raycifar.analysis.tables.cost import device_use, time_by_trial, time_totals
from raycifar.analysis.tables.differences import differences
from raycifar.analysis.tables.equal_cost import at_equal_cost, milestones
from raycifar.analysis.tables.images import accuracy_by_class, calibration_by_arm, confused_pairs
from raycifar.analysis.tables.paired import paired_tests
from raycifar.analysis.tested_arms import compared_arms
from raycifar.analysis.wording import listed, ranges
from raycifar.storage.beneath import Beneath, Where, beneath, make_folder, sweep_leftovers, write_bytes
from raycifar.texts import plain

LEFT_SECONDS = 3600.0  # a file that is being written for so long was left by a killed process


def make_report(results: Results, predictions: Predictions | None = None) -> Report:
    """Everything in words and tables; figures apart."""
    predictions, reference = predictions or Predictions(), load_reference()
    is_reference = reference.is_of(results.spec)
    tested = compared_arms(results, predictions)
    tables = [
        accuracy_by_trial(results),
        averages_by_arm(results, tested),
        *([unequal_classes(results, predictions)] if is_unequal(predictions) else []),
        differences(results, tested),
        at_equal_cost(results, tested),
        milestones(results),
        paired_tests(results, predictions),
        *([against_reference(results, reference)] if is_reference else []),
        learning_speed(results),
        overfitting(results),
        accuracy_by_class(results, predictions),
        confused_pairs(results, predictions),
        calibration_by_arm(results, predictions),
        time_totals(results),
        device_use(results),
        time_by_trial(results),
        recipes(results),
    ]
    return Report(
        title=f"Sweep {results.record.name}",
        plainly=plainly(tested),
        answer=answer(results, tested),
        costs=costs(results, tested),
        cautions=[plain(caution) for caution in cautions(results, predictions.problems)],
        tables=[table.head() for table in tables],
        whole_tables=tables,
        errata=list(reference.footnotes.items()) if is_reference else [],
        failures=failures(results),
        provenance=provenance(results),
        commands=[plain(call.command) for call in results.invocations],
    )


def failures(results: Results) -> list[tuple[str, str]]:
    """What went wrong, each error once with its trials; the first MOST_LINES of them."""
    trials_of = dict[str, list[str]]()
    failed = results.trials[results.trials["status"] == "failed"]
    for trial, error in zip(failed["trial"], failed["error"], strict=True):
        trials_of.setdefault(plain(error), []).append(trial)
    shown = [(listed(trials), error) for error, trials in trials_of.items()][:MOST_LINES]
    if len(trials_of) > MOST_LINES:
        shown.append((f"{len(trials_of) - MOST_LINES:,} more errors", "see trials.csv"))
    return shown


def provenance(results: Results) -> list[tuple[str, str]]:
    """Where the numbers come from: pairs of what and its value."""
    record = results.record
    devices = ", ".join(dict.fromkeys(results.sessions["device"])) or "none yet"
    precision = ", ".join(results.trials["precision"].dropna().unique()) or "not known yet"
    pairs = {
        "sweep file": record.source,
        "fingerprint of the settings": record.fingerprint,
        "commit": record.commit or "not run from a git checkout",
        "trials": status_line(results),
        "seeds": "; ".join(_seeds(results)),
        "hardware": record.hardware,
        "devices": devices,
        "precision": precision,
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "created": _date(record.created_at),
        "read": _date(results.read_at),
        "numbers from": f"{results.path}: sweep.json, invocations.json, and each trial's history.json and summary.json",
    }
    return [(key, plain(value)) for key, value in pairs.items()]


def _seeds(results: Results) -> list[str]:
    """The seeds of each arm; of many arms, those of the first MOST_LINES."""
    arms, rest = results.arms[:MOST_LINES], len(results.arms) - MOST_LINES
    seeds = {arm: [trial.seed for trial in results.spec.trials if trial.arm == arm] for arm in arms}
    more = [f"of {rest:,} more arms: see trials.csv"] if rest > 0 else []
    return [f"{arm}: {ranges(numbers)}" for arm, numbers in seeds.items()] + more


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def write_report(results: Results, out: Path) -> Report:
    """Write all files into `out`, each beside and then renamed. Raises OSError where that cannot be done."""
    place = report_folder(out, results)
    write_frames({"epochs": results.epochs, "trials": results.trials}, place)
    predictions = read_predictions(results)
    report = make_report(results, predictions)
    write_tables(report, place)
    images, why = open_images(predictions.tests) if predictions.trials else (None, "")
    pictures = [Picture.of(drawing, place / "figures") for drawing in all_figures(results, predictions, images)]
    for name, text in pages(report, pictures, why).items():
        write_bytes(place / name, text.encode())
    return report


def report_folder(out: Path, *results: Results) -> Beneath:
    """The folder of a report, with its own folders, made and without what killed writers left. Raises OSError.

    What lies in a folder of results may be a stranger's: a link on the way there is refused (storage.beneath).
    """
    place = Beneath.of(out, *(one.path for one in results))
    for folder in (place, place / "figures", place / "tables"):
        make_folder(folder)
        sweep_leftovers(folder, LEFT_SECONDS)
    return place


def write_tables(report: Report, out: Where) -> None:
    """Every table with all its rows as a file of tables/, for machines. Raises OSError."""
    make_folder(beneath(out / "tables"))
    for table in report.whole_tables:
        write_rows(out / "tables" / f"{table.key}.csv", table.plain_rows())
