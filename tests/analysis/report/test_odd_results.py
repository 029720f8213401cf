"""What a report says of results that allow less than usual: sentences, never a number that means another thing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.report.pages import Report
from raycifar.analysis.report.report import make_report
from raycifar.analysis.report.side_by_side import compare_sweeps
from raycifar.analysis.results import read_results
from raycifar.storage.folders import SweepFolder
from tests.support.sweep_folders import add_predictions, write_sweep

NOT_THE_SAME = (
    "Not known: only predictions of every trial on the same images tell what other images would change, and some are "
    "missing.",
    "what other test images would change is left out, for want of predictions of each trial on the same images",
)
ALIKE = (
    "Not known: within each arm all trials have the same value",
    "Not sure: trials that all have the same value say nothing of how far others would fall.",
    "within each arm all trials have the same value, so there is no interval.",
)


def some_without(folder: SweepFolder) -> None:
    folder.trial("transfer-2").predictions.unlink()


def other_images(folder: SweepFolder) -> None:
    rewrite(folder, "transfer-2", index=np.arange(160) + 7)


def another_order(folder: SweepFolder) -> None:
    array = np.load(folder.trial("transfer-2").predictions)
    rewrite(folder, "transfer-2", **{name: array[name][::-1] for name in ("logits", "labels")})


def no_truck(folder: SweepFolder) -> None:
    for name in trials(folder):
        labels = np.arange(160) % 9
        logits = np.eye(10, dtype=np.float32)[(labels + (np.arange(160) < 40)) % 9]
        rewrite(folder, name, labels=labels, logits=logits)
        with_accuracy(folder, name, 0.75)


def level(folder: SweepFolder) -> None:
    for name, accuracy in zip(trials(folder), (0.5, 0.75, 0.625, 0.5, 0.75), strict=True):
        with_accuracy(folder, name, accuracy)
    add_predictions(folder)


def alike(*accuracies: float) -> Callable[[SweepFolder], None]:
    """All trials of transfer have the first, all of scratch the second one."""

    def change(folder: SweepFolder) -> None:
        for name in trials(folder):
            with_accuracy(folder, name, accuracies[name.startswith("scratch")])
        add_predictions(folder)

    return change


def trials(folder: SweepFolder) -> list[str]:
    return sorted((path.name for path in folder.path.iterdir() if path.is_dir()), reverse=True)


def with_accuracy(folder: SweepFolder, name: str, accuracy: float) -> None:
    summary = folder.trial(name).summary()
    assert summary is not None
    folder.trial(name).write_summary(replace(summary, test_accuracy=accuracy))


def rewrite(folder: SweepFolder, name: str, **changes: np.ndarray) -> None:
    path = folder.trial(name).predictions
    np.savez_compressed(path, allow_pickle=False, **{**np.load(path), **changes})


def nothing(_: SweepFolder) -> None:
    """As it is."""


SEVERAL, SINGLE = {"transfer": (3, 2), "scratch": (2, 2)}, {"transfer": (1, 2), "scratch": (1, 2)}
CASES = {
    "predictions of some trials": (SEVERAL, some_without, NOT_THE_SAME),
    "a trial on other images": (
        SEVERAL,
        other_images,
        (*NOT_THE_SAME, "Not included, as tested on other images: 1 of the finished trials."),
    ),
    "a trial's labels in another order": (
        SEVERAL,
        another_order,
        (*NOT_THE_SAME, "Not included, as tested on other images: 1 of the finished trials."),
    ),
    "a class without images": (SEVERAL, no_truck, ("No test image is of truck.",)),
    "level": (
        SEVERAL,
        level,
        ("Neither transfer nor scratch: both get 62.50 %", "That puts transfer level with scratch"),
    ),
    "one trial each": (SINGLE, nothing, ("Not sure: with one trial each (n = 1)", "With one trial each, nothing says")),
    "all alike": (SEVERAL, alike(0.75, 0.5), ALIKE),
    "none and all right": (
        SEVERAL,
        alike(1.0, 0.0),
        (*ALIKE, "transfer gets 100.00 % right on average over 3 trials (3 equal: no interval)", "scratch gets 0.00 %"),
    ),
    "none and all right, one trial each": (
        SINGLE,
        alike(1.0, 0.0),
        (
            "with other test images this network would get 97.66 to 100.00 %",
            "would get 0.00 to 2.34 %",
            "Not known: the two networks differ by as much on every test image, which says nothing of others.",
        ),
    ),
}


NOT_COMPARED = (
    "transfer: Not known: only predictions of every trial on the same images tell what other images would change",
    "what other test images would change is left out, for want of predictions of each trial on the same images",
)
BESIDE = {
    "predictions of some trials": (SEVERAL, (nothing, some_without), NOT_COMPARED),
    "a trial on other images": (SEVERAL, (nothing, other_images), NOT_COMPARED),
    "a trial's labels in another order": (SEVERAL, (nothing, another_order), NOT_COMPARED),
    "a class without images in one": (SEVERAL, (nothing, no_truck), (*NOT_COMPARED, "Not tested on A's images: B.")),
    "level": (
        SEVERAL,
        (nothing, nothing),
        ("transfer: Neither: both are level in test accuracy.", "transfer: B is level with A in test accuracy"),
    ),
    "one trial each": (
        SINGLE,
        (alike(0.75, 0.5), alike(0.5, 0.75)),
        (
            "transfer: Not shown: on these images A gets 25.00 percentage points more of the test images right than B",
            "transfer: Yes: this network of A would be ahead by",
            "transfer: Not sure: with one trial each (n = 1)",
        ),
    ),
    "all alike": (
        SEVERAL,
        (alike(0.75, 0.5), alike(0.5, 0.5)),
        ("transfer: Not known: within each arm all trials have the same value", "but all trials have the same value"),
    ),
    "none and all right, one trial each": (
        SINGLE,
        (alike(1.0, 0.0), alike(0.0, 1.0)),
        ("transfer: Not known: the two networks differ by as much on every test image, which says nothing of others",),
    ),
}


@pytest.mark.parametrize(("arms", "changes", "says"), BESIDE.values(), ids=BESIDE)
def test_sweeps_side_by_side_say_what_they_cannot_know(
    tmp_path: Path,
    arms: dict[str, tuple[int, int]],
    changes: tuple[Callable[[SweepFolder], None], ...],
    says: tuple[str, ...],
) -> None:
    sweeps = []
    for name, change in zip("ab", changes, strict=True):
        folder = write_sweep(tmp_path / name, arms, data={"test_images": 160})
        add_predictions(folder)
        change(folder)
        sweeps.append(read_results(folder.path))
    text = said(compare_sweeps(sweeps))
    for sentence in says:
        assert sentence in text
    assert "nan" not in text


def said(report: Report) -> str:
    notes = [note for table in report.tables for note in table.notes]
    cells = [text for table in report.tables for row in table.rows for text in row]
    return " ".join([*(reply for _, reply in report.plainly), report.answer, report.costs, *notes, *cells])


@pytest.mark.parametrize(("arms", "change", "says"), CASES.values(), ids=CASES)
def test_a_report_says_what_it_cannot_know(
    tmp_path: Path, arms: dict[str, tuple[int, int]], change: Callable[[SweepFolder], None], says: tuple[str, ...]
) -> None:
    folder = write_sweep(tmp_path / "s", arms, data={"test_images": 160})
    add_predictions(folder)
    change(folder)
    results = read_results(folder.path)
    predictions = read_predictions(results)
    assert not [*results.problems, *predictions.problems]
    text = said(make_report(results, predictions))
    for sentence in says:
        assert sentence in text
    assert "nan" not in text
