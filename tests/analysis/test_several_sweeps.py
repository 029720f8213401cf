"""Sweeps against each other, on synthetic folders (see sweep_folders) and on numbers whose answer is known."""

import math

import pandas as pd
import pytest

from raycifar.analysis.results import read_results
from raycifar.analysis.several_sweeps import contrast, differing_settings, differing_surroundings, shared_arms
from tests.support.sweep_folders import write_sweep


def trials(**by_seed):
    """Trials with the test accuracies seed1=..., and a second of own time a seed."""
    seeds = [int(name.removeprefix("seed")) for name in by_seed]
    return pd.DataFrame({"seed": seeds, "test_accuracy": by_seed.values(), "own_seconds": [float(s) for s in seeds]})


def test_the_same_seeds_are_compared_in_pairs():
    a, b = trials(seed1=0.1, seed2=0.5, seed3=0.9), trials(seed3=0.92, seed1=0.11, seed2=0.53)
    difference = contrast(a, b, "test_accuracy")
    assert difference.method == "paired, n = 3"
    assert difference.value == pytest.approx(0.02)
    half = 4.302652729911275 * 0.01 / math.sqrt(3)  # Student's t, 2 degrees of freedom; differences .01, .02, .03
    assert (difference.low, difference.high) == pytest.approx((0.02 - half, 0.02 + half))


def test_a_pair_is_made_only_of_seeds_that_are_in_both():
    difference = contrast(
        trials(seed1=0.1, seed2=0.2, seed3=0.9), trials(seed1=0.2, seed2=0.4, seed7=0.0), "test_accuracy"
    )
    assert (difference.method, difference.value) == ("paired, n = 2", pytest.approx(0.15))
    assert (difference.base.n, difference.other.n) == (3, 3)


def test_pairs_that_are_all_alike_give_no_interval():
    difference = contrast(trials(seed1=0.1, seed2=0.2), trials(seed1=0.2, seed2=0.3), "test_accuracy")
    assert (difference.method, difference.has_interval) == ("paired, n = 2 equal", False)


def test_other_seeds_are_compared_by_welch():
    difference = contrast(trials(seed1=0.5, seed2=0.6), trials(seed3=0.7, seed4=0.8), "test_accuracy")
    assert (difference.method, difference.value) == ("Welch", pytest.approx(0.2))
    assert difference.low < 0.2 < difference.high


@pytest.mark.parametrize("other", [{"seed1": 0.7}, {"seed1": 0.7, "seed2": math.nan}])
def test_one_trial_has_a_difference_and_no_interval(other):
    difference = contrast(trials(seed1=0.5), trials(**other), "test_accuracy")
    assert (difference.method, difference.value) == ("n = 1", pytest.approx(0.2))
    assert math.isnan(difference.low)


def test_times_are_never_paired():
    assert contrast(trials(seed1=0.5, seed2=0.6), trials(seed1=0.7, seed2=0.8), "own_seconds").method == "Welch"


def test_only_the_settings_that_differ_are_listed_with_the_arms_that_they_are_of(tmp_path):
    a = write_sweep(tmp_path / "a", {"transfer": (2, 1), "scratch": (1, 2), "gone": (1, 1)})
    b = write_sweep(tmp_path / "b", {"transfer": (3, 1), "scratch": (1, 3), "new": (1, 9)}, data={"train_images": 200})
    sweeps = [read_results(a.path), read_results(b.path)]
    assert shared_arms(sweeps) == ["transfer", "scratch"]
    assert [(s.arms, s.key, s.values) for s in differing_settings(sweeps)] == [
        (("transfer", "scratch"), "data.train_images", ("all", "200")),
        (("transfer",), "seeds", ("1, 2", "1, 2, 3")),
        (("scratch",), "epochs", ("2", "3")),
    ]


def test_a_sweep_without_the_arm_differs_in_none_of_its_settings(tmp_path):
    arms = {"a": {"transfer": (1, 2)}, "b": {"transfer": (1, 2)}, "c": {"scratch": (1, 9)}}
    sweeps = [read_results(write_sweep(tmp_path / name, of).path) for name, of in arms.items()]
    assert differing_settings(sweeps) == []


def test_only_the_surroundings_that_differ_are_listed(tmp_path):
    a, b = write_sweep(tmp_path / "a"), write_sweep(tmp_path / "b", device_kind="cpu")
    sweeps = [read_results(a.path), read_results(b.path)]
    assert [s.key for s in differing_surroundings(sweeps)] == ["device"]
    assert differing_surroundings([sweeps[0], sweeps[0]]) == []
