"""A worker that stands still is killed by its watchdog: real processes, with a tick of hundredths of a second."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import raycifar.execution.watchdog
from raycifar.execution.watchdog import ALIVE, PAUSED, watch
from raycifar.storage.folders import TrialFolder

WORKER = """
import sys, time
from pathlib import Path
from raycifar.execution.watchdog import Watchdog
watchdog = Watchdog(Path(sys.argv[1]), "node:0", 1)
watchdog.pause()
watchdog.resume()
print("started", flush=True)
sys.stdin.readline()
watchdog.close()
"""


@pytest.fixture
def pipe(monkeypatch):
    monkeypatch.setattr(raycifar.execution.watchdog, "TICK_SECONDS", 0.01)
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # a test has closed it
            os.close(end)


def after(seconds, act):
    threading.Timer(seconds, act).start()


def test_silence_is_noticed(pipe):
    assert watch(pipe[0], 0.05)


def test_the_end_of_the_worker_ends_the_watch(pipe):
    os.close(pipe[1])
    assert not watch(pipe[0], 0.05)


def test_every_sign_of_life_starts_the_count_anew(pipe):
    started = time.monotonic()
    for i in range(1, 5):
        after(0.1 * i, lambda: os.write(pipe[1], ALIVE))
    assert watch(pipe[0], 0.3)
    assert time.monotonic() - started > 0.4 + 0.29


def test_who_waits_for_others_may_wait_for_long(pipe):
    os.write(pipe[1], PAUSED)
    after(0.5, lambda: os.close(pipe[1]))
    assert not watch(pipe[0], 0.05)


@pytest.mark.parametrize("stopped", [False, True], ids=["waiting", "stopped"])
def test_a_worker_that_stands_still_is_killed_and_its_trial_says_so(tmp_path, stopped):
    """SIGSTOP stands for a worker that is stuck where no Python runs."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout.readline() == "started\n"
        if stopped:
            worker.send_signal(signal.SIGSTOP)
        assert worker.wait(30) == -signal.SIGKILL
    error = TrialFolder(tmp_path).error()
    assert error.kind == "Hung"
    assert "the worker on node:0 made no training step for 1 s" in error.message


def test_a_dead_watchdog_is_no_reason_to_stop(tmp_path):
    watchdog = raycifar.execution.watchdog.Watchdog(tmp_path, "node:0", 60)
    watchdog.process.kill()
    watchdog.process.wait()
    watchdog.pause()
    watchdog.resume()
    watchdog.close()


def test_who_has_waited_for_others_is_watched_again(pipe):
    os.write(pipe[1], PAUSED + ALIVE)
    ending = threading.Timer(1, os.close, [pipe[1]])
    ending.start()
    assert watch(pipe[0], 0.05)
    ending.cancel()
