"""analyze.py as a user calls it. The sweeps are synthetic (see sweep_folders)."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import analyze
from tests.sweep_folders import write_sweep

ROOT = Path(__file__).parents[1]
TORCHLESS = """
import sys, analyze
status = analyze.main(sys.argv[1:])
assert not {"torch", "torchvision", "ray", "matplotlib.pyplot"} & set(sys.modules), "a heavy library was imported"
sys.exit(status)
"""


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep's folder after `python analyze.py` on it, in a process of its own, and what that printed."""
    folder = write_sweep(tmp_path_factory.mktemp("analyze") / "sweep").path
    command = [sys.executable, "-c", TORCHLESS, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr with which status 2 comes."""
    assert analyze.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_it_writes_tables_report_and_figures_without_torch_and_ray(analysed: tuple[Path, str]) -> None:
    out = analysed[0] / "analysis"
    assert {path.name for path in out.iterdir()} == {"epochs.csv", "trials.csv", "report.md", "report.html", "figures"}
    figures = list((out / "figures").iterdir())
    names = {path.stem for path in figures}
    assert {path.name for path in figures} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert len(names) == 16
    assert all(path.stat().st_size > 1000 for path in figures)


def test_the_pictures_that_the_markdown_shows_are_there(analysed: tuple[Path, str]) -> None:
    out = analysed[0] / "analysis"
    shown = [
        line.rpartition("](")[2].rstrip(")") for line in (out / "report.md").read_text().splitlines() if "![" in line
    ]
    assert len(shown) == 16
    assert all((out / path).is_file() for path in shown)


def test_the_csv_files_read_back(analysed: tuple[Path, str]) -> None:
    trials = pd.read_csv(analysed[0] / "analysis/trials.csv")
    assert list(trials["status"]) == ["finished"] * 4
    assert len(pd.read_csv(analysed[0] / "analysis/epochs.csv")) == 18


def test_the_terminal_shows_the_same_summary_in_80_columns(analysed: tuple[Path, str]) -> None:
    folder, printed = analysed
    *summary, last = printed.splitlines()
    assert last == f"report: {folder / 'analysis/report.html'}"
    assert max(map(len, summary)) <= 80
    assert "n = 1: no spread" in printed
    assert "transfer-3  finished  4 of 4" in printed


def test_help_comes_at_once_and_without_heavy_libraries() -> None:
    code = "import sys, analyze\ntry: analyze.main(['--help'])\nfinally: assert 'pandas' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python analyze.py ~/ray_results/vgg" in done.stdout


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path / "vgg", {"transfer": (1, 1)})
    line = refuse(capsys, tmp_path / "vg")
    assert line.startswith(f"analyze.py: {tmp_path / 'vg'}: no such folder")
    assert f"for example {tmp_path / 'vgg'}" in line


def test_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "a file, not a folder" in refuse(capsys, tmp_path / "file")


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "an empty folder" in refuse(capsys, tmp_path)


def test_somebody_elses_tune_experiment_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment_state-2026.json").touch()
    assert "a Ray Tune experiment that run_sweep.py did not write" in refuse(capsys, tmp_path)


def test_the_folder_above_the_sweeps_is_refused_with_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path / "quick", {"transfer": (1, 1)})
    assert f"for example {tmp_path / 'quick'}" in refuse(capsys, tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"name": 5}', "\x00"])
def test_a_corrupt_sweep_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    line = refuse(capsys, tmp_path)
    assert str(tmp_path / "sweep.json") in line
    assert "restore the file" in line


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 1)}).path
    (tmp_path / "file").touch()
    line = refuse(capsys, folder, "--out", tmp_path / "file" / "out")
    assert "cannot be written to" in line
    assert "--out DIR" in line


def test_a_missing_argument_is_refused_by_argparse() -> None:
    with pytest.raises(SystemExit) as caught:
        analyze.main([])
    assert caught.value.code == 2
