"""Seconds, energy, and how busy devices were. The sweeps are synthetic (see sweep_folders)."""

from dataclasses import replace
from pathlib import Path

import pytest

from raycifar.analysis.results import read_results
from raycifar.analysis.tables.cost import device_use, time_by_trial, time_totals
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import History
from tests.support.sweep_folders import write_failure, write_sweep


def test_a_gpu_that_two_trials_share_is_busy_once(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 4)}, lanes=2)
    for trial in ("transfer-1", "transfer-2"):
        history = folder.trial(trial).history()
        folder.trial(trial).write_history(
            History(history.epochs, [replace(s, devices=["node:0"]) for s in history.sessions])
        )
    results = read_results(folder.path)
    (row,) = device_use(results).rows
    session = results.sessions.iloc[0]
    busy = session["ended_at"] - session["started_at"]
    assert row[:4] == ["node:0", "Synthetic GPU", "2", f"{busy:,.0f}"]
    assert row[4] == f"{100 * (1 - busy / results.wall_seconds):.2f}"


def test_all_devices_together_and_those_that_held_nothing(tmp_path: Path) -> None:
    table = device_use(read_results(write_sweep(tmp_path / "s", {"transfer": (2, 4)}, lanes=4).path))
    assert [row[0] for row in table.rows] == ["node:0", "node:1", "all"]
    assert "2 of the 4 GPUs held no trial at all and are not in this table." in table.notes


def test_gpu_seconds_say_of_how_many_trials_they_are(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (3, 4)})
    history = folder.trial("transfer-2").history()
    sessions = [replace(s, device_kind="cpu", devices=["node:cpu"]) for s in history.sessions]
    folder.trial("transfer-2").write_history(History(history.epochs, sessions))
    results = read_results(folder.path)
    seconds = results.trials["gpu_seconds"].sum()
    assert f"{seconds:,.0f} (2 of 3 trials)" in time_totals(results).rows[0]


def test_energy_is_summed_where_every_session_reports_it(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 4), "scratch": (1, 4)})
    report_energy(folder, "transfer-1", 1500.0)
    report_energy(folder, "transfer-2", 500.0)
    table = time_totals(read_results(folder.path))
    assert table.headings[-1] == "energy, kJ"
    rows = {row[0]: row[-1] for row in table.rows}
    assert rows == {"transfer": "2.0", "scratch": "not reported", "the sweep": "not reported"}


def test_energy_that_is_not_on_record_is_said_not_to_be(tmp_path: Path) -> None:
    table = time_totals(read_results(write_sweep(tmp_path / "s", {"transfer": (1, 2)}).path))
    assert "Energy: no device reported it." in table.notes
    assert "energy, kJ" not in table.headings


@pytest.mark.parametrize("value", ["much", True, [1]])
def test_energy_that_is_no_number_makes_a_trial_unreadable(tmp_path: Path, value: object) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 2)})
    report_energy(folder, "transfer", value)
    results = read_results(folder.path)
    assert list(results.trials["status"]) == ["unreadable"]
    assert "energy_joules" in results.problems[0]


def report_energy(folder: SweepFolder, trial: str, joules: object) -> None:
    history = folder.trial(trial).history()
    sessions = [replace(session, energy_joules=joules) for session in history.sessions]  # type: ignore[arg-type]
    folder.trial(trial).write_history(History(history.epochs, sessions))


def test_the_sweeps_time_is_also_that_of_the_trials_that_have_not_finished(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    write_failure(folder, "transfer-3", "lost")
    rows = {row[0]: row[1:5] for row in time_totals(read_results(folder.path)).rows}
    assert rows["transfer"] == ["2", "113", "226", "24.0"]
    assert rows["not finished, so far"] == ["1", "110", "110", "12.0"]
    assert rows["the sweep"] == ["4", "–", "504", "48.0"]


def test_all_devices_are_idle_for_their_share_of_all_their_time(tmp_path: Path) -> None:
    *each, both = device_use(read_results(write_sweep(tmp_path / "s", {"transfer": (2, 4)}, lanes=2).path)).rows
    assert float(both[3]) == pytest.approx(sum(float(row[3]) for row in each), abs=1)
    assert float(both[4]) == pytest.approx(sum(float(row[4]) for row in each) / 2, abs=0.01)


def test_every_phase_of_a_trial_is_in_its_column(tmp_path: Path) -> None:
    (row,) = time_by_trial(read_results(write_sweep(tmp_path / "s", {"scratch": (1, 4)}).path)).rows
    assert row[2:] == ["1", "12.0", "100", "8.0", "2.0", "3.0", "113", "113"]
