"""What `--format` adds to a report: report.pdf, printed by a Chromium, and the tables as Parquet."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from raycifar.errors import InputError
from raycifar.storage.files import write_bytes

FORMATS = ("pdf", "parquet")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PRINT_SECONDS = 120.0


class FormatError(InputError):
    """A report, or a format of it, cannot be written here; the message names the remedy."""


def check_formats(formats: Sequence[str]) -> None:
    """Before any work: raises FormatError where one of the formats needs what is not installed."""
    if "pdf" in formats:
        find_browser()


def find_browser() -> str:
    """The first of BROWSERS on the PATH. Raises FormatError."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise FormatError(
            "--format pdf prints with Chromium or Chrome, and none is on the PATH: "
            "sudo apt install chromium (Debian, Ubuntu), or brew install --cask chromium (macOS)"
        )
    return found


def write_formats(tables: Mapping[str, pd.DataFrame], out: Path, formats: Sequence[str]) -> None:
    """Add the formats to the report that lies in `out`; `tables` become <name>.parquet. Raises FormatError, OSError."""
    if "parquet" in formats:
        for name, table in tables.items():
            write_bytes(out / f"{name}.parquet", table.to_parquet(index=False))
    if "pdf" in formats:
        print_pdf(out / "report.html")


def print_pdf(page: Path) -> Path:
    """Print a page of ours beside itself. Raises FormatError where the browser fails."""
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
        write_bytes(page.with_suffix(".pdf"), printed.read_bytes())
    return page.with_suffix(".pdf")
