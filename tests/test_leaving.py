"""Real signals to this process, and to one that then hangs."""

import re
import signal
import subprocess
import sys
import time

import pytest

from raycifar import leaving


@pytest.fixture(autouse=True)
def heeded(no_leaving):
    """The signals of a sweep of one running trial, for the time of a test."""
    leaving.heed_signals()
    leaving.trial_started("a")


def test_ctrl_c_leaves_at_once_and_a_second_one_does_not_disturb_the_leaving():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)


def test_sigterm_lets_the_running_epochs_end(capsys):
    leaving.trial_started("b")
    signal.raise_signal(signal.SIGTERM)
    assert "SIGTERM: stops once a, b have saved an epoch, in 20 s at the latest" in capsys.readouterr().err
    leaving.epoch_saved("b")
    leaving.epoch_saved("b")
    with pytest.raises(KeyboardInterrupt):
        leaving.epoch_saved("a")


def test_sigterm_waits_no_longer_than_a_machine_that_goes_away(monkeypatch):
    monkeypatch.setattr(leaving, "GRACE_SECONDS", 0.05)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)


def test_sigterm_leaves_at_once_where_nothing_runs():
    leaving.trial_ended("a")
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
    leaving.epoch_saved("a")
    leaving.trial_ended("a")


def test_a_trial_that_ends_is_not_waited_for():
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        leaving.trial_ended("a")


def test_an_epoch_that_ends_while_nobody_wants_to_leave_is_nothing():
    leaving.epoch_saved("a")


HANGS = """
import ctypes, signal
from raycifar import leaving
leaving.LEAVE_SECONDS = 0.5
leaving.heed_signals()
{then}
    ctypes.CDLL(None).sleep(60)  # deaf to signals, as a library's call may be
"""
INTERRUPTED = "try: signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:"
INTERRUPTED_IN_A_CALL = """
try:
    with leaving.ends_within(0.5):
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:"""


@pytest.mark.parametrize("then", [INTERRUPTED, INTERRUPTED_IN_A_CALL, "with leaving.ends_within(0.5):"])
def test_what_hangs_ends_all_the_same_and_says_where(then):
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(then=then)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert re.search(r'File "<string>", line \d+ in <module>', done.stderr)


def test_what_does_not_hang_goes_on():
    then = "with leaving.ends_within(0.1): pass\nif True:"
    code = HANGS.format(then=then).replace("sleep(60)", "sleep(1)")
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
