"""Runs a sweep of many tiny trials and watches it for memory, files and handles that are not released after a trial.

`make load TRIALS=200`, or `python -m tests.load.many_trials 200 [--ray]`. Each trial is the real VGG16 on ten of the
tests' images, for an epoch. Its files are counted and its large ones then deleted, for 200 trials would need 48 GB.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tests.support.paths import SAMPLE

SWEEP = """[[trials]]
name = "t"
repeats = {trials}
epochs = 1
batch_size = 10
model = {{ weights = "random" }}
data = {{ train_images = 10, holdout_images = 10, test_images = 10 }}
"""
RUN = """
import os, sys
from pathlib import Path
import raycifar.execution.sweep, run_sweep
from raycifar.training.trial import Assets
raycifar.execution.runners.fetch_assets = lambda *_: Assets(Path(os.environ["SAMPLE"]), None)
sys.exit(run_sweep.main(sys.argv[1:]))
"""
WARM_UP = 0.25  # share of the trials after which everything that is loaded once has been loaded


@dataclass
class Load:
    """What the sweep's processes used after each trial, in order."""

    status: int = -1
    seconds: float = 0.0
    memory_mb: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)  # of one trial
    trial_mb: list[float] = field(default_factory=list)

    def slope(self, values: list[float] | list[int]) -> float:
        """Growth per trial after the warm-up, by least squares."""
        warm = values[int(len(values) * WARM_UP) :]
        return float(np.polyfit(range(len(warm)), warm, 1)[0]) if len(warm) > 1 else 0.0


def run(trials: int, folder: Path, ray: bool = False) -> Load:
    """Run a sweep of that many trials in `folder`; `ray`: through Ray, else --local."""
    (folder / "load.toml").write_text(SWEEP.format(trials=trials))
    runner = ["--gpus=0"] if ray else ["--local", "--gpus=0"]
    command = [sys.executable, "-c", RUN, str(folder / "load.toml"), f"--storage={folder}", *runner]
    load, started = Load(), time.monotonic()
    with (folder / "output").open("w") as output:
        sweep = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"SAMPLE": str(SAMPLE)})
        while sweep.poll() is None:
            time.sleep(0.05)
            _look(load, sweep, folder / "load")
    _look(load, None, folder / "load")
    load.status, load.seconds = sweep.returncode, time.monotonic() - started
    return load


def _look(load: Load, sweep: psutil.Popen | None, folder: Path) -> None:
    """Count what each newly finished trial left and what the processes use, and delete the trial's large files."""
    for summary in folder.glob("t-*/summary.json"):
        files = [path for path in summary.parent.rglob("*") if path.is_file()]
        if sweep is None or not (summary.parent / "best.safetensors").exists():
            continue
        load.files.append(len(files))
        load.trial_mb.append(sum(path.stat().st_size for path in files) / 1e6)
        (summary.parent / "best.safetensors").unlink()
        for checkpoint in summary.parent.glob("checkpoint_*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
        held = [_held(process) for process in (sweep, *_children(sweep))]
        load.memory_mb.append(sum(memory for memory, _ in held) / 1e6)
        load.handles.append(sum(handles for _, handles in held))
        load.processes.append(len(held))


def _children(sweep: psutil.Popen) -> list[psutil.Process]:
    try:
        return list(sweep.children(recursive=True))
    except psutil.Error:
        return []


def _held(process: psutil.Process) -> tuple[int, int]:
    try:
        return process.memory_info().rss, process.num_fds()
    except psutil.Error:  # it has just ended
        return 0, 0


def describe(load: Load) -> str:
    """A table: the first trial, the last, the most, and the growth per trial after the warm-up."""
    lines = [f"{len(load.files)} trials in {load.seconds:.0f} s, exit status {load.status}"]
    lines.append(f"{'':24}{'first':>9}{'last':>9}{'most':>9}{'growth a trial':>16}")
    rows = {
        "memory of all, MB": load.memory_mb,
        "open handles": load.handles,
        "processes": load.processes,
        "files of a trial": load.files,
        "MB of a trial": load.trial_mb,
    }
    for name, values in rows.items():
        lines.append(f"{name:24}{values[0]:9.0f}{values[-1]:9.0f}{max(values):9.0f}{load.slope(values):16.2f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.load.many_trials", description=__doc__)
    parser.add_argument("trials", type=int)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = run(options.trials, Path(folder), options.ray)
        print(describe(load) if load.files else (Path(folder) / "output").read_text())
    return load.status


if __name__ == "__main__":
    sys.exit(main())
