"""raycifar.analysis.tables.equal_cost: who is ahead when. The sweeps are synthetic (see sweep_folders)."""

from dataclasses import replace
from pathlib import Path

import pytest

from raycifar.analysis.figures.bands import accuracy_against_seconds
from raycifar.analysis.learning import GOALS
from raycifar.analysis.report.findings import answer
from raycifar.analysis.results import MOST_ARMS, Results, read_results
from raycifar.analysis.statistics.formulas import sample
from raycifar.analysis.tables.accuracy import averages_by_arm
from raycifar.analysis.tables.equal_cost import at_equal_cost, milestones
from raycifar.analysis.tables.table import NOTHING_FINISHED
from raycifar.analysis.wording import CUT_NOTE, percent, seconds
from raycifar.storage.records import History
from tests.support.arms import compared
from tests.support.sweep_folders import write_sweep

ARMS = {"transfer": (3, 4), "scratch": (1, 30)}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return read_results(write_sweep(tmp_path / "s", ARMS, seconds={"transfer": 50.0, "scratch": 20.0}).path)


def test_arms_are_compared_after_as_many_epochs_as_each_has_had(results: Results) -> None:
    row = at_equal_cost(*compared(results)).rows[0]
    fourth = results.epochs[results.epochs["epoch"] == 4].set_index("arm")["val_accuracy"]
    of = sample(fourth["transfer"])
    assert row[0] == "4 epochs: validation"
    assert row[1] == f"{percent(of.mean)} ({percent(of.low)} to {percent(of.high)}, n = 3)"
    assert row[2] == f"{percent(fourth['scratch'])} (n = 1)"


def test_arms_are_compared_after_as_many_seconds_as_each_has_had(results: Results) -> None:
    row = at_equal_cost(*compared(results)).rows[1]
    spent = results.epochs.groupby("trial")["own_seconds"].max()
    assert spent.idxmin() != "scratch"
    scratch = results.epochs[(results.epochs["trial"] == "scratch") & (results.epochs["own_seconds"] <= spent.min())]
    assert 4 < len(scratch) < 30  # neither the same number of epochs nor all of them
    assert row[2] == f"{percent(scratch['val_accuracy'].iloc[-1])} (n = 1)"


def test_an_arm_without_an_epoch_in_that_time_has_no_figure(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"quick": (1, 1), "slow": (1, 1)}, seconds={"quick": 1.0, "slow": 100.0})
    assert at_equal_cost(*compared(folder.path)).rows[1][2] == "–"


def test_the_quicker_trials_alone_do_not_stand_for_their_arm(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (3, 1)})
    for name, changes in (
        ("transfer-1", {"val_accuracy": 0.2}),
        ("transfer-2", {"val_accuracy": 0.9}),
        ("transfer-3", {"train_seconds": 900.0}),
    ):
        trial = folder.trial(name)
        (epoch,) = trial.history().epochs
        trial.write_history(History([replace(epoch, **changes)], trial.history().sessions))
    results = read_results(folder.path)
    assert at_equal_cost(*compared(results)).rows[1][1] == "not comparable: only 2 of 3 had finished an epoch"
    seconds_row = at_equal_cost(*compared(results)).plain_rows()[2]
    assert seconds_row[1:] == ["55", "0", "100", "2", "3"]  # for machines, as it is
    caption = accuracy_against_seconds(results.epochs, results.arms).caption
    assert "transfer is not comparable: only 2 of 3 had finished an epoch." in caption


def test_an_accuracy_that_cannot_be_is_cut_off_and_marked(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 1)})
    for name, accuracy in (("transfer-1", 0.9), ("transfer-2", 1.0)):
        trial, summary = folder.trial(name), folder.trial(name).summary()
        assert summary is not None
        trial.write_summary(replace(summary, test_accuracy=accuracy))
    results = read_results(folder.path)
    table = at_equal_cost(*compared(results))
    assert table.rows[3][1] == "95.00 (31.47 to 100.00†, n = 2)"
    assert table.notes[-1] == CUT_NOTE
    assert "on these images, 31.47 to 100.00 %, cut at 100 %; what other test images" in answer(*compared(results))
    assert averages_by_arm(*compared(results)).rows[0][5] == "31.47 to 100.00†"
    assert averages_by_arm(*compared(results)).notes[-1] == CUT_NOTE


def test_each_goal_has_the_mean_of_the_trials_that_reached_it(results: Results) -> None:
    table = milestones(results)
    best = results.finished["best_val_accuracy"].max()
    goals = [goal for goal in GOALS if goal <= best]
    assert [row[:2] for row in table.rows] == [[arm, f"{100 * goal:.0f}"] for arm in ARMS for goal in goals]
    assert (
        table.notes[-1] == f"No finished trial has reached {', '.join(f'{100 * g:.0f}' for g in GOALS if g > best)} %."
    )
    for row in table.rows:
        of_arm = results.epochs[results.epochs["arm"] == row[0]]
        first = of_arm[of_arm["val_accuracy"] >= int(row[1]) / 100].groupby("trial").first()
        assert row[2] == f"{len(first)} of {ARMS[row[0]][0]}"
        mean = f"{first['epoch'].mean():.{0 if len(first) == 1 else 1}f}"
        assert row[3] == (mean if len(first) else "–")
        assert row[5] == seconds(first["own_seconds"].mean())


def test_epochs_and_seconds_reach_from_the_lowest_to_the_highest_trial(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 9)})
    for name, quick in (("transfer-1", 2), ("transfer-2", 9)):
        trial = folder.trial(name)
        epochs = [
            replace(epoch, val_accuracy=0.86 if epoch.epoch >= quick else 0.5) for epoch in trial.history().epochs
        ]
        trial.write_history(History(epochs, trial.history().sessions))
        summary = trial.summary()
        assert summary is not None
        trial.write_summary(replace(summary, best_val_accuracy=0.86))
    (row,) = milestones(read_results(folder.path)).rows
    assert row[:4] == ["transfer", "85", "2 of 2", "5.5"]
    assert row[4] == "2 to 9"
    assert row[6] == "55.0 to 248"


def test_of_many_arms_only_those_that_the_report_shows_have_columns(tmp_path: Path) -> None:
    results = read_results(
        write_sweep(tmp_path / "s", {f"arm-{i}": (1, MOST_ARMS + 2 - i) for i in range(MOST_ARMS + 2)}).path
    )
    table = at_equal_cost(*compared(results))
    assert table.headings[1:] == [f"{arm}, %" for arm in results.shown_arms]
    assert {len(row) for row in table.rows} == {1 + MOST_ARMS}
    assert table.rows[0][0] == "3 epochs: validation"  # of the shown ones


def test_a_running_trial_is_in_neither_table(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 30)}, running=True)
    (folder.trial("transfer-2").path / "summary.json").unlink()
    results = read_results(folder.path)
    assert all("n = 1" in cell for row in at_equal_cost(*compared(results)).rows for cell in row[1:])
    assert {row[2].split()[-1] for row in milestones(results).rows} == {"1"}
    (folder.trial("transfer-1").path / "summary.json").unlink()
    for empty in (at_equal_cost(*compared(folder.path)), milestones(read_results(folder.path))):
        assert (empty.rows, empty.notes) == ([], [NOTHING_FINISHED])
