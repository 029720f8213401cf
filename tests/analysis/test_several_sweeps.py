"""Sweeps against each other, on synthetic folders (see sweep_folders) and on numbers whose answer is known."""

import math

import pandas as pd
import pytest

from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.results import read_results
from raycifar.analysis.several_sweeps import (
    accuracy_contrasts,
    contrast,
    differing_settings,
    differing_surroundings,
    shared_arms,
)
from tests.support.sweep_folders import add_predictions, write_sweep


def trials(**by_seed):
    """Trials with the test accuracies seed1=..., and a second of own time a seed."""
    seeds = [int(name.removeprefix("seed")) for name in by_seed]
    return pd.DataFrame({"seed": seeds, "test_accuracy": by_seed.values(), "own_seconds": [float(s) for s in seeds]})


def seeded(*accuracies):
    return trials(**{f"seed{seed}": accuracy for seed, accuracy in enumerate(accuracies, 1)})


def test_from_five_seeds_on_that_both_have_they_are_compared_in_pairs():
    a, b = seeded(0.1, 0.3, 0.5, 0.7, 0.9), seeded(0.11, 0.32, 0.53, 0.72, 0.91).iloc[::-1]
    difference = contrast(a, b, "test_accuracy")
    assert difference.method == "paired, n = 5"
    assert difference.value == pytest.approx(0.018)
    half = 2.7764451051977987 * math.sqrt(7e-5) / math.sqrt(5)  # Student's t, 4 degrees of freedom; .01 .02 .03 .02 .01
    assert (difference.low, difference.high) == pytest.approx((0.018 - half, 0.018 + half))


FEWER = {
    "four seeds": (seeded(0.1, 0.5, 0.9, 0.7), seeded(0.11, 0.53, 0.92, 0.7)),
    "one more in one sweep": (seeded(0.1, 0.5, 0.9, 0.7, 0.8), seeded(0.11, 0.53, 0.92, 0.7, 0.8, 0.6)),
    "one other in one sweep": (
        seeded(0.1, 0.5, 0.9, 0.7, 0.8),
        trials(seed1=0.1, seed2=0.5, seed3=0.9, seed4=0.7, seed9=0.8),
    ),
    "one without a value": (seeded(0.1, 0.5, 0.9, 0.7, 0.8), seeded(0.11, 0.53, 0.92, 0.7, math.nan)),
}


@pytest.mark.parametrize(("a", "b"), FEWER.values(), ids=FEWER)
def test_fewer_seeds_or_others_are_compared_by_welch(a, b):
    difference = contrast(a, b, "test_accuracy")
    assert (difference.method, difference.base.n) == ("Welch", len(a))
    assert difference.value == pytest.approx(b["test_accuracy"].mean() - a["test_accuracy"].mean())


def test_pairs_that_are_all_alike_give_no_interval():
    difference = contrast(seeded(*[0.1] * 4, 0.2), seeded(*[0.2] * 4, 0.3), "test_accuracy")
    assert (difference.method, difference.has_interval) == ("paired, n = 5 equal", False)


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
    five = seeded(0.5, 0.6, 0.7, 0.8, 0.9)
    assert contrast(five, five, "own_seconds").method == "Welch"


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


def predicted(path, seeds, images=160):
    """A sweep with predictions, its trials' seeds as given."""
    folder = write_sweep(path, {"transfer": (len(seeds), 2)}, data={"test_images": images})
    add_predictions(folder)
    record = folder.record()
    for trial, seed in zip(record.spec["trials"], seeds, strict=True):
        trial["seed"] = seed
    folder.write_record(record)
    return read_results(folder.path)


def between(*sweeps):
    return accuracy_contrasts(sweeps, [read_predictions(results) for results in sweeps])


def test_the_accuracies_of_two_sweeps_have_both_intervals(tmp_path):
    a, b = predicted(tmp_path / "a", [1, 2, 3]), predicted(tmp_path / "b", [7, 8, 9, 4])
    (found,) = between(a, b)
    assert (found.arm, found.letter, found.n, found.method, found.size) == ("transfer", "B", (3, 4), "Welch", 1)
    assert found.of.images.low <= found.of.seeds.low < found.of.mean < found.of.seeds.high <= found.of.images.high
    assert found.adjusted == found.of.p_images


def test_the_accuracies_of_the_same_five_seeds_are_paired_in_any_order(tmp_path):
    a, b = predicted(tmp_path / "a", [1, 2, 3, 4, 5]), predicted(tmp_path / "b", [5, 4, 3, 2, 1])
    (found,) = between(a, b)
    by_seed = contrast(a.finished, b.finished, "test_accuracy")
    assert found.method == "paired by seed, n = 5"
    assert found.of.seeds == pytest.approx((by_seed.low, by_seed.high))


def test_sweeps_tested_on_other_images_have_an_interval_over_seeds_alone(tmp_path):
    (found,) = between(predicted(tmp_path / "a", [1, 2]), predicted(tmp_path / "b", [1, 2], images=200))
    assert found.of.seeds.known
    assert not found.of.images.known


def test_p_is_adjusted_for_all_sweeps_and_arms(tmp_path):
    sweeps = [predicted(tmp_path / name, [1, 2, 3]) for name in "abcd"]
    found = between(*sweeps)
    assert [(one.letter, one.size) for one in found] == [("B", 3), ("C", 3), ("D", 3)]
