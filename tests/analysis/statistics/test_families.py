"""Comparisons of arms: p after Holm for all pairs, worked out at once as it is pair by pair."""

import math
import time
from itertools import combinations

import numpy as np
import pytest

from raycifar.analysis.statistics.contrasts import Arm, apart
from raycifar.analysis.statistics.families import compare, p_values
from raycifar.analysis.statistics.formulas import holm


def networks(share: float, seeds: int, draw: int, images: int = 500) -> np.ndarray:
    """Right or wrong (seeds, images): images differ in how hard they are, and seeds disagree on some."""
    hard, rng = np.random.default_rng(99).random(images), np.random.default_rng(draw)
    return (hard < share) ^ (rng.random((seeds, images)) < 0.05)


def predicted(share: float, seeds: int, draw: int) -> Arm:
    return Arm.of(networks(share, seeds, draw))


def grouped(share: float, seeds: int, draw: int) -> Arm:
    return Arm.of(networks(share, seeds, draw), np.arange(500) // 5)


def one_group(share: float, seeds: int, draw: int) -> Arm:
    return Arm.of(networks(share, seeds, draw), np.zeros(500))


def unknown(*accuracies: float) -> Arm:
    return Arm(np.array(accuracies))


SIZES = ((0.9, 1), (0.9, 3), (0.89, 2), (0.8, 1), (0.9, 5), (0.7, 3))
KINDS = {
    "with predictions": [predicted(*of, i) for i, of in enumerate(SIZES)],
    "groups": [grouped(*of, i) for i, of in enumerate(SIZES)],
    "all of one group": [one_group(*of, i) for i, of in enumerate(SIZES)],
    "without predictions": [unknown(0.9, 0.91), unknown(0.8, 0.82, 0.81), unknown(0.9, 0.91), unknown(0.5)],
    "some without": [predicted(0.9, 3, 1), unknown(0.8, 0.82), predicted(0.88, 3, 2), predicted(0.8, 1, 3)],
    "all alike": [unknown(0.9, 0.9), unknown(0.8, 0.8), unknown(0.8), Arm.of(np.ones((3, 500), bool))],
    "one trial each": [predicted(0.9, 1, 1), predicted(0.8, 1, 2), unknown(0.7)],
    "the same twice": [predicted(0.9, 3, 1), predicted(0.9, 3, 1), predicted(0.8, 3, 2)],
    "far apart": [predicted(0.9, 10, 1), unknown(0.1, 0.1 + 1e-8, 0.1 - 1e-8), predicted(0.2, 10, 2)],
    "one arm": [predicted(0.9, 3, 1)],
}


@pytest.mark.parametrize("arms", KINDS.values(), ids=KINDS)
def test_all_pairs_at_once_have_the_p_that_each_has_by_itself(arms: list[Arm]) -> None:
    alone = np.array([apart(a, b).p for a, b in combinations(arms, 2)])
    np.testing.assert_allclose(p_values(arms), alone, rtol=1e-9)


@pytest.mark.parametrize("baseline", ["arm-0", "arm-2", "arm-3", "gone"])
def test_best_and_baseline_are_compared_once_and_adjusted_for_all_pairs(baseline: str) -> None:
    arms = {f"arm-{i}": predicted(0.80 + 0.02 * i, 3, i) for i in range(4)}
    arms["single"] = predicted(0.5, 1, 9)
    found = compare(arms, baseline)
    told = [("arm-3", other) for other in arms if other != "arm-3"]
    if baseline in ("arm-0", "arm-2"):
        told += [(other, baseline) for other in arms if other not in ("arm-3", baseline)]
    assert [(one.a, one.b) for one in found.comparisons] == told
    every = {frozenset(pair): apart(*(arms[name] for name in pair)).p for pair in combinations(arms, 2)}
    adjusted = dict(zip(every, holm(list(every.values())), strict=True))
    assert found.size == 10
    assert [one.adjusted for one in found.comparisons] == pytest.approx([adjusted[frozenset(pair)] for pair in told])
    assert all(one.adjusted >= one.apart.p for one in found.comparisons)


def test_two_arms_are_one_comparison() -> None:
    found = compare({"a": predicted(0.8, 3, 1), "b": predicted(0.9, 3, 2)}, "a")
    (comparison,) = found.comparisons
    assert (comparison.a, comparison.adjusted, found.size) == ("b", comparison.apart.p, 1)


def test_arms_of_one_trial_each_are_no_family() -> None:
    found = compare({name: predicted(0.8, 1, i) for i, name in enumerate("abc")}, "a")
    assert found.size == 0
    assert all(math.isnan(one.adjusted) and not one.is_shown for one in found.comparisons)


def test_no_arm_is_compared_with_nothing() -> None:
    assert compare({}, "a") == ([], 0)
    assert compare({"a": unknown(0.9)}, "a") == ([], 0)


@pytest.mark.parametrize(("arms", "n"), [(500, 2), (1000, 1)])
def test_many_arms_are_compared_in_seconds(arms: int, n: int) -> None:
    """One pair by itself takes a third of a millisecond, so that all of 500 arms would take 40 s."""
    many = {f"arm-{i}": predicted(0.8 + i / 10_000, n, i) for i in range(arms)}
    begun = time.process_time()
    compare(many, "arm-0")
    assert time.process_time() - begun < 5
