"""A sweep's arms with their intervals, on synthetic folders (see sweep_folders) and the real QUICK."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raycifar import read_results
from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.statistics.contrasts import arm_interval, difference
from raycifar.analysis.tested_arms import arms_of
from raycifar.storage.folders import SweepFolder
from tests.support.paths import QUICK
from tests.support.sweep_folders import add_predictions, write_failure, write_sweep

ARMS = {"transfer": (3, 2), "scratch": (2, 2)}


def right(folder: Path, *trials: str) -> np.ndarray:
    arrays = [np.load(folder / trial / "predictions.npz") for trial in trials]
    return np.array([array["logits"].argmax(1) == array["labels"] for array in arrays])


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    found = write_sweep(tmp_path / "s", ARMS, data={"test_images": 160})
    add_predictions(found)
    return found


def test_results_have_both_intervals_of_every_arm() -> None:
    frame = read_results(QUICK).accuracies().set_index("arm")
    transfer = arm_interval(right(QUICK, "transfer-1", "transfer-2", "transfer-3"))
    row = frame.loc["transfer"]
    assert (row["n"], row["mean"]) == (3, pytest.approx(transfer.mean))
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx(transfer.seeds)
    assert (row["images_low"], row["images_high"]) == pytest.approx(transfer.images)
    scratch = frame.loc["scratch"]
    assert scratch[["seeds_low", "images_low"]].isna().all()
    assert scratch["network_low"] < scratch["mean"] < scratch["network_high"]


def test_results_have_the_differences_with_p_and_family() -> None:
    (row,) = read_results(QUICK).differences().to_dict("records")
    a, b = right(QUICK, "transfer-1", "transfer-2", "transfer-3"), right(QUICK, "scratch")
    found = difference(a, b)
    assert (row["a"], row["b"], row["comparisons"], row["is_assumed"]) == ("transfer", "scratch", 1, True)
    assert (row["images_low"], row["images_high"]) == pytest.approx(found.images)
    assert row["p"] == row["p_holm"] == pytest.approx(found.p)


def no_predictions(folder: SweepFolder) -> None:
    folder.trial("transfer-2").predictions.unlink()


def other_images(folder: SweepFolder) -> None:
    rewrite(folder, index=np.arange(160) + 7)


def another_order(folder: SweepFolder) -> None:
    array = np.load(folder.trial("transfer-2").predictions)
    rewrite(folder, **{name: array[name][::-1] for name in ("logits", "labels")})


def rewrite(folder: SweepFolder, **changes: np.ndarray) -> None:
    path = folder.trial("transfer-2").predictions
    np.savez_compressed(path, **{**np.load(path), **changes})


@pytest.mark.parametrize("change", [no_predictions, other_images, another_order])
def test_answers_of_some_trials_alone_give_no_interval_with_other_images(
    folder: SweepFolder, change: Callable[[SweepFolder], None]
) -> None:
    before = read_results(folder.path).accuracies().set_index("arm")
    change(folder)
    frame = read_results(folder.path).accuracies().set_index("arm")
    assert before["images_low"].notna().all()
    assert np.isnan(frame.loc["transfer", "images_low"])
    assert frame.loc["transfer", "seeds_low"] == before.loc["transfer", "seeds_low"]
    assert frame.loc["scratch", "images_low"] == before.loc["scratch", "images_low"]
    (row,) = read_results(folder.path).differences().to_dict("records")
    assert np.isnan(row["images_low"])
    assert row["seeds_low"] < row["difference"]


def test_a_failed_trial_is_in_no_mean(folder: SweepFolder) -> None:
    write_failure(folder, "transfer-2", "lost")
    results = read_results(folder.path)
    arm = arms_of(results, read_predictions(results))["transfer"]
    assert arm.n == 2
    assert arm.answers is not None


def test_a_sweep_without_a_tested_trial_has_empty_frames_of_the_same_columns(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 1)})
    full = read_results(folder.path)
    write_failure(folder, "transfer", "lost")
    empty = read_results(folder.path)
    for name in ("accuracies", "differences"):
        frame = getattr(empty, name)()
        assert frame.empty
        assert list(frame.columns) == list(getattr(full, name)().columns)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_none_or_all_right_in_every_trial_is_no_certainty(folder: SweepFolder, accuracy: float) -> None:
    for name in ("transfer-1", "transfer-2", "transfer-3"):
        trial = folder.trial(name)
        summary = trial.summary()
        assert summary is not None
        trial.write_summary(replace(summary, test_accuracy=accuracy))
    add_predictions(folder)
    row = read_results(folder.path).accuracies().set_index("arm").loc["transfer"]
    assert row["mean"] == accuracy
    assert row[["seeds_low", "images_low", "network_low"]].isna().all()


@pytest.mark.parametrize(
    ("arms", "pairs"),
    [
        ({"scratch": (2, 2), "transfer": (2, 2)}, [("transfer", "scratch")]),
        ({"transfer": (2, 2), "scratch": (2, 2)}, [("transfer", "scratch")]),
        (
            {"scratch": (2, 2), "transfer": (2, 2), "third": (2, 3)},
            [("transfer", "scratch"), ("transfer", "third"), ("third", "scratch")],
        ),
        ({"transfer": (2, 2), "scratch": (2, 2), "third": (2, 3)}, [("transfer", "scratch"), ("transfer", "third")]),
    ],
)
def test_every_arm_is_compared_with_the_best_and_the_first_one_once(
    tmp_path: Path, arms: dict[str, tuple[int, int]], pairs: list[tuple[str, str]]
) -> None:
    frame = read_results(write_sweep(tmp_path / "s", arms).path).differences()
    assert list(zip(frame["a"], frame["b"], strict=True)) == pairs
