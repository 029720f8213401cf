"""What --log needs before anything starts, and what every tracker is told."""

import tomllib
from dataclasses import replace

import pytest

from raycifar.commands import run_options
from raycifar.tracking import trackers, wandb
from raycifar.tracking.listener import Tracked
from raycifar.tracking.trackers import TRACKERS, TrackerError, check_trackers
from tests.support.paths import ROOT

INSTALLED = [name for name, tracker in TRACKERS.items() if tracker.packages]  # by an extra of their name


@pytest.mark.parametrize("name", INSTALLED)
def test_a_tracker_that_is_not_installed_is_refused_with_the_line_that_installs_it(name, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    with pytest.raises(TrackerError, match=rf"not installed: python -m pip install .*-e '\.\[{name}\]'$"):
        check_trackers([name])


def test_every_tracker_that_needs_packages_is_an_extra_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name for name in INSTALLED if name not in extras} == set()


@pytest.mark.parametrize("name", TRACKERS)
def test_an_installed_tracker_is_accepted(name, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    check_trackers([name])


def test_wandb_online_needs_a_login(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "logged_in", lambda: False)
    with pytest.raises(TrackerError, match="`wandb login`, or WANDB_MODE=offline"):
        check_trackers(["wandb"])
    monkeypatch.setattr(wandb, "logged_in", lambda: True)
    check_trackers(["wandb"])


def test_a_trials_run_is_the_same_in_all_sessions_and_another_in_a_sweep_that_starts_over(tmp_path):
    first = Tracked(tmp_path / "q", 1.7e9)
    assert first.run_id("a-1") == Tracked(tmp_path / "q", 1.7e9).run_id("a-1") != first.run_id("a-2")
    assert replace(first, created_at=1.7e9 + 60).run_id("a-1") != first.run_id("a-1")


WRONG = {  # the tracker, its variable, the value, what is said
    "no mode": ("wandb", "WANDB_MODE", "of line", "WANDB_MODE='of line': expected one of online, offline,"),
    "a mode in capitals": ("wandb", "WANDB_MODE", "OFFLINE", "WANDB_MODE='OFFLINE': expected one of"),
    "no scheme of MLflow's": ("mlflow", "MLFLOW_TRACKING_URI", "foo://x", "begins with foo: expected a folder, or"),
    "a misspelt scheme": ("mlflow", "MLFLOW_TRACKING_URI", "postgres://u:secret@h/d", "begins with postgres: expec"),
    "a scheme without slashes": ("mlflow", "MLFLOW_TRACKING_URI", "sqllite:a.db", "begins with sqllite: expected"),
    "no host": ("mlflow", "MLFLOW_TRACKING_URI", "http://", "begins with http: and names no host"),
    "half a host": ("mlflow", "MLFLOW_TRACKING_URI", "http://[::1", "MLFLOW_TRACKING_URI: Invalid IPv6"),
}


@pytest.mark.parametrize(("name", "variable", "value", "line"), WRONG.values(), ids=WRONG)
def test_a_variable_that_a_tracker_cannot_use_is_refused_before_anything_starts(
    monkeypatch, name, variable, value, line
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(TrackerError) as refused:
        check_trackers([name])
    assert str(refused.value).startswith(f"--log {name}: ")
    assert line in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("wandb", "WANDB_MODE", ""),
        ("wandb", "WANDB_MODE", "disabled"),
        *(
            ("mlflow", "MLFLOW_TRACKING_URI", value)
            for value in ("", "runs", "/a/b", "file:///a", "HTTP://host:5000", "sqlite:///a.db", "mysql+pymysql://h/d")
        ),
    ],
)
def test_a_variable_that_a_tracker_can_use_is_accepted(monkeypatch, name, variable, value):
    monkeypatch.setenv(variable, value)
    check_trackers([name])


def test_a_tracker_that_is_named_twice_logs_once():
    args = run_options.parse_arguments(["--log=mlflow", "--log=wandb", "--log=mlflow"])
    assert run_options.sweep_options(args, None).log == ("mlflow", "wandb")
