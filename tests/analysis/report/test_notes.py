"""notes.md of a sweep's folder: where a report shows it. The sweeps are synthetic."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.report.cautions import cautions
from raycifar.analysis.report.pages import pages
from raycifar.analysis.report.report import make_report
from raycifar.analysis.report.side_by_side import compare_sweeps
from raycifar.analysis.report.terminal import show
from raycifar.analysis.results import read_results
from raycifar.config.names import SpecError
from raycifar.storage.folders import SweepFolder
from tests.support.hostile import NO_FILE
from tests.support.sweep_folders import sweep_spec, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return write_sweep(tmp_path / "sweep")


TIMED = ("averages", "equal-cost", "milestones", "reference", "learning", "time", "devices", "time-by-trial")
NOTES = {
    "one paragraph": (b"two trials shared\na GPU\n", ["two trials shared a GPU"]),
    "two, with the line ends of Windows": (b"first\r\n\r\nsecond\r\n", ["first", "second"]),
    "a byte order mark": (b"\xef\xbb\xbfseen\n", ["seen"]),
    "white space alone": (b" \n\n\t\n", []),
    "nothing": (b"", []),
    "what controls a terminal": (b"a\x1b[31mred\x07", ["a\\x1b[31mred\\x07"]),
}


@pytest.mark.parametrize(("content", "expected"), NOTES.values(), ids=NOTES)
def test_notes_are_the_first_cautions(sweep: SweepFolder, content: bytes, expected: list[str]) -> None:
    without = cautions(read_results(sweep.path))
    (sweep.path / "notes.md").write_bytes(content)
    assert cautions(read_results(sweep.path)) == [*(f"Note on this sweep: {line}" for line in expected), *without]


def test_of_many_paragraphs_the_first_are_shown(sweep: SweepFolder) -> None:
    (sweep.path / "notes.md").write_text("\n\n".join(str(i) for i in range(500)))
    notes = [line for line in cautions(read_results(sweep.path)) if line.startswith("Note")]
    assert notes[-2:] == ["Note on this sweep: 9", "Note on this sweep: 490 more paragraphs are in its notes.md."]


@pytest.mark.parametrize(
    ("content", "why"), [(b"x" * 10_001, "larger than 10,000 bytes"), (b"caf\xe9", "not UTF-8 text")]
)
def test_notes_that_cannot_be_read_are_named(sweep: SweepFolder, content: bytes, why: str) -> None:
    (sweep.path / "notes.md").write_bytes(content)
    (caution,) = (line for line in cautions(read_results(sweep.path)) if line.startswith("Unreadable"))
    assert str(sweep.path / "notes.md") in caution
    assert why in caution


@pytest.mark.parametrize("make", NO_FILE.values(), ids=NO_FILE)
def test_notes_that_are_no_file_are_named_and_nothing_waits(sweep: SweepFolder, make: Callable[[Path], None]) -> None:
    make(sweep.path / "notes.md")
    assert any(line.startswith(f"Unreadable: {sweep.path / 'notes.md'}") for line in cautions(read_results(sweep.path)))


def test_the_first_paragraph_stands_below_every_table_of_times(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"transfer": (2, 15), "scratch": (1, 6)})
    (sweep.path / "notes.md").write_text("two trials shared a GPU\n\nmore of it\n")
    note = "Note on this sweep: two trials shared a GPU"
    tables = make_report(read_results(sweep.path)).tables
    assert {table.key for table in tables if note in table.notes} == set(TIMED)
    figures = {drawing.name: drawing.caption for drawing in all_figures(read_results(sweep.path))}
    assert {name for name in figures if "two trials shared a GPU" in figures[name]} == {
        "validation-accuracy-against-seconds",
        "time-by-arm",
        "timeline",
    }


def test_notes_are_text_on_both_pages_and_in_a_terminal(sweep: SweepFolder) -> None:
    (sweep.path / "notes.md").write_text("<script>alert(1)</script> [bold] | *x*\n")
    report = make_report(read_results(sweep.path))
    written, console = pages(report, []), Console(file=io.StringIO(), width=200)
    show(report, sweep.path, console)
    assert "<script>" not in written["report.html"] + written["report.md"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [bold] | *x*" in written["report.html"]
    assert "! Note on this sweep: <script>alert(1)</script> [bold] | *x*" in console.file.getvalue()  # type: ignore[attr-defined]


def test_several_sweeps_show_the_notes_of_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (write_sweep(tmp_path / name).path / "notes.md").write_text(f"of {name}\n\nmore of {name}\n")
    report = compare_sweeps([read_results(tmp_path / name) for name in ("a", "b")])
    notes = ["Note on A: of a", "Note on A: more of a", "Note on B: of b", "Note on B: more of b"]
    assert report.cautions[:4] == notes
    beside = {table.key for table in report.tables if {notes[0], notes[2]} <= set(table.notes)}
    assert beside == {"sweeps", "own-seconds", "images-per-second"}


def test_no_trial_is_called_as_the_notes_are() -> None:
    with pytest.raises((ValueError, SpecError), match=r"notes\.md"):
        sweep_spec("q", {"notes.md": (1, 2)}, {})
