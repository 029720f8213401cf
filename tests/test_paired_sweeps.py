"""raycifar.paired_sweeps: two sweeps on the same test images. The real one is `QUICK` (tests/data/README.md)."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from raycifar.class_tables import NO_PREDICTIONS, probability
from raycifar.paired_sweeps import image_tests
from raycifar.predictions import read_predictions
from raycifar.records import SweepFolder
from raycifar.results import Results, read_results
from raycifar.side_by_side import compare_sweeps
from raycifar.tables import Table, percent
from tests.sweep_folders import add_predictions, write_sweep

QUICK = Path(__file__).parent / "data" / "quick"
ARMS = {"transfer": (2, 1), "scratch": (1, 1)}


def test_networks_of_one_seed_are_tested_against_each_other(tmp_path: Path) -> None:
    other = shutil.copytree(QUICK, tmp_path / "other")
    shutil.copy(QUICK / "transfer-1/predictions.npz", other / "scratch")  # scratch says what transfer-1 said
    summary = SweepFolder(other).trial("scratch").summary()
    same = SweepFolder(other).trial("transfer-1").summary()
    assert summary is not None
    assert same is not None
    SweepFolder(other).trial("scratch").write_summary(replace(summary, test_accuracy=same.test_accuracy))
    rows = table([read_results(QUICK), read_results(other)]).rows
    assert [row[:4] for row in rows[:3]] == [["transfer", "B", f"transfer-{i}", f"transfer-{i}"] for i in (1, 2, 3)]
    assert [row[5:] for row in rows[:3]] == [["0", "0", "+0.00", "1.000", "1.000"]] * 3
    arrays = [np.load(folder / "scratch/predictions.npz") for folder in (other, QUICK)]
    its, ours = (array["logits"].argmax(1) == array["labels"] for array in arrays)
    only_its, only_ours = int((its & ~ours).sum()), int((ours & ~its).sum())
    p = probability(4 * binomtest(only_its, only_its + only_ours).pvalue)
    assert rows[3][:7] == ["scratch", "B", "scratch", "scratch", "1,000", str(only_its), str(only_ours)]
    assert rows[3][7] == percent((only_its - only_ours) / 1000, "+")
    assert rows[3][9] == p


def test_without_a_common_seed_the_median_trials_are_tested(tmp_path: Path) -> None:
    a, b = (predicted(tmp_path / name) for name in "ab")
    text = (b.path / "sweep.json").read_text().replace('"seed": 1', '"seed": 7').replace('"seed": 2', '"seed": 8')
    (b.path / "sweep.json").write_text(text)
    rows = table([read_results(a.path), read_results(b.path)]).rows
    assert [row[0] for row in rows] == ["transfer", "scratch"]


def test_sweeps_on_other_images_or_without_predictions_are_left_out_and_named(tmp_path: Path) -> None:
    sweeps = [predicted(tmp_path / "a"), predicted(tmp_path / "b"), predicted(tmp_path / "c", images=80)]
    sweeps.append(write_sweep(tmp_path / "d", ARMS, data={"test_images": 160}))
    found = table([read_results(sweep.path) for sweep in sweeps])
    assert {row[1] for row in found.rows} == {"B"}
    assert "Not in it, for want of readable predictions: D." in found.notes
    assert "Not in it, for not tested on A's images: C." in found.notes


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"images": 80}, "Nothing to pair: the other sweeps were not tested on A's images."),
        ({"arms": {"third": (1, 1)}}, "Nothing to pair: no arm has predictions in A and in another sweep."),
    ],
)
def test_a_table_without_rows_says_why(tmp_path: Path, others: dict[str, object], why: str) -> None:
    a, b = predicted(tmp_path / "a"), predicted(tmp_path / "b", **others)  # type: ignore[arg-type]
    assert table([read_results(a.path), read_results(b.path)]).notes == [why]


def test_sweeps_without_any_predictions_say_so(tmp_path: Path) -> None:
    sweeps = [read_results(write_sweep(tmp_path / name).path) for name in "ab"]
    assert table(sweeps).notes == [NO_PREDICTIONS]


def predicted(path: Path, arms: dict[str, tuple[int, int]] | None = None, images: int = 160) -> SweepFolder:
    folder = write_sweep(path, arms or ARMS, data={"test_images": images})
    add_predictions(folder)
    return folder


def table(sweeps: list[Results]) -> Table:
    found = next(table for table in compare_sweeps(sweeps).whole_tables if table.key == "images")
    assert found == image_tests(sweeps, [read_predictions(results) for results in sweeps], "ABCD")
    return found
