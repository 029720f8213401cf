"""Two sweeps on the same test images. The real one is `QUICK` (tests/samples/README.md)."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.report.side_by_side import compare_sweeps
from raycifar.analysis.results import Results, read_results
from raycifar.analysis.tables.paired import EXACT, OF_MEANS
from raycifar.analysis.tables.paired_sweeps import NOTHING, image_tests
from raycifar.analysis.tables.table import Table
from raycifar.analysis.wording import percent, probability
from raycifar.storage.folders import SweepFolder
from tests.support.paths import QUICK
from tests.support.sweep_folders import add_predictions, write_sweep

ARMS = {"transfer": (2, 1), "scratch": (1, 1)}


def test_the_networks_of_one_arm_are_tested_against_each_other(tmp_path: Path) -> None:
    other = shutil.copytree(QUICK, tmp_path / "other")
    shutil.copy(QUICK / "transfer-1/predictions.npz", other / "scratch")  # scratch says what transfer-1 said
    summary = SweepFolder(other).trial("scratch").summary()
    same = SweepFolder(other).trial("transfer-1").summary()
    assert summary is not None
    assert same is not None
    SweepFolder(other).trial("scratch").write_summary(replace(summary, test_accuracy=same.test_accuracy))
    rows = table([read_results(QUICK), read_results(other)]).rows
    assert rows[0] == ["transfer", "B", "3, 3", "1,000", "0", "0", "+0.00", "1.000", "1.000", "2", OF_MEANS]
    arrays = [np.load(folder / "scratch/predictions.npz") for folder in (other, QUICK)]
    its, ours = (array["logits"].argmax(1) == array["labels"] for array in arrays)
    only_its, only_ours = int((its & ~ours).sum()), int((ours & ~its).sum())
    p = binomtest(only_its, only_its + only_ours).pvalue
    assert rows[1][:6] == ["scratch", "B", "1, 1", "1,000", str(only_its), str(only_ours)]
    assert rows[1][6:8] == [percent((only_its - only_ours) / 1000, "+"), probability(p)]
    assert rows[1][8:] == [probability(2 * p), "2", EXACT]


def test_p_is_adjusted_for_all_arms_and_sweeps(tmp_path: Path) -> None:
    of = {"transfer": (2, 2), "scratch": (1, 2)}, {"transfer": (2, 3), "scratch": (1, 3)}, {"transfer": (2, 4)}
    sweeps = [read_results(predicted(tmp_path / name, arms).path) for name, arms in zip("abc", of, strict=True)]
    p, adjusted = ([row[place].values[0] for row in table(sweeps).cells] for place in (7, 8))
    assert adjusted == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=0)
    assert adjusted != pytest.approx(p, abs=0)


def test_other_seeds_are_tested_all_the_same(tmp_path: Path) -> None:
    arms = {"transfer": (3, 1)}
    a, b = predicted(tmp_path / "a", arms), predicted(tmp_path / "b", arms)
    before = table([read_results(a.path), read_results(b.path)]).rows
    text = (b.path / "sweep.json").read_text()
    for seed in (1, 2, 3):
        text = text.replace(f'"seed": {seed}', f'"seed": {seed + 6}')
    (b.path / "sweep.json").write_text(text)
    assert table([read_results(a.path), read_results(b.path)]).rows == before


def test_sweeps_on_other_images_or_without_predictions_are_left_out_and_named(tmp_path: Path) -> None:
    sweeps = [predicted(tmp_path / "a"), predicted(tmp_path / "b"), predicted(tmp_path / "c", images=80)]
    sweeps.append(write_sweep(tmp_path / "d", ARMS, data={"test_images": 160}))
    found = table([read_results(sweep.path) for sweep in sweeps])
    assert {row[1] for row in found.rows} == {"B"}
    assert "No finished trial has left readable predictions in D." in found.notes
    assert "Not tested on A's images: C." in found.notes


def test_a_file_of_predictions_that_cannot_be_read_is_said_in_the_table_and_named_on_top(tmp_path: Path) -> None:
    a, b = predicted(tmp_path / "a"), predicted(tmp_path / "b")
    b.trial("transfer-2").predictions.write_bytes(b"junk")
    sweeps = [read_results(a.path), read_results(b.path)]
    found = table(sweeps)
    assert [row[:3] for row in found.rows] == [["transfer", "B", "1, 2"], ["scratch", "B", "1, 1"]]
    assert any(note.startswith("B: Not included, as their predictions.npz cannot be used: 1") for note in found.notes)
    (caution,) = [line for line in compare_sweeps(sweeps).cautions if "predictions.npz" in line]
    assert caution.startswith("B: unreadable: ")
    assert "transfer-2" in caution


def test_a_table_without_rows_says_why(tmp_path: Path) -> None:
    a = read_results(predicted(tmp_path / "a").path)
    images = read_results(predicted(tmp_path / "b", images=80).path)
    arms = read_results(predicted(tmp_path / "c", {"third": (1, 1)}).path)
    silent = read_results(write_sweep(tmp_path / "d").path)
    assert table([a, images]).notes == [NOTHING, "Not tested on A's images: B."]
    assert table([a, arms]).notes == [NOTHING]
    assert "No finished trial has left readable predictions in B." in table([a, silent]).notes
    assert "No finished trial has left readable predictions in A." in table([silent, a]).notes


def predicted(path: Path, arms: dict[str, tuple[int, int]] | None = None, images: int = 160) -> SweepFolder:
    folder = write_sweep(path, arms or ARMS, data={"test_images": images})
    add_predictions(folder)
    return folder


def table(sweeps: list[Results]) -> Table:
    found = next(table for table in compare_sweeps(sweeps).whole_tables if table.key == "images")
    assert found == image_tests(sweeps, [read_predictions(results) for results in sweeps], "ABCD")
    return found
