"""Results -> a folder with epochs.csv, trials.csv, tables, figures, report.md and report.html."""

import base64
import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.figures.style import Drawing, save
from raycifar.analysis.predictions import Predictions, load_images, read_predictions
from raycifar.analysis.reference import listed, load_reference
from raycifar.analysis.report.findings import MOST_LINES, answer, cautions, costs, status_line
from raycifar.analysis.results import LEAK, Results
from raycifar.analysis.tables.accuracy import (
    Table,
    accuracy_by_trial,
    averages_by_arm,
    learning_speed,
    overfitting,
    recipes,
)
from raycifar.analysis.tables.against_reference import against_reference
from raycifar.analysis.tables.cost import device_use, time_by_trial, time_totals
from raycifar.analysis.tables.equal_cost import at_equal_cost, milestones
from raycifar.analysis.tables.images import accuracy_by_class, calibration_by_arm, confused_pairs, paired_tests


@dataclass(frozen=True, slots=True)
class Report:
    """What the report says, before it is laid out. `tables` are cut to what can be read, `whole_tables` are not."""

    title: str
    answer: str
    cautions: list[str]
    tables: list[Table]
    whole_tables: list[Table]
    errata: list[tuple[str, str]]  # of the reference report: the letter that marks a row, what is wrong there
    failures: list[tuple[str, str]]  # trials, what went wrong
    provenance: list[tuple[str, str]]
    commands: list[str]
    costs: str = ""  # a second paragraph


def make_report(results: Results, predictions: Predictions | None = None) -> Report:
    """Everything in words and tables; figures apart."""
    predictions, reference = predictions or Predictions(), load_reference()
    tables = [
        accuracy_by_trial(results),
        averages_by_arm(results),
        at_equal_cost(results),
        milestones(results),
        paired_tests(results, predictions),
        against_reference(results, reference),
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
        answer=answer(results),
        costs=costs(results),
        cautions=[plain(caution) for caution in cautions(results, predictions.problems)],
        tables=[table.head() for table in tables],
        whole_tables=tables,
        errata=list(reference.footnotes.items()),
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
    """Where the numbers come from."""
    record = results.record
    of_arm = {arm: [t.seed for t in results.spec.trials if t.arm == arm] for arm in results.arms[:MOST_LINES]}
    seeds = [f"{arm}: {ranges(numbers)}" for arm, numbers in of_arm.items()]
    seeds += [f"of {len(results.arms) - MOST_LINES:,} more arms: see trials.csv"] * (len(results.arms) > MOST_LINES)
    devices = ", ".join(dict.fromkeys(results.sessions["device"])) or "none yet"
    precision = ", ".join(results.trials["precision"].dropna().unique()) or "not known yet"
    pairs = {
        "sweep file": record.source,
        "fingerprint": record.fingerprint,
        "commit": record.commit or "not run from a git checkout",
        "trials": status_line(results),
        "seeds": "; ".join(seeds),
        "hardware": record.hardware,
        "devices": devices,
        "precision": precision,
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "created": _date(record.created_at),
        "read": _date(results.read_at),
        "numbers from": f"{results.path}: sweep.json, invocations.json, and each trial's history.json and summary.json",
    }
    return [(key, plain(value)) for key, value in pairs.items()]


def write_report(results: Results, out: Path) -> Report:
    """Write all files into `out`, each beside and then renamed. Raises OSError where that cannot be done."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "epochs.csv", results.epochs.to_csv(index=False))
    _write(out / "trials.csv", results.trials.to_csv(index=False))
    predictions = read_predictions(results)
    report = make_report(results, predictions)
    write_tables(report, out)
    images, why = load_images(predictions.tests) if predictions.trials else (None, "")
    pictures = [Picture.of(drawing, out / "figures") for drawing in all_figures(results, predictions, images)]
    for name, text in pages(report, pictures, why).items():
        _write(out / name, text)
    return report


def write_tables(report: Report, out: Path) -> None:
    """Every table with all its rows as a file of tables/."""
    for table in report.whole_tables:
        _write(out / "tables" / f"{table.key}.csv", as_csv(table))


def as_csv(table: Table) -> str:
    """All rows as the report shows them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.columns, *table.rows])
    return text.getvalue()


def pages(report: Report, pictures: Sequence["Picture"], no_images: str = "") -> dict[str, str]:
    """The report as report.md and report.html; `no_images` says why the test images are not in it."""
    jinja = Environment(
        loader=PackageLoader("raycifar.analysis.report"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["md"] = markdown
    names = ("report.md", "report.html")
    content = {"report": report, "pictures": pictures, "leak": LEAK, "no_images": plain(no_images)}
    return {name: jinja.get_template(f"{name}.j2").render(content) for name in names}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, where its files lie below the report, and its SVG as a data address."""

    drawing: Drawing
    png: str
    svg: str
    inline: str

    @property
    def of_one_trial(self) -> bool:
        return self.drawing.name.startswith("trial-")

    @classmethod
    def of(cls, drawing: Drawing, folder: Path) -> "Picture":
        png, svg = save(drawing, folder)
        data = base64.b64encode(svg.read_bytes()).decode()
        return cls(drawing, f"figures/{png.name}", f"figures/{svg.name}", f"data:image/svg+xml;base64,{data}")


def ranges(numbers: Sequence[int]) -> str:
    """Whole numbers with their runs drawn together: "1–3, 7"."""
    runs = list[list[int]]()
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def plain(text: str) -> str:
    """One line of printable characters: error messages and commands may hold anything."""
    return "".join(c if c.isprintable() else "�" for c in re.sub(r"\s+", " ", text)).strip()


def markdown(text: Any) -> str:
    """A line whose characters mean nothing in Markdown, in a table or outside."""
    return re.sub(
        r"([\\`*_\[\]|])", r"\\\1", plain(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
