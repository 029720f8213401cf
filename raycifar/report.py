"""Results -> a folder with epochs.csv, trials.csv, figures, report.md and report.html."""

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from raycifar.comparison import against_reference
from raycifar.figures import all_figures
from raycifar.findings import answer, cautions, status_line
from raycifar.plotting import Drawing, save
from raycifar.reference import load_reference
from raycifar.results import LEAK, Results
from raycifar.tables import (
    Table,
    accuracy_by_trial,
    averages_by_arm,
    learning_speed,
    overfitting,
    time_by_trial,
    time_totals,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What the report says, before it is laid out."""

    title: str
    answer: str
    cautions: list[str]
    tables: list[Table]
    failures: list[tuple[str, str]]  # trial, what went wrong
    provenance: list[tuple[str, str]]
    commands: list[str]


def make_report(results: Results) -> Report:
    """Everything in words and tables; figures apart."""
    tables = [
        accuracy_by_trial(results),
        averages_by_arm(results),
        against_reference(results, load_reference()),
        learning_speed(results),
        overfitting(results),
        time_totals(results),
        time_by_trial(results),
    ]
    failed = results.trials[results.trials["status"] == "failed"]
    return Report(
        title=f"Sweep {results.record.name}",
        answer=answer(results),
        cautions=[plain(caution) for caution in cautions(results)],
        tables=tables,
        failures=[(trial, plain(error)) for trial, error in zip(failed["trial"], failed["error"], strict=True)],
        provenance=provenance(results),
        commands=[plain(call.command) for call in results.invocations],
    )


def provenance(results: Results) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    record = results.record
    seeds = ", ".join(f"{trial.name}: {trial.seed}" for trial in results.spec.trials)
    devices = ", ".join(dict.fromkeys(results.sessions["device"])) or "none yet"
    precision = ", ".join(results.trials["precision"].dropna().unique()) or "not known yet"
    pairs = {
        "sweep file": record.source,
        "fingerprint": record.fingerprint,
        "commit": record.commit or "not run from a git checkout",
        "trials": status_line(results),
        "seeds": seeds,
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
    report = make_report(results)
    pictures = [Picture.of(drawing, out / "figures") for drawing in all_figures(results)]
    for name, text in pages(report, pictures).items():
        _write(out / name, text)
    return report


def pages(report: Report, pictures: Sequence["Picture"]) -> dict[str, str]:
    """The report as report.md and report.html."""
    jinja = Environment(
        loader=PackageLoader("raycifar"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["md"] = markdown
    names = ("report.md", "report.html")
    return {n: jinja.get_template(f"{n}.j2").render(report=report, pictures=pictures, leak=LEAK) for n in names}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, where its files lie below the report, and its SVG as a data address."""

    drawing: Drawing
    png: str
    svg: str
    inline: str

    @classmethod
    def of(cls, drawing: Drawing, folder: Path) -> "Picture":
        png, svg = save(drawing, folder)
        data = base64.b64encode(svg.read_bytes()).decode()
        return cls(drawing, f"figures/{png.name}", f"figures/{svg.name}", f"data:image/svg+xml;base64,{data}")


def plain(text: str) -> str:
    """One line of printable characters: error messages and commands may hold anything."""
    return "".join(c if c.isprintable() else "�" for c in re.sub(r"\s+", " ", text)).strip()


def markdown(text: Any) -> str:
    """Text whose characters mean nothing in Markdown, in a table or outside."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
