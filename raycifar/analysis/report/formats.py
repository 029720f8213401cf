"""What a report has beside its pages: CSV files; and by `--format` Parquet, and report.pdf, printed by a Chromium."""

import csv
import io
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from raycifar.errors import InputError
from raycifar.storage.beneath import Where, beneath, write_bytes
from raycifar.texts import csv_cell

FORMATS = ("pdf", "parquet")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PRINT_SECONDS = 120.0
CSV_ENCODING = "utf-8-sig"  # with a byte order mark: spreadsheets take a file without one for their own encoding


class FormatError(InputError):
    """A report, or a format of it, cannot be written here; the message names the remedy."""


def check_formats(formats: Sequence[str]) -> None:
    """Before any work: raises FormatError where one of the formats needs what is not installed."""
    if "pdf" in formats:
        find_browser()


def find_browser() -> str:
    """The first of BROWSERS on the PATH. Raises FormatError."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise FormatError(
            "--format pdf prints with Chromium or Chrome, and none is on the PATH: "
            "sudo apt install chromium (Debian, Ubuntu), or brew install --cask chromium (macOS)"
        )
    return browser


def write_rows(path: Where, rows: Iterable[Sequence[str]]) -> None:
    """Write rows of text as CSV, the headings first. Raises OSError."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([csv_cell(cell) for cell in row] for row in rows)
    write_csv(path, text.getvalue())


def write_frames(frames: Mapping[str, pd.DataFrame], out: Where) -> None:
    """Write each frame as <name>.csv. Raises OSError."""
    for name, frame in frames.items():
        write_csv(out / f"{name}.csv", harmless(frame).to_csv(index=False))


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its texts as csv_cell has them; as it is where nothing changes, for most have many rows."""
    texts = frame.select_dtypes(include=["object", "string"])
    changed = [name for name in texts if any(csv_cell(text) != text for text in texts[name].dropna().unique())]
    return frame.assign(**{str(name): frame[name].map(csv_cell) for name in changed})


def write_csv(path: Where, text: str) -> None:
    """Every CSV file of the analysis is written here, so that all have one encoding. Raises OSError."""
    write_bytes(path, text.encode(CSV_ENCODING))


def write_formats(tables: Mapping[str, pd.DataFrame], out: Where, formats: Sequence[str]) -> None:
    """Add the formats to the report that lies in `out`; `tables` become <name>.parquet. Raises FormatError, OSError."""
    if "parquet" in formats:
        for name, table in tables.items():
            write_bytes(out / f"{name}.parquet", table.to_parquet(index=False))
    if "pdf" in formats:
        print_pdf(out / "report.html")


def print_pdf(where: Where) -> Path:
    """Print one of our pages as PDF beside itself. Raises FormatError where the browser fails."""
    page = beneath(where).path
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # Chromium has none for root
    with TemporaryDirectory() as scratch:
        printed = Path(scratch, "report.pdf")
        command = [find_browser(), "--headless=new", "--disable-gpu", *root, f"--user-data-dir={scratch}/profile"]
        command += ["--no-pdf-header-footer", f"--print-to-pdf={printed}", page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PRINT_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FormatError(f"--format pdf: {command[0]} could not print {page} ({error})") from None
        if not printed.is_file():
            why = " ".join(done.stderr.split())[-200:] or f"exit status {done.returncode}"
            raise FormatError(f"--format pdf: {command[0]} printed nothing of {page} ({why})")
        write_bytes(beneath(where).parent / f"{page.stem}.pdf", printed.read_bytes())
    return page.with_suffix(".pdf")
