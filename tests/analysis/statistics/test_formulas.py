"""raycifar.analysis.statistics.formulas against hand values and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from raycifar.analysis.statistics.formulas import (
    SHARE,
    Paired,
    calibrated_error,
    calibration,
    confusion,
    difference,
    holm,
    mcnemar,
    mean_test,
    prediction_interval,
    proportion_interval,
    sample,
)

REPORT_TEST_ACCURACIES = [0.8573, 0.8600, 0.8611]  # the reference report's three transfer runs


def test_mean_and_deviation_by_hand() -> None:
    of = sample([1.0, 2.0, 3.0])
    assert (of.n, of.mean, of.sd) == (3, 2.0, 1.0)
    assert of.high - of.mean == pytest.approx(4.302653 / math.sqrt(3))  # t of 2 degrees of freedom at 97.5 %


def test_the_reports_own_average_comes_out() -> None:
    assert sample(REPORT_TEST_ACCURACIES).mean == pytest.approx(0.85947, abs=5e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20).filter(lambda x: max(x) - min(x) > 1e-3))
def test_the_interval_is_scipys(values: list[float]) -> None:
    of = sample(values)
    low, high = scipy_stats.t.interval(0.95, of.n - 1, of.mean, scipy_stats.sem(values))
    assert (of.low, of.high) == (pytest.approx(low), pytest.approx(high))


def test_one_value_has_no_spread_and_says_so() -> None:
    of = sample([0.9])
    assert (of.n, of.mean, of.note) == (1, 0.9, "n = 1: no spread")
    assert all(map(math.isnan, (of.sd, of.low, of.high)))


def test_no_value_has_no_mean() -> None:
    of = sample([math.nan])
    assert (of.n, of.note) == (0, "n = 0: no value")
    assert math.isnan(of.mean)


@pytest.mark.parametrize(
    ("values", "cut"), [([0.9, 0.99], (False, True)), ([0.01, 0.1], (True, False)), ([0.5, 0.51, 0.52], (False, False))]
)
def test_an_interval_is_cut_at_what_a_share_can_be_and_says_so(values: list[float], cut: tuple[bool, bool]) -> None:
    of = sample(values, SHARE)
    assert (of.is_cut_low, of.is_cut_high, of.is_cut) == (*cut, any(cut))
    assert of.low == (0.0 if cut[0] else sample(values).low)
    assert of.high == (1.0 if cut[1] else sample(values).high)


def test_missing_values_are_left_out() -> None:
    assert sample([1.0, math.nan, 3.0]) == sample([1.0, 3.0])


def test_the_difference_is_welchs() -> None:
    a, b = [0.92, 0.925, 0.93], [0.94, 0.95]
    theirs = scipy_stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    ours = difference(sample(a), sample(b))
    assert (ours.low, ours.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_a_difference_with_a_single_value_has_no_interval() -> None:
    apart = difference(sample([0.9]), sample([0.8, 0.81]))
    assert apart.value == pytest.approx(0.095)
    assert math.isnan(apart.low)


def test_equal_values_are_chance_and_give_no_interval() -> None:
    a, b = sample([0.9, 0.9]), sample([0.8, 0.8])
    apart = difference(a, b)
    assert apart.value == pytest.approx(0.1)
    assert (a.note, a.sd, a.has_interval, apart.low <= apart.high) == ("2 equal: no interval", 0.0, False, False)


def test_an_interval_ends_where_the_quantity_does() -> None:
    of = sample([0.99, 0.95], SHARE)
    assert (of.low, of.high) == (pytest.approx(0.7159, abs=1e-4), 1.0)


def test_a_further_value_spreads_more_than_the_mean() -> None:
    of = sample([1.0, 2.0, 3.0])
    low, high = prediction_interval(of)
    assert (high - low) / (of.high - of.low) == pytest.approx(2)  # sqrt(1 + 1/3) against sqrt(1/3)
    assert math.isnan(prediction_interval(sample([1.0]))[0])


def test_a_proportion_is_wilsons() -> None:
    theirs = scipy_stats.binomtest(8594, 10_000).proportion_ci(method="wilson")
    assert proportion_interval(0.8594, 10_000) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_mcnemar_is_the_exact_binomial_test_of_the_images_that_one_alone_gets_right() -> None:
    a = np.array([True] * 9 + [False] * 1 + [True] * 50)
    b = np.array([False] * 9 + [True] * 1 + [True] * 50)
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (9, 1)
    assert found.p == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(a, a).p == 1.0


def test_holm_multiplies_the_smallest_by_the_most_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    sure, right = np.array([0.95, 0.95, 0.95, 0.95, 0.5, 0.5]), np.array([1, 1, 1, 0, 1, 1], bool)
    found = calibration(sure, right)
    assert found.counts.sum() == 6
    assert found.error == pytest.approx((4 * abs(0.75 - 0.95) + 2 * 0.5) / 6)
    assert calibration(np.ones(3), np.ones(3, bool)).error == 0.0


def test_confusion_gives_the_shares_of_each_class() -> None:
    shares = confusion(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 2, 1]), 3)
    assert shares[:2].tolist() == [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]
    assert np.isnan(shares[2]).all()


@pytest.mark.parametrize(("images", "points"), [(100, 5.8), (1000, 1.9), (10_000, 0.6)])
def test_a_perfectly_calibrated_network_shows_an_error_too(images: int, points: float) -> None:
    rng = np.random.default_rng(images)
    sure = rng.beta(8, 1, images).clip(0.1, 1)
    simulated = np.mean([calibration(sure, rng.random(images) < sure).error for _ in range(400)])
    assert calibrated_error(sure) == pytest.approx(simulated, rel=0.08)
    assert 100 * calibrated_error(sure) == pytest.approx(points, rel=0.15)


@pytest.mark.parametrize("value", [False, True])
def test_means_that_are_all_alike_do_not_differ(value: bool) -> None:
    a, b = np.full((3, 100), value), np.full((1, 100), value)
    assert mean_test(a, b) == Paired(0, 0, 1.0)
    assert mean_test(a[:1], b) == Paired(0, 0, 1.0)


def test_networks_that_are_apart_on_every_image_alike_have_no_error_to_test_by() -> None:
    assert mean_test(np.ones((2, 10), bool), np.zeros((2, 10), bool)).p == pytest.approx(2**-9)
