"""analyze.py as a user calls it. The sweeps are synthetic (see sweep_folders)."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from raycifar.analysis.report.terminal import TERMINAL_ROWS
from raycifar.analysis.results import LEAK
from raycifar.commands import analyze
from tests.support.canaries import canaries, seen
from tests.support.hostile import NO_FILE, everything, nothing_waits_for_ever  # noqa: F401
from tests.support.paths import ROOT
from tests.support.sweep_folders import begin_trial, trial_spec, write_failure, write_sweep

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


@pytest.mark.parametrize("name", ["analysis", "analysis/figures", "analysis/tables", "analysis/beside-b/figures"])
def test_a_link_where_a_report_would_go_is_refused_and_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    canaries(tmp_path / "outside")
    sweeps = [write_sweep(tmp_path / letter).path for letter in "ab"]
    (sweeps[0] / name).parent.mkdir(parents=True, exist_ok=True)
    (sweeps[0] / name).symlink_to(tmp_path / "outside")
    before = seen(tmp_path)
    line = refuse(capsys, *(sweeps if "beside" in name else sweeps[:1]))
    assert f"a/{name}: is a link, expected a folder of its own); name another folder with --out DIR" in line
    changed = {path for path, state in seen(tmp_path).items() if before.get(path) != state}
    assert changed <= {"a/analysis", "a/analysis/figures", "a/analysis/beside-b"}  # where new folders were made


def test_links_in_the_place_of_a_reports_files_are_replaced(tmp_path: Path) -> None:
    canaries(tmp_path / "outside")
    before, sweep = seen(tmp_path / "outside"), write_sweep(tmp_path / "a", {"scratch": (1, 2)}).path
    (sweep / "analysis" / "figures").mkdir(parents=True)
    names = ["report.md", "trials.csv", "figures/timeline.png", "figures/.timeline.png", f".trials.csv.{os.getpid()}"]
    for name, put in zip(names, (os.symlink, os.link, os.symlink, os.symlink, os.symlink), strict=True):
        put(tmp_path / "outside" / "thesis.tex", sweep / "analysis" / name)
    assert analyze.main([str(sweep)]) == 0
    assert seen(tmp_path / "outside") == before
    assert not any((sweep / "analysis" / name).is_symlink() for name in names[:3])


def test_it_writes_tables_report_and_figures_without_torch_and_ray(analysed: tuple[Path, str]) -> None:
    out = analysed[0] / "analysis"
    files = {"epochs.csv", "trials.csv", "report.md", "report.html", "figures", "tables"}
    assert {path.name for path in out.iterdir()} == files
    figures = list((out / "figures").iterdir())
    names = {path.stem for path in figures}
    assert {path.name for path in figures} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert len(names) == 17
    assert all(path.stat().st_size > 1000 for path in figures)


def test_the_pictures_that_the_markdown_shows_are_there(analysed: tuple[Path, str]) -> None:
    out = analysed[0] / "analysis"
    shown = [
        line.rpartition("](")[2].rstrip(")") for line in (out / "report.md").read_text().splitlines() if "![" in line
    ]
    assert len(shown) == 17
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
    assert re.search(r"transfer-3  finished +[\d.]+ +[\d.]+ +[\d.]+  4 of 4", printed)


def test_help_comes_at_once_and_without_heavy_libraries() -> None:
    code = "import sys, analyze\ntry: analyze.main(['--help'])\nfinally: assert 'pandas' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python analyze.py ~/ray_results/vgg" in done.stdout


# Bad input ---------------------------------------------------------------------------------------------------------

Make = Callable[[Path], object]
THE_FOLDER = "give the one that run_sweep.py wrote"


def sweep_json(text: str) -> Make:
    """A folder with this for its sweep.json."""

    def make(path: Path) -> None:
        path.mkdir()
        (path / "sweep.json").write_bytes(text.encode("latin-1"))

    return make


def put(what: str) -> Make:
    def make(path: Path) -> None:
        path.mkdir()
        NO_FILE[what](path / "sweep.json")

    return make


def holding(name: str) -> Make:
    return lambda path: (path.mkdir(), (path / name).touch())


def sound_but(change: Callable[[dict[str, Any]], object]) -> Make:
    """A sound sweep, but for a change to its sweep.json."""

    def make(path: Path) -> None:
        write_sweep(path, {"transfer": (2, 1)})
        record = json.loads((path / "sweep.json").read_text())
        change(record)
        (path / "sweep.json").write_text(json.dumps(record))

    return make


def first_trial(**changes: object) -> Make:
    return sound_but(lambda record: record["spec"]["trials"][0].update(changes))


REFUSED: dict[str, tuple[Make, str]] = {
    "nothing": (lambda path: None, f"no such folder; {THE_FOLDER}"),
    "a file": (Path.touch, "a file, not a folder; give the sweep's folder"),
    "a pipe": (os.mkfifo, "a file, not a folder; give the sweep's folder"),
    "a link to itself": (NO_FILE["a link to itself"], "no such folder"),
    "an empty folder": (Path.mkdir, f"an empty folder; {THE_FOLDER}"),
    "somebody else's Tune experiment": (holding("tuner.pkl"), "a Ray Tune experiment that run_sweep.py did not write"),
    "another one": (holding("experiment_state-2026.json"), "a Ray Tune experiment that run_sweep.py did not write"),
    "photographs": (holding("photo.png"), "no sweep.json in it; give the folder that run_sweep.py wrote"),
    "cut short": (sweep_json("{"), "not valid JSON"),
    "a list": (sweep_json("[]"), "not a SweepRecord"),
    "a text": (sweep_json('"sweep"'), "not a SweepRecord"),
    "nothing in it": (sweep_json("{}"), "not a SweepRecord"),
    "a number for its name": (sweep_json('{"name": 5}'), "name = 5 should be of type str"),
    "zeros": (sweep_json("\0" * 512), "not valid JSON"),
    "no UTF-8": (sweep_json("\xff\xfe"), "not valid JSON"),
    "nested deeply": (sweep_json("[" * 100_000), "not valid JSON"),
    "a folder for sweep.json": (put("a folder"), "Is a directory"),
    "a pipe for sweep.json": (put("a pipe"), "not a file but a pipe, a device or a socket"),
    "a device for sweep.json": (put("a device without end"), "not a file but a pipe, a device or a socket"),
    "a loop for sweep.json": (put("a link to itself"), "Too many levels of symbolic links"),
    "17 GB of sweep.json": (put("a file of 17 GB"), "larger than 60,000,000 bytes"),
    "a date that no calendar has": (sound_but(lambda record: record.update(created_at=1e300)), "created_at = 1e+300"),
    "a name that is a path": (sound_but(lambda record: record.update(name="../a")), "name '../a': a name is 1 to 64"),
    "a name that is markup": (sound_but(lambda record: record.update(name="<b>")), "name '<b>': a name is 1 to 64"),
    "a name that steers the terminal": (
        sound_but(lambda record: record.update(name="\x1b[2J")),
        r"name '\x1b[2J': a name",
    ),
    "a list for the spec": (sound_but(lambda record: record.update(spec=[])), "spec = [] should be of type dict"),
    "a key of another version": (sound_but(lambda record: record["spec"].update(colour="red")), "spec.colour: "),
    "no trials": (sound_but(lambda record: record["spec"].update(trials=[])), "spec.trials: "),
    "a trial twice": (
        sound_but(lambda record: record["spec"]["trials"].extend(record["spec"]["trials"])),
        "two trials",
    ),
    "a trial outside": (first_trial(name="../../etc"), "spec.trials.0.name: "),
    "a trial that is markup": (first_trial(name="<script>alert(1)</script>"), "spec.trials.0.name: "),
    "an arm that is markup": (first_trial(arm="<script>alert(1)</script>"), "spec.trials.0.arm: "),
    "no epochs": (first_trial(epochs=0), "spec.trials.0.epochs: "),
    "NaN for a setting": (first_trial(label_smoothing=math.nan), "spec.trials.0.label_smoothing: "),
}


@pytest.mark.parametrize(("make", "line"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_sweep_is_refused_in_one_line_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Make, line: str
) -> None:
    folder = tmp_path / "s"
    make(folder)
    before = everything(tmp_path)
    printed = refuse(capsys, folder)
    assert printed.startswith(f"analyze.py: {folder}")
    assert line in printed
    assert printed[:-1].isprintable()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\udcff", "🙂", "x" * 300])
def test_a_folders_odd_name_stays_on_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    line = refuse(capsys, tmp_path / name)
    assert f"no such folder; {THE_FOLDER}" in line
    assert line[:-1].isprintable()


def test_sweeps_nearby_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path / "quick", {"transfer": (1, 1)})
    assert f"for example {tmp_path / 'quick'}" in refuse(capsys, tmp_path)
    assert f"for example {tmp_path / 'quick'}" in refuse(capsys, tmp_path / "quik")


@pytest.mark.parametrize("out", ["file", "file/out", "pipe", "loop"])
def test_a_place_that_cannot_be_written_to_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 1)}).path
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    NO_FILE["a link to itself"](tmp_path / "loop")
    before = everything(tmp_path)
    line = refuse(capsys, folder, "--out", tmp_path / out)
    assert "cannot be written to" in line
    assert "--out DIR" in line
    assert everything(tmp_path) == before


def test_a_missing_argument_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        analyze.main([])
    assert caught.value.code == 2
    line = "analyze.py: the following arguments are required: FOLDER (--help shows what there is)\n"
    assert capsys.readouterr().err == line


def test_a_trials_folder_is_told_from_its_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "sweep")
    line = refuse(capsys, folder.trial("transfer-1").path)
    assert line.endswith(f"sweep/transfer-1: a folder in a sweep's; give the sweep's own, {folder.path}\n")


def test_two_sweeps_are_shown_side_by_side_in_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    a = write_sweep(tmp_path / "before").path
    b = write_sweep(tmp_path / "after", {"transfer": (3, 5)}).path
    assert analyze.main([str(a), str(b), "--format", "parquet"]) == 0
    *summary, last = capsys.readouterr().out.splitlines()
    out = a / "analysis/beside-after"
    assert last == f"report: {out / 'report.html'}"
    assert max(map(len, summary)) <= 80
    assert any(line.startswith("transfer  B      3  85.45") for line in summary)
    assert pd.read_parquet(out / "epochs.parquet")["sweep"].nunique() == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["a", "b", "--watch"], "--watch and --export take one folder"),
        (["a", "--watch", "--export"], "not allowed with"),
        (["a", "./a"], "name each sweep once"),
        ([str(number) for number in range(27)], "at most 26"),
        (["a", "--export", "--format", "pdf"], "--export does not write"),
        (["~nobody-of-this-name"], "nobody-of-this-name"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        analyze.main(arguments)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


def test_a_second_folder_that_is_no_sweep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "a", {"transfer": (1, 1)}).path
    assert "no such folder" in refuse(capsys, folder, tmp_path / "b")
    assert not (folder / "analysis").exists()


def test_a_missing_browser_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    folder = write_sweep(tmp_path / "a", {"transfer": (1, 1)}).path
    assert "sudo apt install chromium" in refuse(capsys, folder, "--format", "pdf")
    assert not (folder / "analysis").exists()


def test_watching_a_finished_sweep_reads_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited"))
    path = write_sweep(tmp_path / "a", {"transfer": (1, 1)}).path
    assert len(list(analyze.readings([path], watch=True))) == 1


def test_the_terminal_shows_some_of_many_rows_and_says_of_how_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze.main([str(write_sweep(tmp_path / "a", {"transfer": (70, 1)}).path)]) == 0
    printed = capsys.readouterr().out
    assert f"{TERMINAL_ROWS} of 70 rows, evenly taken; all are in tables/trials.csv." in printed
    assert printed.count("\ntransfer-") == 3 * TERMINAL_ROWS


def test_watching_says_as_of_when_and_how_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(tmp_path / "a", {"transfer": (2, 3)}, running=True)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", stop)
    with FileLock(folder.lock):
        assert analyze.main([str(folder.path), "--watch"]) == analyze.INTERRUPTED
    printed = capsys.readouterr().out
    assert re.search(r"as of \d\d:\d\d:\d\d; written again when an epoch has ended; Ctrl-C ends\n$", printed)
    assert "Accuracy and loss by trial" in printed
    assert "Averages by arm" not in printed


def test_a_watched_sweep_is_read_again_only_when_it_has_moved_on_and_once_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_sweep(tmp_path / "a", {"transfer": (2, 3)}, running=True)
    trial = trial_spec(folder, "transfer-2")
    (folder.trial(trial.name).path / "summary.json").unlink()
    lock = FileLock(folder.lock)
    lock.acquire()
    epochs = iter([1, 1, 2])

    def meanwhile(_: float) -> None:
        epoch = next(epochs, None)
        begin_trial(folder, trial, epoch) if epoch else lock.release()

    monkeypatch.setattr("time.sleep", meanwhile)
    begin_trial(folder, trial, 0)
    seen = [sweeps[0] for sweeps in analyze.readings([folder.path], watch=True)]
    assert [len(results.epochs) - 3 for results in seen] == [0, 1, 2, 2]
    assert [results.running for results in seen] == [True, True, True, False]


def test_the_terminal_marks_a_leak_and_says_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 1)}, data={"validation": "train"})
    write_failure(folder, "transfer-2", "lost")
    assert analyze.main([str(folder.path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Accuracy and loss by trial — {LEAK}" in printed
    assert f"! transfer: {LEAK}." in printed
    assert "! transfer-2 failed: RuntimeError: lost" in printed
