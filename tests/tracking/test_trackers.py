"""What --log needs before anything starts."""

import tomllib
from dataclasses import replace

import pytest

from raycifar.tracking import trackers
from raycifar.tracking.trackers import PACKAGES, TrackerError, check_trackers, ends_no_sweep, run_id
from tests.support.paths import ROOT
from tests.support.sweep_folders import write_sweep


@pytest.mark.parametrize("name", PACKAGES)
def test_a_tracker_that_is_not_installed_is_refused_with_the_line_that_installs_it(name, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    with pytest.raises(TrackerError, match=rf"not installed: python -m pip install .*-e '\.\[{name}\]'$"):
        check_trackers([name], local=False)


def test_every_tracker_is_an_extra_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name for name in PACKAGES if name not in extras} == set()


@pytest.mark.parametrize("name", PACKAGES)
def test_an_installed_tracker_is_accepted_with_ray_and_refused_without(name, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    check_trackers([name], local=False)
    with pytest.raises(TrackerError, match=f"--log {name}: .*leave out --local"):
        check_trackers([name], local=True)


def test_wandb_online_needs_a_login(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(trackers, "_logged_in", lambda: False)
    with pytest.raises(TrackerError, match="`wandb login`, or WANDB_MODE=offline"):
        check_trackers(["wandb"], local=False)
    monkeypatch.setattr(trackers, "_logged_in", lambda: True)
    check_trackers(["wandb"], local=False)


def test_a_trials_run_is_the_same_in_all_sessions_and_another_in_a_sweep_that_starts_over(tmp_path):
    folder = write_sweep(tmp_path / "q", {"a": (2, 1)})
    first = run_id(folder, "a-1")
    assert first == run_id(folder, "a-1") != run_id(folder, "a-2")
    folder.write_record(replace(folder.record(), created_at=folder.record().created_at + 60))
    assert run_id(folder, "a-1") != first


def test_a_tracker_that_fails_is_told_once_and_ends_no_sweep(caplog):
    class Tracker:
        calls = 0

        @ends_no_sweep
        def log(self):
            self.calls += 1
            raise ConnectionError("the server is down")

    tracker = Tracker()
    tracker.log()
    tracker.log()
    assert tracker.calls == 1
    assert caplog.messages == ["Tracker: logs no more: the server is down"]
