"""What n trials can find, against simulated experiments and against statsmodels."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestIndPower

from raycifar.analysis.statistics.power import detectable, expected_maximum, missed, spread_range, trials_needed

SIMULATED = {
    (2, 2): 10.5,
    (2, 3): 6.4,
    (3, 3): 3.5,
    (5, 5): 2.1,
    (10, 10): 1.33,
    (20, 20): 0.91,
    (1, 3): 6.6,
    (1, 5): 4.1,
}


@pytest.mark.parametrize(("n", "sds"), SIMULATED.items())
def test_the_least_difference_is_the_simulated_one(n: tuple[int, int], sds: float) -> None:
    assert detectable(*n) == pytest.approx(sds, rel=0.04)
    assert detectable(*n) == detectable(*n[::-1])


@pytest.mark.parametrize("n", [10, 30, 100])
def test_with_many_trials_welchs_power_is_students(n: int) -> None:
    theirs = TTestIndPower().solve_power(nobs1=n, alpha=0.05, power=0.8)
    assert detectable(n, n) == pytest.approx(theirs, rel=0.01)


RATES = {(3, 1): 5, (3, 2): 14, (3, 3): 24.5, (5, 1): 5, (5, 2): 21.2, (5, 3): 37.3}  # in %, simulated


@pytest.mark.parametrize(("of", "rate"), RATES.items())
def test_how_often_one_against_several_misses_where_its_seeds_spread_more(of: tuple[int, int], rate: float) -> None:
    assert 100 * missed(*of) == pytest.approx(rate, abs=0.3)
    assert math.isnan(missed(1))


def test_one_trial_each_finds_nothing() -> None:
    assert math.isnan(detectable(1, 1))


@pytest.mark.parametrize(("points", "sd", "trials"), [(0.1, 0.16, 42), (0.2, 0.16, 12), (0.3, 0.3, 17), (0.5, 0.3, 7)])
def test_the_trials_that_a_difference_takes(points: float, sd: float, trials: int) -> None:
    needed = trials_needed(points / sd)
    assert needed == pytest.approx(trials, abs=1)
    assert detectable(needed, needed) <= points / sd < detectable(needed - 1, needed - 1)


@pytest.mark.parametrize("difference", [0.0, math.nan, 0.01])
def test_more_trials_than_anybody_runs_are_no_number(difference: float) -> None:
    assert trials_needed(difference) is None


def test_how_well_a_spread_is_known() -> None:
    low, high = spread_range(0.16, 4)
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(20_000, 5)).std(axis=1, ddof=1)
    covers = (low / 0.16 * drawn <= 1) & (high / 0.16 * drawn >= 1)
    assert covers.mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("k", "mean"), [(1, 0.0), (2, 0.564), (3, 0.846), (4, 1.029), (7, 1.352), (20, 1.867)])
def test_the_best_of_many_equal_ones_is_expected_above_their_mean(k: int, mean: float) -> None:
    assert expected_maximum(k) == pytest.approx(mean, abs=1e-3)
    assert scipy_stats.norm.expect(lambda x: x * k * scipy_stats.norm.cdf(x) ** (k - 1)) == pytest.approx(
        mean, abs=1e-3
    )
