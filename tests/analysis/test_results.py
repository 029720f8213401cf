"""Trial states and results: real files in, frames out. The sweeps are synthetic (see sweep_folders)."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raycifar.analysis.results import EPOCH_COLUMNS, MOST_ARMS, TRIAL_COLUMNS, read_results
from raycifar.analysis.tables.equal_cost import milestones
from raycifar.analysis.trial_state import active_intervals
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import History, Invocation, TrialError
from tests.support.hostile import NO_FILE, nothing_waits_for_ever  # noqa: F401
from tests.support.sweep_folders import START, begin_trial, trial_spec, write_failure, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return write_sweep(tmp_path / "sweep")


@contextmanager
def held_by_another_process(lock: Path) -> Iterator[None]:
    hold = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


def status(folder: SweepFolder, trial: str) -> str:
    trials = read_results(folder.path).trials
    return str(trials.loc[trials["trial"] == trial, "status"].item())


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_trial_is_a_row_and_every_epoch_is_a_row(sweep: SweepFolder) -> None:
    results = read_results(sweep.path)
    assert list(results.trials["trial"]) == ["transfer-1", "transfer-2", "transfer-3", "scratch"]
    assert len(results.epochs) == 3 * 4 + 6
    assert list(results.trials.columns) == TRIAL_COLUMNS
    assert list(results.epochs.columns) == EPOCH_COLUMNS
    assert results.arms == ["transfer", "scratch"]


def test_own_time_is_training_validation_checkpointing_and_test_without_start_up(sweep: SweepFolder) -> None:
    scratch = read_results(sweep.path).trials.iloc[3]
    assert scratch["own_seconds"] == pytest.approx(6 * (25 + 2 + 0.5) + 3)
    assert scratch["startup_seconds"] == 12
    assert scratch["gpu_seconds"] == pytest.approx(scratch["own_seconds"])


def test_own_seconds_of_epochs_add_up(sweep: SweepFolder) -> None:
    epochs = read_results(sweep.path).epochs
    assert list(epochs.loc[epochs["trial"] == "transfer-1", "own_seconds"]) == [27.5, 55, 82.5, 110]


def test_gap_and_mean_training_accuracy_come_from_the_epochs_and_the_test(sweep: SweepFolder) -> None:
    results = read_results(sweep.path)
    trial = results.trials.iloc[0]
    train = results.epochs.loc[results.epochs["trial"] == "transfer-1", "train_accuracy"]
    assert trial["mean_train_accuracy"] == pytest.approx(train.mean())
    assert trial["train_test_gap"] == pytest.approx(train.iloc[-1] - trial["test_accuracy"])


def test_the_threshold_is_the_first_epoch_that_reaches_it_and_missing_where_none_does(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s", {"transfer": (1, 8), "scratch": (1, 3)}).path)
    epochs = results.epochs[results.epochs["trial"] == "transfer"]
    reached = epochs[epochs["val_accuracy"] >= 0.85].iloc[0]
    transfer, scratch = results.trials.iloc[0], results.trials.iloc[1]
    assert (transfer["epochs_to_threshold"], transfer["seconds_to_threshold"]) == (
        reached["epoch"],
        reached["own_seconds"],
    )
    assert math.isnan(scratch["epochs_to_threshold"])


def test_a_cpu_has_no_gpu_seconds(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s", device_kind="cpu").path)
    assert results.trials["gpu_seconds"].isna().all()


def test_gpu_seconds_count_every_gpu_of_each_session(sweep: SweepFolder) -> None:
    folder, history = sweep.trial("scratch"), sweep.trial("scratch").history()
    second = replace(history.sessions[0], first_epoch=3, devices=["node:0", "node:1"])
    folder.write_history(History(history.epochs, [history.sessions[0], second]))
    gpu_seconds = read_results(sweep.path).trials.iloc[3]["gpu_seconds"]
    assert gpu_seconds == pytest.approx(2 * 27.5 + 2 * (4 * 27.5 + 3))


def test_wall_clock_own_time_and_combined_time_are_three_numbers(sweep: SweepFolder) -> None:
    results = read_results(sweep.path)
    own = results.trials["own_seconds"]
    assert results.wall_seconds == pytest.approx(20 + 12 + 6 * 27.5 + 3 + 5)  # all four at once: as long as the longest
    assert own.sum() > results.wall_seconds > own.max()


def call(started_at: float, ended_at: float | None = None) -> Invocation:
    return Invocation(command="run", started_at=started_at, ended_at=ended_at)


@pytest.mark.parametrize(
    ("calls", "running", "recorded", "expected"),
    [
        ([], False, [], []),
        ([call(0, 10), call(100, 130)], False, [], [(0, 10), (100, 130)]),
        ([call(0, 10), call(5, 20)], False, [], [(0, 20)]),
        ([call(0, 30), call(5, 20)], False, [], [(0, 30)]),
        ([call(0)], True, [8], [(0, 50)]),
        ([call(0)], False, [8, 4], [(0, 8)]),
        ([call(0), call(100, 130)], False, [8, 120], [(0, 8), (100, 130)]),
        ([call(0), call(40)], True, [8], [(0, 8), (40, 50)]),
        ([call(0)], False, [], [(0, 0)]),
    ],
)
def test_pauses_do_not_count_and_a_killed_call_ends_with_its_last_trace(
    calls: list[Invocation], running: bool, recorded: list[float], expected: list[tuple[float, float]]
) -> None:
    assert active_intervals(calls, running, 50.0, recorded) == expected


def test_a_trial_with_a_summary_is_finished(sweep: SweepFolder) -> None:
    assert set(read_results(sweep.path).trials["status"]) == {"finished"}


def test_a_trial_with_an_error_failed_and_says_why(sweep: SweepFolder) -> None:
    write_failure(sweep, "scratch", "loss is nan at epoch 2, step 7")
    trial = read_results(sweep.path).trials.iloc[3]
    assert (trial["status"], trial["error"]) == ("failed", "RuntimeError: loss is nan at epoch 2, step 7")


def test_a_trial_without_a_folder_has_not_started(sweep: SweepFolder) -> None:
    shutil.rmtree(sweep.trial("scratch").path)
    assert status(sweep, "scratch") == "not started"


def test_a_trial_that_nobody_runs_any_more_is_interrupted(sweep: SweepFolder) -> None:
    (sweep.trial("scratch").path / "summary.json").unlink()
    assert status(sweep, "scratch") == "interrupted"


def test_while_the_lock_is_held_elsewhere_trials_run_or_wait(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", running=True)
    (sweep.trial("transfer-1").path / "summary.json").unlink()
    shutil.rmtree(sweep.trial("scratch").path)
    with held_by_another_process(sweep.lock):
        results = read_results(sweep.path)
        assert results.running
        assert list(results.trials["status"]) == ["running", "finished", "finished", "waiting"]
        assert results.wall_seconds == pytest.approx(time.time() - START, abs=60)
    assert not read_results(sweep.path).running
    assert status(sweep, "transfer-1") == "interrupted"


def test_a_trial_that_failed_before_this_call_waits_to_be_run_again(sweep: SweepFolder) -> None:
    write_failure(sweep, "scratch", "out of memory")
    sweep.write_invocations([*sweep.invocations(), call(START + 10_000)])
    with held_by_another_process(sweep.lock):
        assert status(sweep, "scratch") == "waiting"


def test_asking_whether_it_runs_leaves_no_lock_file_behind(sweep: SweepFolder) -> None:
    before = sorted(sweep.path.rglob("*"))
    read_results(sweep.path)
    assert sorted(sweep.path.rglob("*")) == before


def test_an_unfinished_trial_has_its_epochs_so_far(sweep: SweepFolder) -> None:
    spec = trial_spec(sweep, "scratch")
    shutil.rmtree(sweep.trial("scratch").path)
    begin_trial(sweep, spec, 2)
    trial = read_results(sweep.path).trials.iloc[3]
    assert (trial["epochs_run"], trial["own_seconds"]) == (2, 55.0)
    assert math.isnan(trial["test_accuracy"])


# Broken folders; analyze.py's table has those that hold no sweep at all ----------------------------------------------

Damage = Callable[[Path], object]


def holding(content: str) -> Damage:
    return lambda path: path.write_bytes(content.encode("latin-1"))


def with_epoch(**changes: object) -> Damage:
    def damage(path: Path) -> None:
        data = json.loads(path.read_text())
        data["epochs"][1] |= changes
        path.write_text(json.dumps(data))

    return damage


def without_an_epoch(path: Path) -> None:
    data = json.loads(path.read_text())
    del data["epochs"][1]
    path.write_text(json.dumps(data))


def put(what: str) -> Damage:
    def replace_by(path: Path) -> None:
        path.unlink()
        NO_FILE[what](path)

    return replace_by


BROKEN = {  # the file, what happened to it, what the problem says
    "history cut short": ("history.json", holding('{"epochs": ['), "not valid JSON"),
    "a list for the history": ("history.json", holding("[]"), "not a History"),
    "null for the history": ("history.json", holding("null"), "not a History"),
    "a number for the epochs": ("history.json", holding('{"epochs": 5}'), "not a History"),
    "zeros and no UTF-8": ("history.json", holding("\x00\xff"), "not valid JSON"),
    "NaN for a loss": ("history.json", with_epoch(val_loss=math.nan), "val_loss = nan"),
    "text for a loss": ("history.json", with_epoch(val_loss="low"), "val_loss = 'low' should be of type float"),
    "a negative accuracy": ("history.json", with_epoch(val_accuracy=-1), "val_accuracy = -1 should lie"),
    "a negative epoch": ("history.json", with_epoch(epoch=-2), "should count 1, 2, 3"),
    "an epoch twice": ("history.json", with_epoch(epoch=1), "should count 1, 2, 3"),
    "an epoch of 300 digits": ("history.json", with_epoch(epoch=10**300), "epoch = 1000"),
    "an epoch missing": ("history.json", without_an_epoch, "should count 1, 2, 3"),
    "no history": ("history.json", Path.unlink, "0 epochs, where summary.json says 4"),
    "a pipe for the history": ("history.json", put("a pipe"), "not a file but a pipe"),
    "a folder for the history": ("history.json", put("a folder"), "Is a directory"),
    "summary cut short": ("summary.json", holding("{"), "not valid JSON"),
    "a list for the summary": ("summary.json", holding("[]"), "not a TrialSummary"),
    "null for the summary": ("summary.json", holding("null"), "not a TrialSummary"),
    "text for an accuracy": ("summary.json", lambda p: edit(p, test_accuracy="high"), "test_accuracy = 'high'"),
    "an accuracy of 7": ("summary.json", lambda p: edit(p, test_accuracy=7), "test_accuracy = 7 should lie"),
    "a summary of other epochs": ("summary.json", lambda p: edit(p, epochs_run=9), "where summary.json says 9"),
    "a summary of fewer epochs": ("summary.json", lambda p: edit(p, epochs_run=3), "4 epochs, where summary.json"),
    "a device for the summary": ("summary.json", put("a device without end"), "not a file but a pipe, a device"),
    "a loop for the summary": ("summary.json", put("a link to itself"), "Too many levels of symbolic links"),
    "error cut short": ("error.json", holding("{"), "not valid JSON"),
    "a list for the error": ("error.json", holding("[]"), "not a TrialError"),
    "null for the error": ("error.json", holding("null"), "not a TrialError"),
    "a number for a message": ("error.json", holding('{"kind": "E", "message": 3}'), "message = 3 should be of type"),
}


@pytest.mark.parametrize(("name", "damage", "complaint"), BROKEN.values(), ids=BROKEN)
def test_one_broken_file_costs_one_trial_and_is_named(
    sweep: SweepFolder, name: str, damage: Damage, complaint: str
) -> None:
    path = sweep.trial("transfer-2").path / name
    damage(path)
    results = read_results(sweep.path)
    assert list(results.trials["status"]) == ["finished", "unreadable", "finished", "finished"]
    (problem,) = results.problems
    assert problem.startswith(str(sweep.path / "transfer-2"))
    assert complaint in problem
    assert problem.isprintable()


@pytest.mark.parametrize("content", ["[{]", "{}", "3", '[{"command": "x", "started_at": null}]'])
def test_broken_invocations_are_named_and_the_trials_still_read(sweep: SweepFolder, content: str) -> None:
    (sweep.path / "invocations.json").write_text(content)
    results = read_results(sweep.path)
    assert "invocations.json" in results.problems[0]
    assert len(results.finished) == 4


def test_a_pipe_for_the_lock_is_no_running_sweep(sweep: SweepFolder) -> None:
    os.mkfifo(sweep.lock)
    assert not read_results(sweep.path).running


def resumed(sweep: SweepFolder, **changes: Any) -> Any:
    """The row of its trial scratch after a second session, from epoch 3 on, that is the first but for `changes`."""
    history = sweep.trial("scratch").history()
    first = replace(history.sessions[0], energy_joules=5.0)
    sweep.trial("scratch").write_history(History(history.epochs, [first, replace(first, first_epoch=3, **changes)]))
    return read_results(sweep.path).trials.iloc[3]


def test_a_session_that_measured_nothing_leaves_gpu_time_and_energy_unknown(sweep: SweepFolder) -> None:
    assert resumed(sweep)["energy_joules"] == 10
    assert math.isnan(resumed(sweep, energy_joules=None)["energy_joules"])
    assert math.isnan(resumed(sweep, device_kind="cpu")["gpu_seconds"])


def test_workers_that_share_a_gpu_use_one(sweep: SweepFolder) -> None:
    trial = resumed(sweep, devices=["node:0", "node:0"])
    assert trial["gpu_seconds"] == pytest.approx(trial["own_seconds"])


def test_start_up_of_an_unfinished_trial_is_that_of_all_its_sessions(sweep: SweepFolder) -> None:
    (sweep.trial("scratch").path / "summary.json").unlink()
    assert resumed(sweep, startup_seconds=7.0)["startup_seconds"] == 12 + 7


def test_the_wall_clock_leaves_pauses_out_and_ends_a_killed_call_with_its_last_trace(sweep: SweepFolder) -> None:
    end = sweep.trial("scratch").summary().finished_at
    sweep.write_invocations([call(end + 100, end + 130), call(START)])
    assert read_results(sweep.path).wall_seconds == pytest.approx(end - START + 30)


def test_a_trial_that_fails_at_once_while_others_run_has_failed(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", running=True)
    trial = sweep.trial("scratch")
    for name in ("summary.json", "history.json"):
        (trial.path / name).unlink()
    trial.write_error(TrialError(kind="RuntimeError", message="no memory", traceback="", at=START + 60))
    with held_by_another_process(sweep.lock):
        assert status(sweep, "scratch") == "failed"


def test_a_goal_is_reached_by_an_accuracy_that_equals_it(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 2)})
    trial = folder.trial("transfer")
    epochs = [replace(epoch, val_accuracy=0.85) for epoch in trial.history().epochs]
    trial.write_history(History(epochs, trial.history().sessions))
    trial.write_summary(replace(trial.summary(), best_val_accuracy=0.85))
    results = read_results(folder.path)
    assert results.trials.iloc[0][["epochs_to_threshold", "seconds_to_threshold"]].tolist() == [1, 27.5]
    assert [row[:4] for row in milestones(results).rows] == [["transfer", "85", "1 of 1", "1"]]


def test_the_shown_arms_are_the_first_and_those_of_the_highest_mean_validation_not_the_luckiest_or_best_tested(
    tmp_path: Path,
) -> None:
    folder = write_sweep(tmp_path / "s", {f"arm-{i}": (2, 1) for i in range(MOST_ARMS + 2)})
    for i in range(MOST_ARMS + 2):
        for repeat in (1, 2):
            val = 0.5 + i / 100 if i else (0.4, 0.9)[repeat - 1] - 0.2
            trial = folder.trial(f"arm-{i}-{repeat}")
            trial.write_summary(replace(trial.summary(), best_val_accuracy=val, test_accuracy=0.5 - i / 100))
    assert read_results(folder.path).shown_arms == ["arm-0", *(f"arm-{i}" for i in range(3, MOST_ARMS + 2))]
