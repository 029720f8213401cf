"""Which ports are open while trials train on a Ray of our own: real Ray, real images, one worker a trial and two."""

import ipaddress
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.ray

SWEEP = """
import sys
from pathlib import Path
import raycifar.execution.runners
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.training.trial import Assets
from rich.console import Console
from tests.support.paths import SAMPLE
from tests.support.sweeps import sweep_of

raycifar.execution.runners.fetch_assets = lambda trials, options: Assets(SAMPLE, None)
options = Options(gpus=0, workers_per_trial=int(sys.argv[2]))
run_sweep(sweep_of(long={"epochs": 10_000}), Path(sys.argv[1], "tiny"), options, Console())
"""
LOOKS = 10


def beyond_loopback(process: psutil.Process) -> list[str]:
    """The addresses at which a process listens for others than this machine."""
    listening = [c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return [ip for ip in listening if not ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback]


@pytest.mark.parametrize("workers", [1, 2])
def test_while_trials_train_nothing_listens_beyond_loopback(tmp_path, workers):
    command = [sys.executable, "-c", SWEEP, str(tmp_path), str(workers)]
    sweep = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    trained, open_ports, until = 0, set(), time.monotonic() + 200
    history = tmp_path / "tiny/long/history.json"
    try:
        while trained < LOOKS and time.monotonic() < until and sweep.poll() is None:
            for process in psutil.Process(sweep.pid).children(recursive=True):
                try:
                    open_ports |= {(process.name(), ip) for ip in beyond_loopback(process)}
                except psutil.Error:  # it has ended
                    continue
            trained += history.exists() and history.read_text().count('"epoch"') > 1
            time.sleep(0.3)
    finally:
        sweep.terminate()
        sweep.wait(60)
    assert trained == LOOKS
    assert open_ports == set()
