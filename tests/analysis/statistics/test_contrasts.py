"""The intervals over seeds and with other test images against hand values and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from raycifar.analysis.statistics.contrasts import (
    Arm,
    apart,
    arm_interval,
    difference,
    image_variance,
)


def recipe(share: float, seeds: int, images: int, draw: int, *, noise: float = 0.05) -> np.ndarray:
    """Right or wrong (seeds, images): images differ in how hard they are, and seeds disagree on some."""
    hard = np.random.default_rng(99).random(images)
    rng = np.random.default_rng(draw)
    return np.array([(hard < share) ^ (rng.random(images) < noise * rng.uniform(0.5, 1.5)) for _ in range(seeds)])


def proposed(a, b):
    """As the formula is written down: of mean(a) - mean(b), two seeds or more each."""
    pa, pb = a.mean(0), b.mean(0)
    v = ((pa - pb) ** 2).mean() - (pa.mean() - pb.mean()) ** 2
    return max(0.0, v - sum((p * (1 - p)).mean() / (len(x) - 1) for p, x in ((pa, a), (pb, b)))) / a.shape[1]


def test_the_variance_of_images_is_that_of_the_recipe_without_the_disagreement_of_its_seeds() -> None:
    a, b = recipe(0.9, 3, 4000, 1), recipe(0.7, 2, 4000, 2)
    assert image_variance(a, b) == pytest.approx(proposed(a, b), rel=1e-3)
    assert image_variance(a) < a[:1].var() / 4000
    assert image_variance(a, a) == 0.0


def test_groups_of_images_are_drawn_together() -> None:
    single, groups = recipe(0.8, 3, 300, 1), np.repeat(np.arange(300), 4)
    fourfold = np.repeat(single, 4, axis=1)  # the same 300 images four times over are no 1,200 images
    assert image_variance(fourfold, groups=groups) == pytest.approx(image_variance(single))
    assert image_variance(single, groups=np.arange(300)[::-1]) == pytest.approx(image_variance(single))
    assert math.isnan(image_variance(single, groups=np.zeros(300)))


def test_both_intervals_of_an_arm() -> None:
    right = recipe(0.9, 4, 1000, 3)
    found, shares = arm_interval(right), right.mean(1)
    low, high = scipy_stats.t.interval(0.95, 3, shares.mean(), scipy_stats.sem(shares))
    assert found.seeds == pytest.approx((low, high))
    half = math.hypot(found.seeds.high - found.mean, scipy_stats.t.ppf(0.975, 999) * math.sqrt(image_variance(right)))
    assert found.images == pytest.approx((found.mean - half, found.mean + half))


def test_both_intervals_and_the_p_values_of_a_difference() -> None:
    a, b = recipe(0.9, 3, 1000, 4), recipe(0.88, 5, 1000, 5)
    found = difference(a, b)
    theirs = scipy_stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False)
    assert found.seeds == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.p_seeds == pytest.approx(theirs.pvalue)
    assert found.images.low < found.seeds.low < found.seeds.high < found.images.high
    assert found.images.excludes_zero is (found.p_images < 0.05)


@pytest.mark.parametrize("share", [0.6, 0.895, 0.8999, 0.9])
def test_p_is_below_alpha_where_the_wider_interval_excludes_zero(share: float) -> None:
    found = difference(recipe(0.9, 3, 1000, 6), recipe(share, 3, 1000, 7))
    assert found.images.excludes_zero is (found.p_images < 0.05)
    assert found.p == found.p_images >= found.p_seeds


def test_one_trial_against_several_is_taken_to_spread_as_they_do() -> None:
    many, one = recipe(0.9, 3, 1000, 8), recipe(0.8, 1, 1000, 9)
    found = difference(many, one)
    half = scipy_stats.t.ppf(0.975, 2) * many.mean(1).std(ddof=1) * math.sqrt(1 + 1 / 3)
    assert found.is_assumed
    assert found.seeds == pytest.approx((found.mean - half, found.mean + half))
    mirrored = difference(one, many)
    assert (mirrored.mean, *mirrored.seeds) == pytest.approx((-found.mean, -found.seeds.high, -found.seeds.low))


def test_two_single_trials_have_an_interval_of_their_networks_alone() -> None:
    a, b = recipe(0.9, 1, 1000, 1), recipe(0.8, 1, 1000, 2)
    found = difference(a, b)
    by_image = a[0].astype(float) - b[0]
    assert not found.seeds.known
    assert not found.images.known
    half = scipy_stats.t.ppf(0.975, 999) * by_image.std(ddof=1) / math.sqrt(1000)
    assert found.networks == pytest.approx((by_image.mean() - half, by_image.mean() + half))
    assert math.isnan(found.p)


@pytest.mark.parametrize("right", [np.ones((3, 100), bool), np.zeros((2, 100), bool), np.tile([True, False], (4, 50))])
def test_trials_that_are_all_alike_have_no_interval(right: np.ndarray) -> None:
    found = arm_interval(right)
    assert found.mean == right.mean()
    assert not found.seeds.known
    assert not found.images.known
    assert not difference(right, right).seeds.known


def test_without_predictions_the_images_are_left_out() -> None:
    found = apart(*(Arm(np.array(values)) for values in ([0.9, 0.91], [0.8, 0.82])))
    assert found.seeds.known
    assert not found.images.known
    assert found.p == found.p_seeds
