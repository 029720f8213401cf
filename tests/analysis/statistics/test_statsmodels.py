"""The formulas of raycifar.analysis against statsmodels', drawn at random and at their ends."""

import numpy as np
import pytest
from statsmodels.api import OLS
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ztest

from raycifar.analysis.statistics.contrasts import arm_interval, difference, image_variance
from raycifar.analysis.statistics.formulas import difference as welch
from raycifar.analysis.statistics.formulas import (
    holm,
    mcnemar,
    mean_test,
    prediction_interval,
    proportion_interval,
    sample,
)

SIZES = [2, 3, 5, 10, 1000]
CLOSE = {"rel": 1e-12, "abs": 1e-14}


def accuracies(n: int, draw: int = 0) -> np.ndarray:
    return np.random.default_rng([n, draw]).normal(0.93, 0.002, n)


def answers(seeds: int, images: int, draw: int) -> np.ndarray:
    """Right or wrong (seeds, images), images of unlike hardness."""
    rng = np.random.default_rng(draw)
    return rng.random((seeds, images)) < rng.beta(8, 1, images)


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_of_a_mean(n: int) -> None:
    ours = sample(accuracies(n))
    assert (ours.low, ours.high) == pytest.approx(DescrStatsW(accuracies(n)).tconfint_mean(), **CLOSE)


@pytest.mark.parametrize("n", SIZES)
def test_where_a_further_value_falls(n: int) -> None:
    theirs = OLS(accuracies(n), np.ones(n)).fit().get_prediction([1.0]).conf_int(obs=True)[0]
    assert prediction_interval(sample(accuracies(n))) == pytest.approx(tuple(theirs), **CLOSE)


@pytest.mark.parametrize("n_a", SIZES)
@pytest.mark.parametrize("n_b", SIZES)
def test_the_difference_of_two_means(n_a: int, n_b: int) -> None:
    a, b = accuracies(n_a), accuracies(n_b, 1)
    theirs = CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(usevar="unequal")
    ours = welch(sample(a), sample(b))
    assert (ours.low, ours.high) == pytest.approx(theirs, **CLOSE)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (1, 3), (9523, 10_000), (0, 10**9), (10**9, 10**9)])
def test_the_interval_of_a_share(right: int, n: int) -> None:
    theirs = proportion_confint(right, n, method="wilson")
    assert proportion_interval(right / n, n) == pytest.approx(theirs, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("draw", range(5))
def test_two_networks_on_the_same_images(draw: int) -> None:
    a, b = answers(2, 1000, draw)
    table = [[(a & b).sum(), (a & ~b).sum()], [(b & ~a).sum(), (~a & ~b).sum()]]
    assert mcnemar(a, b).p == pytest.approx(their_mcnemar(table, exact=True).pvalue, rel=1e-12)


@pytest.mark.parametrize(("n_a", "n_b"), [(3, 1), (2, 2), (3, 5)])
def test_several_networks_on_the_same_images(n_a: int, n_b: int) -> None:
    a, b = answers(n_a, 1000, 5), answers(n_b, 1000, 6)
    _, theirs = ztest(a.mean(0) - b.mean(0))
    assert 1e-4 < theirs < 0.999
    assert mean_test(a, b).p == pytest.approx(theirs, rel=1e-11)


@pytest.mark.parametrize("p", [[0.01, 0.01, 0.01], [0.5], list(np.random.default_rng(0).random(30) ** 4)])
def test_many_p_values_at_once(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-14)


@pytest.mark.parametrize("groups", [np.arange(1200), np.arange(1200) // 4, np.arange(1200) ** 2 % 37])
def test_the_variance_of_images_and_of_groups_of_them_is_that_of_clusters(groups: np.ndarray) -> None:
    a, b = answers(1, 1200, 1), answers(1, 1200, 2)  # of one trial each, whose disagreement is not known
    for gap, ours in (
        (a[0] * 1.0, image_variance(a, groups=groups)),
        (a[0] * 1.0 - b[0], image_variance(a, b, groups)),
    ):
        fit = OLS(gap, np.ones(1200)).fit(cov_type="cluster", cov_kwds={"groups": groups})
        assert ours == pytest.approx(float(fit.cov_params()[0, 0]), rel=1e-10)


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (3, 5), (10, 3)])
def test_the_intervals_over_seeds_of_arms_and_of_their_difference(n_a: int, n_b: int) -> None:
    a, b = answers(n_a, 500, 3), answers(n_b, 500, 4)
    ours, both = DescrStatsW(a.mean(1)), CompareMeans(DescrStatsW(a.mean(1)), DescrStatsW(b.mean(1)))
    assert arm_interval(a).seeds == pytest.approx(ours.tconfint_mean(), **CLOSE)
    found = difference(a, b)
    assert found.seeds == pytest.approx(both.tconfint_diff(usevar="unequal"), **CLOSE)
    assert found.p_seeds == pytest.approx(both.ttest_ind(usevar="unequal")[1], rel=1e-11)
