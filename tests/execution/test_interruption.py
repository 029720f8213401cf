"""Real signals to this process, and to one that then hangs."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raycifar.execution import interruption


@pytest.fixture(autouse=True)
def heeded(no_leaving):
    """The signals of a sweep of one running trial, for the time of a test."""
    interruption.heed_signals()
    interruption.trial_started("a")


def tells(trial, epoch, saved=None):
    interruption.epoch_ended(trial, epoch)
    if saved:
        interruption.epoch_saved(trial, Path(f"checkpoint_{saved:06d}"))


def test_ctrl_c_leaves_at_once_and_a_second_one_does_not_disturb_the_leaving():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)


def test_sigterm_lets_the_running_epochs_end(capsys):
    interruption.trial_started("b")
    signal.raise_signal(signal.SIGTERM)
    assert "SIGTERM: stops once a, b have saved an epoch, in 20 s at the latest" in capsys.readouterr().err
    tells("b", 1, saved=1)
    tells("b", 2, saved=2)
    with pytest.raises(KeyboardInterrupt):
        tells("a", 1, saved=1)


def test_sigterm_waits_for_all_epochs_that_were_told_of():
    tells("a", 1, saved=1)
    interruption.epoch_ended("a", 2)  # and is just being shown
    signal.raise_signal(signal.SIGTERM)
    interruption.epoch_saved("a", Path("checkpoint_000001"))
    tells("a", 3)
    tells("a", 4, saved=1)
    with pytest.raises(KeyboardInterrupt):
        tells("a", 5, saved=2)


def test_sigterm_waits_no_longer_than_a_machine_that_goes_away(monkeypatch):
    monkeypatch.setattr(interruption, "GRACE_SECONDS", 0.05)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)


def test_sigterm_leaves_at_once_where_nothing_runs():
    interruption.trial_ended("a")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_sigterm_leaves_at_once(second):
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(second)


def test_what_is_saved_while_leaving_does_not_disturb_the_leaving():
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    tells("a", 1, saved=1)
    interruption.trial_ended("a")


def test_a_trial_that_ends_is_not_waited_for():
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        interruption.trial_ended("a")


def test_an_epoch_that_ends_while_nobody_wants_to_leave_is_nothing():
    tells("a", 1, saved=1)


HANGS = """
import ctypes, signal
from raycifar.execution import interruption
interruption.LEAVE_SECONDS = 0.5
interruption.heed_signals()
{then}
    ctypes.CDLL(None).sleep(60)  # deaf to signals, as a library's call may be
"""
INTERRUPTED = "try: signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:"
INTERRUPTED_IN_A_CALL = """
try:
    with interruption.ends_within(0.5):
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:"""


@pytest.mark.parametrize("then", [INTERRUPTED, INTERRUPTED_IN_A_CALL, "with interruption.ends_within(0.5):"])
def test_what_hangs_ends_all_the_same_and_says_where(then):
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(then=then)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert re.search(r'File "<string>", line \d+ in <module>', done.stderr)


def test_what_does_not_hang_goes_on():
    then = "with interruption.ends_within(0.1): pass\nif True:"
    code = HANGS.format(then=then).replace("sleep(60)", "sleep(1)")
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
