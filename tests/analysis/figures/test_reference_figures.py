"""Figures of a real sweep against screenshots of them in tests/samples/figures (tests/samples/README.md).

`python -m tests.analysis.figures.test_reference_figures` draws them again: look at them before they are committed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from matplotlib.testing.compare import compare_images

from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.figures.style import Drawing, style
from raycifar.analysis.predictions import load_images, read_predictions
from raycifar.analysis.results import read_results
from raycifar.data.cifar10 import fetch_cifar10
from tests.support.paths import SAMPLES

DATA = SAMPLES

FOLDER = DATA / "figures"
TOLERANCE = 2.0  # root mean square of 255: wheels of matplotlib bring their own FreeType, so text is drawn alike
CHOSEN = (
    "validation-accuracy-against-epochs",
    "class-accuracy",
    "arm-transfer-confusion",
    "reliability",
    "train-test-gap",
    "validation-accuracy-against-seconds",
    "time-by-arm",
    "timeline",
    "arm-transfer-training-accuracy",
    "trial-transfer-1-accuracy",
    "trial-transfer-1-loss",
)
OF_IMAGES = ("arm-transfer-confused", "examples-transfer-right-scratch-wrong")  # they need CIFAR-10 in the cache


def drawings(chosen: Sequence[str]) -> Iterator[Drawing]:
    """One of each kind."""
    results = read_results(DATA / "quick")
    predictions = read_predictions(results)
    images = load_images(predictions.tests)[0] if chosen == OF_IMAGES else None
    return (drawing for drawing in all_figures(results, predictions, images) if drawing.name in chosen)


def screenshot(drawing: Drawing, folder: Path) -> Path:
    """In matplotlib's own font, which every installation has."""
    path = folder / f"{drawing.name}.png"
    with style():
        drawing.figure.savefig(path, dpi=50, metadata={"Software": None})
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("figures")
    return {drawing.name: screenshot(drawing, folder) for drawing in drawings(CHOSEN)}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_figure_looks_as_it_did(drawn: dict[str, Path], name: str) -> None:
    assert compare_images(str(FOLDER / f"{name}.png"), str(drawn[name]), tol=TOLERANCE) is None


@pytest.mark.assets
def test_figures_of_test_images_look_as_they_did(tmp_path: Path) -> None:
    fetch_cifar10()
    drawn = {drawing.name: screenshot(drawing, tmp_path) for drawing in drawings(OF_IMAGES)}
    assert sorted(drawn) == sorted(OF_IMAGES)
    for name, path in drawn.items():
        assert compare_images(str(FOLDER / f"{name}.png"), str(path), tol=TOLERANCE) is None


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for drawing in [*drawings(CHOSEN), *drawings(OF_IMAGES)]:
        screenshot(drawing, FOLDER)
