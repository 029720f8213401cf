"""The CSV files of reports on real sweeps, as pandas and a spreadsheet read them."""

from pathlib import Path

import pandas as pd
import pytest
from pandas.api.types import is_numeric_dtype

from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.report.formats import write_frames
from raycifar.analysis.report.report import make_report, write_tables
from raycifar.analysis.report.side_by_side import compare_sweeps, joined_tables
from raycifar.analysis.results import read_results
from raycifar.analysis.tables.table import Cell, Table, count, figure, machine_name, word
from raycifar.analysis.wording import percent
from tests.support.paths import QUICK
from tests.support.sweep_folders import write_sweep

WORDS = {  # the columns of text; every other one holds numbers or nothing
    "averages": {"arm", "quantity", "with_other_test_images_covers"},
    "best-val-accuracy": {"arm", "sweep", "compared"},
    "calibration": {"arm", "confidence_minus_accuracy_points_with_other_test_images_covers"},
    "classes": {"class", "transfer_percent_covers", "scratch_percent_covers"},
    "confused": {"arm", "images_of", "classified_as"},
    "devices": {"device", "kind"},
    "differences": {"arm", "minus", "with_other_test_images_covers", "compared"},
    "equal-cost": {"after"},
    "gap": {"arm", "gap_points_with_other_test_images_covers"},
    "images": {"arm", "sweep", "test"},
    "images-per-second": {"arm", "sweep", "compared"},
    "learning": {"trial"},
    "milestones": {"arm"},
    "own-seconds": {"arm", "sweep", "compared"},
    "paired": {"arm_a", "arm_b", "test"},
    "recipe": {"setting", "transfer", "scratch"},
    "recipes": {"arm", "setting", "A", "B"},
    "reference": {"quantity"},
    "surroundings": {"setting", "A", "B"},
    "sweeps": {"sweep", "name", "hardware"},
    # without that of the differences' images: no predictions in one of the sweeps
    "test-accuracy": {"arm", "sweep", "compared", "mean_with_other_test_images_covers"},
    "test-accuracy-flip": {"arm", "sweep", "compared"},
    "test-loss": {"arm", "sweep", "compared"},
    "time": {"arm"},
    "time-by-trial": {"trial", "device"},
    "trials": {"trial", "status"},
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CSV files of a real sweep's report, and of the real sweep beside a synthetic one."""
    folder = tmp_path_factory.mktemp("csv")
    quick = read_results(QUICK)
    other = read_results(write_sweep(folder / "other", data={"test_images": 1000}).path)
    write_frames({"epochs": quick.epochs, "trials": quick.trials}, folder)
    write_tables(make_report(quick, read_predictions(quick)), folder)
    write_tables(compare_sweeps([quick, other]), folder)
    return folder


def read(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / "tables" / f"{name}.csv")


def test_every_table_is_in_the_list(out: Path) -> None:
    assert {path.stem for path in (out / "tables").iterdir()} == set(WORDS)


@pytest.mark.parametrize("name", WORDS)
def test_pandas_reads_numbers_as_numbers_and_no_heading_twice(out: Path, name: str) -> None:
    frame = read(out, name)
    filled = frame.dropna(axis="columns", how="all")
    assert {column for column in filled if not is_numeric_dtype(frame[column])} <= WORDS[name]
    assert WORDS[name] <= set(frame.columns)
    assert not [column for column in frame.columns if ".1" in column]  # pandas' name for a second one of a name


def test_frames_are_read_as_numbers_too(out: Path) -> None:
    epochs, trials = (pd.read_csv(out / f"{name}.csv") for name in ("epochs", "trials"))
    assert {column for column in epochs if not is_numeric_dtype(epochs[column])} == {"trial", "arm", "validation"}
    texts = {"trial", "arm", "status", "fingerprint", "validation", "precision", "versions"}
    texts |= {"device", "device_kind", "devices"}
    filled = trials.dropna(axis="columns", how="all")
    assert {column for column in filled if not is_numeric_dtype(trials[column])} == texts


def test_every_file_begins_with_the_mark_by_which_spreadsheets_know_utf_8(out: Path) -> None:
    files = list(out.rglob("*.csv"))
    assert len(files) == len(WORDS) + 2
    assert all(path.read_bytes().startswith(b"\xef\xbb\xbf") for path in files)


def test_an_interval_is_two_numbers_and_a_mean_says_of_how_many(out: Path) -> None:
    summaries, row = read_results(QUICK).trials, read(out, "averages").iloc[0]
    accuracies = 100 * summaries.loc[summaries["arm"] == "transfer", "test_accuracy"]
    assert (row["quantity"], row["n"]) == ("test accuracy, %", 3)
    assert row["mean"] == pytest.approx(accuracies.mean())
    assert row["low"] < row["mean"] < row["high"]
    at_223_seconds = read(out, "equal-cost").iloc[1]
    assert (at_223_seconds["transfer_percent_n"], at_223_seconds["transfer_percent_of"]) == (2, 3)
    assert pd.isna(at_223_seconds["scratch_percent_low"])  # one trial


def test_what_a_table_rounds_or_words_its_file_does_not(out: Path) -> None:
    pairs, trials = read(out, "paired"), read(out, "time-by-trial")
    assert (pairs["p"] < 1e-100).all()  # shown as "< 0.0001"
    assert (pairs["images"] == 1000).all()  # shown as "1,000"
    assert trials["gpu_seconds"].isna().all()  # shown as "none (CPU)"
    assert trials["training_time_s"].tolist() == pytest.approx(read_results(QUICK).trials["own_seconds"].tolist())


def test_a_cell_is_a_text_for_people_and_a_value_for_machines() -> None:
    assert figure(-0.12345, percent, "+") == Cell("−12.35", (-12.345,))
    assert figure(float("nan"), percent) == Cell("–", (None,))
    assert count(12_000) == Cell("12,000", (12_000,))
    cells = [word("a,b"), count(12_000), figure(0.1 + 0.2, percent), figure(float("nan"), percent)]
    table = Table("key", "", [], [cells])
    assert table.plain_rows()[1] == ["a,b", "12000", "30", ""]


def test_headings_become_names_that_need_no_quotes() -> None:
    headings = ("test %", "training time, s", "epochs to 85 %", "GPU-seconds", "energy, kJ")
    names = ["test_percent", "training_time_s", "epochs_to_85_percent", "gpu_seconds", "energy_kj"]
    assert [machine_name(heading) for heading in headings] == names


def test_files_of_two_sweeps_have_the_sweep_in_their_first_column(out: Path, tmp_path: Path) -> None:
    quick = read_results(QUICK)
    write_frames(joined_tables([quick, quick]), tmp_path)
    assert pd.read_csv(tmp_path / "epochs.csv").columns[0] == "sweep"
