"""The gap between training and test accuracy, with both intervals, of the real QUICK."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.results import read_results
from raycifar.analysis.statistics.answers import variance_by_images
from raycifar.analysis.statistics.formulas import t_quantile
from raycifar.analysis.tables.accuracy import averages_by_arm
from raycifar.analysis.tables.gap import overfitting
from raycifar.analysis.tables.table import ONE_NETWORK, SEEDS_AND_IMAGES
from tests.support.arms import compared
from tests.support.paths import QUICK
from tests.support.sweep_folders import add_predictions, write_sweep


def test_images_that_are_all_right_tell_nothing_of_others(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 2), "scratch": (1, 2)}, data={"test_images": 160})
    for name in ("transfer-1", "transfer-2", "scratch"):
        summary = folder.trial(name).summary()
        assert summary is not None
        folder.trial(name).write_summary(replace(summary, test_accuracy=1.0))
    add_predictions(folder)
    results, tested = compared(read_results(folder.path), read_predictions(read_results(folder.path)))
    transfer, scratch = overfitting(results, tested).rows
    assert transfer[5] != "–"
    assert transfer[6] == scratch[6] == "–"


def test_the_gap_has_an_interval_with_other_test_images_where_predictions_allow() -> None:
    results, tested = compared(read_results(QUICK), read_predictions(read_results(QUICK)))
    transfer, scratch = overfitting(results, tested).cells
    answers = tested.arms["transfer"].answers
    assert answers is not None
    low, high = transfer[5].values
    images = 100 * t_quantile(len(answers.sizes) - 1) * math.sqrt(variance_by_images(answers))
    half = math.hypot((high - low) / 2, images)
    middle = (low + high) / 2
    assert transfer[6].values == (pytest.approx(middle - half), pytest.approx(middle + half), SEEDS_AND_IMAGES)
    alone = tested.arms["scratch"].answers
    assert alone is not None
    half = 100 * t_quantile(len(alone.sizes) - 1) * math.sqrt(variance_by_images(alone))
    gap = scratch[4].values[0]
    assert scratch[6].values == (pytest.approx(gap - half), pytest.approx(gap + half), ONE_NETWORK)
    averages = averages_by_arm(results, tested).cells
    of = {(row[0].text, row[1].text): row[6].values for row in averages}
    assert of["transfer", "training − test, points"] == transfer[6].values
    assert [row[6] for row in overfitting(*compared(results)).rows] == ["–", "–"]
