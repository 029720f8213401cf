"""PDF and Parquet beside a report."""

import shutil

import pandas as pd
import pytest

import raycifar.analysis.report.formats
from raycifar.analysis.report.formats import FormatError, check_formats, print_pdf, write_formats
from raycifar.analysis.results import read_results
from tests.support.sweep_folders import write_sweep

NO_BROWSER = all(shutil.which(name) is None for name in raycifar.analysis.report.formats.BROWSERS)


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """Puts a `chromium` with the given script alone on the PATH."""

    def install(script):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/chromium").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin/chromium").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    return install


def test_the_tables_read_back_from_parquet_as_they_were(tmp_path):
    results = read_results(write_sweep(tmp_path / "sweep").path)
    write_formats({"epochs": results.epochs, "trials": results.trials}, tmp_path, ["parquet"])
    for name in ("epochs", "trials"):
        there = pd.read_parquet(tmp_path / f"{name}.parquet")
        pd.testing.assert_frame_equal(there, getattr(results, name), check_dtype=False)


def test_a_missing_browser_is_answered_with_the_line_that_installs_one(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    check_formats(["parquet"])
    with pytest.raises(FormatError, match="sudo apt install chromium"):
        check_formats(["pdf"])


def test_a_browser_that_prints_nothing_is_an_error_with_its_last_words(tmp_path, browser):
    browser("echo no display >&2; exit 3")
    with pytest.raises(FormatError, match=r"printed nothing of .*report\.html \(no display\)"):
        print_pdf(tmp_path / "report.html")
    assert not (tmp_path / "report.pdf").exists()


def test_a_browser_that_says_much_is_quoted_by_its_last_words(tmp_path, browser):
    browser(f"echo {'first ' * 100} last >&2; exit 3")
    with pytest.raises(FormatError, match=r"\(.{,200} last\)"):
        print_pdf(tmp_path / "report.html")


def test_a_browser_that_hangs_is_not_waited_for_for_ever(tmp_path, browser, monkeypatch):
    monkeypatch.setattr(raycifar.analysis.report.formats, "PRINT_SECONDS", 0.2)
    browser("while :; do :; done")
    with pytest.raises(FormatError, match=r"chromium could not print .*timed out after 0\.2 seconds"):
        print_pdf(tmp_path / "report.html")


@pytest.mark.slow
@pytest.mark.skipif(NO_BROWSER, reason="no Chromium or Chrome on the PATH")
def test_a_page_is_printed_beside_itself(tmp_path):
    (tmp_path / "report.html").write_text("<!doctype html><title>t</title><p>printed")
    assert print_pdf(tmp_path / "report.html").read_bytes().startswith(b"%PDF-")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["report.html", "report.pdf"]
