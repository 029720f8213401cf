"""raycifar.analysis.figures.images: figures of single test images, from a real sweep (tests/samples/README.md)."""

from dataclasses import replace

import numpy as np
import pytest

from raycifar.analysis.figures.images import class_figures
from raycifar.analysis.figures.photographs import GUTTER, IMAGES_A_ROW
from raycifar.analysis.figures.style import Drawing, style
from raycifar.analysis.predictions import Predictions, read_predictions
from raycifar.analysis.results import LEAK, read_results
from raycifar.analysis.statistics.formulas import calibration, proportion_interval
from raycifar.config.datasets import CIFAR10
from tests.support.figures import problems_of_layout, shown_texts
from tests.support.paths import QUICK

ARMS = ["transfer", "scratch"]


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    return read_predictions(read_results(QUICK))


@pytest.fixture(scope="module")
def numbered() -> np.ndarray:
    """In place of the real images: the nth one is all of the colour (n // 256, n % 256, 7)."""
    n = np.arange(1000)
    colours = np.stack([n // 256, n % 256, np.full(1000, 7)], axis=1).astype(np.uint8)
    return np.broadcast_to(colours[:, None, None], (1000, 32, 32, 3))


def draw(predictions: Predictions, images: np.ndarray | None, leak: bool = False) -> dict[str, Drawing]:
    with style():
        return {drawing.name: drawing for drawing in class_figures(predictions, ARMS, images, leak)}


@pytest.fixture(scope="module")
def figures(predictions: Predictions) -> dict[str, Drawing]:
    """Those that need no images."""
    return draw(predictions, None)


@pytest.fixture(scope="module")
def photographs(predictions: Predictions, numbered: np.ndarray) -> dict[str, Drawing]:
    """All of them, with the numbered images."""
    return draw(predictions, numbered)


def shown(drawing: Drawing) -> list[int]:
    """The numbers of the images in a figure of photographs."""
    strips = [np.asarray(axes.get_images()[0].get_array()) for axes in drawing.figure.axes]
    pixels = [strip[0, place * (CIFAR10.side + GUTTER)] for strip in strips for place in range(IMAGES_A_ROW)]
    return [int(pixel[0]) * 256 + int(pixel[1]) for pixel in pixels if pixel[2] == 7]


def test_without_images_only_the_photographs_are_left_out(
    figures: dict[str, Drawing], photographs: dict[str, Drawing]
) -> None:
    assert set(figures) == {"class-accuracy", "arm-transfer-confusion", "arm-scratch-confusion", "reliability"}
    assert {name for name, drawing in photographs.items() if drawing.photographs} == set(photographs) - set(figures)


def test_the_diagonal_of_the_confusion_matrix_is_the_accuracy_by_class(figures: dict[str, Drawing]) -> None:
    matrix = figures["arm-scratch-confusion"].figure.axes[0].get_images()[0].get_array()
    assert matrix is not None
    assert np.diag(matrix).tolist() == pytest.approx([0, 0, 80, 0, 0, 0, 0, 0, 0, 36])
    assert np.asarray(matrix).sum(axis=1) == pytest.approx(100)


def test_the_photographs_are_of_images_that_were_confused_so(
    predictions: Predictions, photographs: dict[str, Drawing]
) -> None:
    images = shown(photographs["arm-transfer-confused"])
    cats = images[:IMAGES_A_ROW]  # cat classified as dog is the most frequent
    said = np.array([t.predicted[cats] for t in predictions.by_arm(ARMS)["transfer"]])
    assert (predictions.tests.labels[cats] == 3).all()
    assert (said == 5).all()


def test_only_one_right_shows_what_every_trial_of_the_one_and_none_of_the_other_gets(
    predictions: Predictions, photographs: dict[str, Drawing]
) -> None:
    drawing = photographs["examples-transfer-right-scratch-wrong"]
    images = shown(drawing)
    groups = predictions.by_arm(ARMS)
    assert len(images) == 16
    assert all(t.right[images].all() for t in groups["transfer"])
    assert not any(t.right[images].any() for t in groups["scratch"])
    index = predictions.tests.index
    assert index is not None
    assert f"official test images {index[images[0]]}, " in drawing.alt


def test_arms_that_agree_have_no_examples(predictions: Predictions, numbered: np.ndarray) -> None:
    one = predictions.trials[0]
    same = Predictions([one, replace(one, trial="scratch", arm="scratch")])
    assert not any(name.startswith("examples") for name in draw(same, numbered))


def test_what_rounds_to_0_is_left_blank_off_the_diagonal(
    predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = np.eye(10) * 0.98
    shares[0, 1:4] = 0.0049, 0.005, 0.0051
    shares[9, 9] = 0
    monkeypatch.setattr("raycifar.analysis.figures.images.mean_confusion", lambda trials: shares)
    texts = [text.get_text() for text in draw(predictions, None)["arm-scratch-confusion"].figure.axes[0].texts]
    assert texts == [
        "98",
        "",
        "",
        "1",
        *6 * [""],
        *("98" if i == j else "" for i in range(1, 9) for j in range(10)),
        *9 * [""],
        "0",
    ]


def test_a_subset_without_some_class_has_no_confusion_matrix(predictions: Predictions) -> None:
    chosen = predictions.tests.labels != 4
    tests = replace(predictions.tests, labels=predictions.tests.labels[chosen], index=None)
    part = [
        replace(t, tests=tests, predicted=t.predicted[chosen], confidence=t.confidence[chosen])
        for t in predictions.trials
    ]
    assert set(draw(Predictions(part), None)) == {"reliability"}


def test_no_text_is_clipped_or_overlaps_and_a_leak_is_marked(predictions: Predictions, numbered: np.ndarray) -> None:
    for drawing in draw(predictions, numbered, leak=True).values():
        assert list(problems_of_layout(drawing)) == []
        assert LEAK in [text.get_text() for text in shown_texts(drawing)], drawing.name
        assert LEAK in drawing.caption


def test_captions_name_the_hardest_class_and_how_right_and_how_sure_the_networks_are(
    predictions: Predictions, figures: dict[str, Drawing]
) -> None:
    trials = predictions.by_arm(ARMS)["transfer"]
    shares = [100 * np.mean([t.right[t.tests.labels == label].mean() for t in trials]) for label in range(10)]
    hardest = f"the hardest is {CIFAR10.classes[np.argmin(shares)]} for transfer ({min(shares):.1f} %)"
    assert hardest in figures["class-accuracy"].caption
    right, sure = (100 * np.mean([getattr(t, key) for t in trials]) for key in ("right", "confidence"))
    assert f"transfer is {right:.1f} % right and {sure:.1f} % sure" in figures["reliability"].caption
    axes = figures["arm-transfer-confusion"].figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("images of", "classified as")


def test_a_bin_of_few_images_has_a_long_bar(predictions: Predictions, figures: dict[str, Drawing]) -> None:
    found, trials = figures["reliability"].figure.axes[0], predictions.by_arm(ARMS)["transfer"]
    sure, right = (np.concatenate([getattr(t, key) for t in trials]) for key in ("confidence", "right"))
    bins = calibration(sure, right)
    bars = [segment[:, 1] for segment in found.collections[0].get_segments()]
    there = np.flatnonzero(bins.counts)
    assert len(trials) > 1  # each image counts once, however many trials were shown it
    counts = [max(1, int(bins.counts[k]) // len(trials)) for k in there]
    expected = [np.array(proportion_interval(bins.accuracy[k], n)) * 100 for k, n in zip(there, counts, strict=True)]
    assert np.allclose(bars, expected)


def test_examples_are_those_that_the_wrong_network_was_surest_of(
    predictions: Predictions, photographs: dict[str, Drawing]
) -> None:
    images = shown(photographs["examples-transfer-right-scratch-wrong"])
    *transfer, scratch = predictions.trials
    split = np.all([t.right for t in transfer], axis=0) & ~scratch.right
    assert scratch.confidence[images].tolist() == sorted(scratch.confidence[split].tolist(), reverse=True)[:16]
