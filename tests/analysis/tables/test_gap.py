"""The gap between training and test accuracy, with both intervals, of the real QUICK."""

import math

import pytest

from raycifar.analysis.answers import variance_by_images
from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.results import read_results
from raycifar.analysis.stats import t_quantile
from raycifar.analysis.tables.gap import overfitting
from raycifar.analysis.tables.table import SEEDS_AND_IMAGES
from tests.support.arms import compared
from tests.support.paths import QUICK


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
    assert scratch[6].text == "–"
    assert [row[6] for row in overfitting(*compared(results)).rows] == ["–", "–"]
