"""Balanced accuracy and macro-F1 against scikit-learn, and their intervals against drawing the images anew."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from raycifar.analysis.balance import arm_by, balanced_accuracy, is_unequal, largest_share, macro_f1
from raycifar.analysis.predictions import ImageSet, Predictions
from raycifar.analysis.predictions import Tested as Network
from raycifar.analysis.statistics.answers import variance_by_images
from raycifar.analysis.statistics.contrasts import estimate
from raycifar.config.datasets import CIFAR10

SHARES = np.array([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01])
MEASURES = {"balanced": (balanced_accuracy, balanced_accuracy_score), "f1": (macro_f1, f1_score)}


# Of 8 and 9 the second one is not predicted either, for only 8's images are taken for it.
WITHOUT: dict[str, list[int]] = {"all classes": [], "one without images": [9], "two": [0, 5], "nor predicted": [8, 9]}


def labels_of(images=2_000):
    return np.repeat(np.arange(10), (SHARES * images).astype(int)).astype(np.uint8)


def network(labels, seed=0, groups=None):
    """A network that is the surer the larger the class, and takes what it gets wrong for the next class."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(labels)) > 0.5 + SHARES[labels]
    tests = ImageSet(labels, None, CIFAR10, groups)
    return Network(
        f"a-{seed}", "a", tests, np.where(wrong, (labels + 1) % 10, labels), np.ones(len(labels), np.float32)
    )


def by_sklearn(name, labels, predicted):
    return MEASURES[name][1](labels, predicted, **({"average": "macro"} if name == "f1" else {}))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT)
def test_the_figure_is_scikit_learns(name, without):
    labels = labels_of()
    one = network(labels[~np.isin(labels, without)])
    with np.errstate(all="raise"):
        found = MEASURES[name][0](one)
    assert found.value == pytest.approx(by_sklearn(name, one.tests.labels, one.predicted))
    assert found.moves.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("size", [1, 20], ids=["images", "groups"])
def test_the_variance_is_that_of_images_or_groups_drawn_anew(name, size):
    rng, labels = np.random.default_rng(1), labels_of()
    order = rng.permutation(len(labels))
    groups = None if size == 1 else np.repeat(np.arange(len(labels) // size), size)
    one = network(labels[order], groups=groups)
    answers = arm_by(MEASURES[name][0], [one], 1).answers
    places = np.arange(len(labels)).reshape(-1, size)
    draws = [places[rng.integers(0, len(places), len(places))].ravel() for _ in range(400)]
    drawn = np.var([by_sklearn(name, one.tests.labels[d], one.predicted[d]) for d in draws])
    assert variance_by_images(answers) == pytest.approx(drawn, rel=0.25)


def test_an_arm_has_both_intervals_and_a_single_network_its_own():
    labels = labels_of()
    several = estimate(arm_by(balanced_accuracy, [network(labels, seed) for seed in range(3)], 3))
    assert several.seeds.known
    assert several.images.known
    assert several.images.high - several.images.low > several.seeds.high - several.seeds.low
    single = estimate(arm_by(balanced_accuracy, [network(labels)], 1))
    assert single.networks.low < single.mean < single.networks.high
    assert np.isnan(estimate(arm_by(balanced_accuracy, [network(labels)], 2)).mean)  # one of two: another mean


@pytest.mark.parametrize(
    ("counts", "is_so"),
    [([30] * 10, False), ([45] + [30] * 9, False), ([46] + [30] * 9, True), ([30] * 9 + [0], True)],
)
def test_classes_are_unequal_above_one_and_a_half(counts, is_so):
    one = network(np.repeat(np.arange(10), counts).astype(np.uint8))
    assert is_unequal(Predictions([one])) is is_so


def test_without_predictions_nothing_is_unequal_and_guessing_gets_the_largest_class():
    assert not is_unequal(Predictions())
    assert largest_share(network(labels_of()).tests) == ("airplane", 0.4)
