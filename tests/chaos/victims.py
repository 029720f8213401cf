"""Finds the processes of a running sweep by their role, and kills them."""

import random
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

# The names that `ps` shows, and how often each role is chosen: workers are the most numerous and live longest.
NAMES = {
    "worker": "ray::RayTrainWorker",
    "driver": "ray::ImplicitFunc",
    "raylet": "raylet",
    "gcs": "gcs_server",
}
WEIGHTS = {"worker": 8, "driver": 5, "main": 4, "raylet": 1, "gcs": 1, "SIGINT": 1, "SIGTERM": 1}


@dataclass(frozen=True, slots=True)
class Kill:
    """A process to kill, and its trial where it works on one alone."""

    role: str
    process: psutil.Process
    trial: str | None = None

    def strike(self) -> None:
        number = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}.get(self.role, signal.SIGKILL)
        self.process.send_signal(number)


def choose(main: subprocess.Popen[str], dice: random.Random) -> Kill | None:
    """A process of the sweep, drawn by role; None where no process has that role now."""
    role = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    if role not in NAMES:
        return Kill(role, psutil.Process(main.pid))
    candidates = sorted(found(main.pid, NAMES[role]), key=lambda process: process.pid)
    if not candidates:
        return None
    process = dice.choice(candidates)
    return Kill(role, process, _trial(process) if role in ("worker", "driver") else None)


def working(main: int) -> bool:
    """Whether a worker of any trial runs."""
    return bool(found(main, NAMES["worker"]))


def found(main: int, name: str) -> list[psutil.Process]:
    """The descendants of process `main` with that name.

    The kernel keeps 15 characters of a name, so the command line is read; Ray writes its names there.
    """
    matching = []
    for process in psutil.Process(main).children(recursive=True):
        try:
            called = (process.cmdline() or [""])[0]
        except psutil.Error:  # it has just ended
            continue
        if called.startswith(name) or Path(called).name == name:
            matching.append(process)
    return matching


def _trial(process: psutil.Process) -> str | None:
    try:
        return Path(process.cwd()).name
    except psutil.Error:
        return None
