"""raycifar.analysis.tables.images: single test images in tables. `QUICK` is a real sweep (tests/samples/README.md)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.stats import binomtest, norm
from statsmodels.stats.multitest import multipletests

from raycifar.analysis.predictions import Predictions, most_confused, read_predictions
from raycifar.analysis.results import Results, read_results
from raycifar.analysis.statistics.contrasts import arm_interval
from raycifar.analysis.statistics.formulas import calibrated_error, proportion_interval
from raycifar.analysis.tables.images import (
    NO_PREDICTIONS,
    accuracy_by_class,
    calibration_by_arm,
    confused_pairs,
)
from raycifar.analysis.tables.paired import paired_tests
from raycifar.analysis.tables.table import ONE_NETWORK, SEEDS_AND_IMAGES
from raycifar.analysis.wording import number, percent, probability
from raycifar.config.datasets import CIFAR10
from tests.support.paths import QUICK
from tests.support.sweep_folders import add_predictions, write_sweep


@pytest.fixture(scope="module")
def quick() -> tuple[Results, Predictions]:
    results = read_results(QUICK)
    return results, read_predictions(results)


def test_every_two_arms_are_tested_on_the_same_images(quick: tuple[Results, Predictions]) -> None:
    table = paired_tests(*quick)
    (row,) = table.rows
    a, b = (np.mean([t.right for t in quick[1].by_arm([arm])[arm]], axis=0) for arm in ("transfer", "scratch"))
    z = (a - b).mean() / ((a - b).std(ddof=1) / np.sqrt(1000))
    assert row[:4] == ["transfer", "scratch", "3, 1", "1,000"]
    assert row[4:7] == [str((a > b).sum()), str((b > a).sum()), percent(float((a - b).mean()), "+")]
    assert row[7:] == [probability(2 * norm.sf(abs(z)))] * 2 + ["1", "z of the means by image"]
    assert "The one pair is shown to differ; it needs no adjustment." in table.notes


def test_single_trials_are_tested_by_mcnemar(tmp_path: Path) -> None:
    results, predictions = synthetic(tmp_path, {"transfer": (1, 1), "scratch": (1, 1), "third": (1, 1)})
    table = paired_tests(results, predictions)
    a, b = (tested.right for tested in predictions.trials[:2])
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = binomtest(only_a, only_a + only_b).pvalue
    assert table.rows[0][4:8] == [str(only_a), str(only_b), percent((only_a - only_b) / 160, "+"), probability(p)]
    assert [row[9:] for row in table.rows] == [["3", "McNemar, exact"]] * 3
    adjusted = multipletests([cell.values[0] for cell in (row[7] for row in table.cells)], method="holm")[1]
    assert [row[8] for row in table.rows] == [probability(p) for p in adjusted]
    assert "Rows that name one arm share its networks: they do not confirm each other." in table.notes


def test_networks_that_say_the_same_are_not_called_equal(tmp_path: Path) -> None:
    results, predictions = synthetic(tmp_path, {"transfer": (1, 1), "scratch": (1, 1)})
    twins = Predictions([replace(predictions.trials[0], arm=arm) for arm in ("transfer", "scratch")])
    table = paired_tests(results, twins)
    assert table.rows[0][4:9] == ["0", "0", "+0.00", "1.000", "1.000"]
    assert "The one pair is not shown to differ; it needs no adjustment." in table.notes
    assert "not whether they say the same; above 0.05 they may still differ" in table.notes[0]


def test_one_trial_of_an_arm_compares_networks_not_ways_of_training(quick: tuple[Results, Predictions]) -> None:
    assert any("scratch has one tested trial (n = 1)" in note for note in paired_tests(*quick).notes)


@pytest.mark.parametrize("n", [2, 6])
def test_the_family_does_not_depend_on_the_number_of_seeds(tmp_path: Path, n: int) -> None:
    table = paired_tests(*synthetic(tmp_path, {"transfer": (n, 1), "scratch": (n, 1), "third": (n, 1)}))
    assert [row[9] for row in table.rows] == ["3"] * 3


def test_a_single_arm_has_nothing_to_be_paired_with(tmp_path: Path) -> None:
    table = paired_tests(*synthetic(tmp_path, {"transfer": (2, 1)}))
    assert table.rows == []
    assert "there is no other arm" in table.notes[0]


def test_without_predictions_every_table_says_so(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s", {"transfer": (1, 1)}).path)
    for make in (paired_tests, accuracy_by_class, confused_pairs, calibration_by_arm):
        table = make(results, Predictions())
        assert (table.rows, table.notes) == ([], [NO_PREDICTIONS])


def test_trials_without_predictions_are_named_in_the_notes(tmp_path: Path) -> None:
    results, predictions = synthetic(tmp_path, {"transfer": (2, 1), "scratch": (1, 1)}, missing="transfer-2")
    notes = accuracy_by_class(results, predictions).notes
    assert "Not included, as they have no predictions.npz: 1 of the finished trials." in notes


def test_class_accuracies_average_to_the_test_accuracy(quick: tuple[Results, Predictions]) -> None:
    rows = accuracy_by_class(*quick).rows
    assert [row[1] for row in rows] == ["100"] * 10
    scratch = np.mean([float(row[3].split()[0]) for row in rows])
    assert scratch == pytest.approx(11.60)  # its summary.json


def test_the_most_confused_pairs_come_first_and_none_is_a_class_itself(quick: tuple[Results, Predictions]) -> None:
    pairs = most_confused(quick[1].by_arm(["transfer"])["transfer"])
    assert [pair.share for pair in pairs] == sorted((pair.share for pair in pairs), reverse=True)
    assert all(pair.label != pair.predicted for pair in pairs)
    assert confused_pairs(*quick).rows[0][:4] == ["transfer", "cat", "dog", "21.67"]


def test_confidence_beside_accuracy_and_the_calibration_error(quick: tuple[Results, Predictions]) -> None:
    row = calibration_by_arm(*quick).rows[1]
    arrays = np.load(QUICK / "scratch" / "predictions.npz")
    logits = arrays["logits"].astype(float)
    sure = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(1).mean()
    assert row[:4] == ["scratch", "1", "11.60", percent(float(sure))]


def synthetic(
    tmp_path: Path, arms: dict[str, tuple[int, int]], missing: str | None = None
) -> tuple[Results, Predictions]:
    folder = write_sweep(tmp_path / "s", arms, data={"test_images": 160})
    add_predictions(folder)
    if missing:
        folder.trial(missing).predictions.unlink()
    results = read_results(folder.path)
    return results, read_predictions(results)


def test_calibration_is_computed_from_the_predictions(quick: tuple[Results, Predictions]) -> None:
    row, trials = calibration_by_arm(*quick).rows[0], quick[1].by_arm(["transfer"])["transfer"]
    right, sure = (float(np.mean([getattr(t, key).mean() for t in trials])) for key in ("right", "confidence"))
    assert row[:5] == ["transfer", "3", percent(right), percent(sure), percent(sure - right, "+")]
    bins = [np.ceil(t.confidence.astype(float) * 15) for t in trials]
    errors = [
        sum(abs((t.confidence[b == i].astype(float) - t.right[b == i]).sum()) for i in range(1, 16)) / 1000
        for t, b in zip(trials, bins, strict=True)
    ]
    assert row[7] == f"{percent(float(np.mean(errors)))} ± {percent(float(np.std(errors, ddof=1)))}"
    finished = quick[0].finished
    assert row[8] == percent(float(np.mean([calibrated_error(t.confidence) for t in trials])))
    assert row[9] == number(finished.loc[finished["arm"] == "transfer", "test_loss"].mean())


def test_accuracies_are_beside_their_class(quick: tuple[Results, Predictions]) -> None:
    arrays = np.load(QUICK / "scratch/predictions.npz")
    labels, right = arrays["labels"], arrays["logits"].argmax(1) == arrays["labels"]
    assert [[row[0], row[3].split()[0]] for row in accuracy_by_class(*quick).rows] == [
        [name, percent(right[labels == label].mean())] for label, name in enumerate(CIFAR10.classes)
    ]


def test_every_class_has_both_intervals_and_a_single_network_its_own(quick: tuple[Results, Predictions]) -> None:
    table, trials = accuracy_by_class(*quick), quick[1].by_arm(["transfer"])["transfer"]
    labels = quick[1].tests.labels
    for label, (_, _, transfer, scratch) in enumerate(table.cells):
        of = arm_interval(np.stack([t.right[labels == label] for t in trials]))
        low, high = 100 * max(0.0, of.images.low), 100 * min(1.0, of.images.high)
        seeds = 100 * max(0.0, of.seeds.low), 100 * min(1.0, of.seeds.high)
        assert transfer.values[3:] == (pytest.approx(seeds[0]), pytest.approx(seeds[1]), *transfer.values[5:])
        assert transfer.values[5:] == (pytest.approx(low), pytest.approx(high), SEEDS_AND_IMAGES)
        assert f"({low:.2f}" in transfer.text
        wilson = proportion_interval(scratch.values[0] / 100, 100)
        assert scratch.values[3:] == (None, None, *(pytest.approx(100 * end, abs=1e-9) for end in wilson), ONE_NETWORK)
        assert scratch.text == f"{scratch.values[0]:.2f} ({100 * wilson[0]:.2f} to {100 * wilson[1]:.2f})"


def test_how_much_too_sure_an_arm_is_has_both_intervals(quick: tuple[Results, Predictions]) -> None:
    transfer, scratch = calibration_by_arm(*quick).cells
    trials = quick[1].by_arm(["transfer"])["transfer"]
    above = [float((t.confidence.astype(float) - t.right).mean()) for t in trials]
    seeds = scipy_stats.t.interval(0.95, len(above) - 1, np.mean(above), scipy_stats.sem(above))
    assert transfer[5].values == pytest.approx(tuple(100 * np.array(seeds)))
    assert transfer[6].values[0] < transfer[5].values[0] < transfer[5].values[1] < transfer[6].values[1]
    one = quick[1].by_arm(["scratch"])["scratch"][0]
    by_image = one.confidence.astype(float) - one.right
    half = scipy_stats.t.ppf(0.975, len(by_image) - 1) * scipy_stats.sem(by_image)
    assert scratch[5].text == "–"
    ends = 100 * (by_image.mean() - half), 100 * (by_image.mean() + half)
    assert scratch[6].values == (pytest.approx(ends[0]), pytest.approx(ends[1]), ONE_NETWORK)


def test_p_of_pairs_is_adjusted_for_all_of_them(tmp_path: Path) -> None:
    cells = paired_tests(*synthetic(tmp_path, {"transfer": (3, 1), "scratch": (2, 1), "third": (2, 1)})).cells
    p, adjusted = ([row[place].values[0] for row in cells] for place in (7, 8))
    assert adjusted == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=0)
    assert adjusted != pytest.approx(p, abs=0)


def test_the_notes_count_the_pairs_that_differ(quick: tuple[Results, Predictions], tmp_path: Path) -> None:
    assert {row[7] for row in paired_tests(*quick).rows} == {"< 0.0001"}
    notes = paired_tests(*synthetic(tmp_path, {"transfer": (3, 1), "scratch": (2, 1), "third": (2, 1)})).notes
    assert "p adjusted after Holm for the 3 pairs of this table. Below 0.05: 2 of 3 shown to differ." in notes
    assert "networks of one recipe and two seeds may differ, too. The intervals over seeds do." in notes[0]
