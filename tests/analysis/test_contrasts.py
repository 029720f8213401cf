"""The intervals over seeds and with other test images, and families of comparisons, against hand values and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from raycifar.analysis.contrasts import (
    Arm,
    against_baseline,
    against_best,
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


def test_of_many_comparisons_p_is_adjusted_for_as_many_as_were_made() -> None:
    arms = {f"arm-{i}": Arm.of(recipe(0.80 + 0.02 * i, 3, 1000, i)) for i in range(4)}
    best, base = against_best(arms), against_baseline(arms, "arm-0")
    assert (best.size, [(c.a, c.b) for c in best.comparisons]) == (6, [("arm-3", f"arm-{i}") for i in range(3)])
    assert (base.size, [(c.a, c.b) for c in base.comparisons]) == (3, [(f"arm-{i}", "arm-0") for i in (1, 2, 3)])
    assert all(c.adjusted >= c.apart.p for c in [*best.comparisons, *base.comparisons])


def test_two_arms_are_one_comparison() -> None:
    arms = {"a": Arm.of(recipe(0.8, 3, 1000, 1)), "b": Arm.of(recipe(0.9, 3, 1000, 2))}
    (comparison,) = against_best(arms).comparisons
    assert (comparison.a, comparison.adjusted) == ("b", comparison.apart.p)


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
    apart = a[0].astype(float) - b[0]
    assert not found.seeds.known
    assert not found.images.known
    half = scipy_stats.t.ppf(0.975, 999) * apart.std(ddof=1) / math.sqrt(1000)
    assert found.networks == pytest.approx((apart.mean() - half, apart.mean() + half))
    assert math.isnan(found.p)


@pytest.mark.parametrize("right", [np.ones((3, 100), bool), np.zeros((2, 100), bool), np.tile([True, False], (4, 50))])
def test_trials_that_are_all_alike_have_no_interval(right: np.ndarray) -> None:
    found = arm_interval(right)
    assert found.mean == right.mean()
    assert not found.seeds.known
    assert not found.images.known
    assert not difference(right, right).seeds.known


def test_without_predictions_the_images_are_left_out() -> None:
    arms = {name: Arm(np.array(values)) for name, values in (("a", [0.9, 0.91]), ("b", [0.8, 0.82]))}
    (comparison,) = against_best(arms).comparisons
    assert comparison.apart.seeds.known
    assert not comparison.apart.images.known
    assert comparison.apart.p == comparison.apart.p_seeds


def test_no_arm_is_compared_with_nothing() -> None:
    assert against_best({}) == ([], 0)
    assert against_baseline({"a": Arm(np.array([0.9]))}, "gone") == ([], 0)
