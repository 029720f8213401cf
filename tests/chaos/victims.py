"""Processes of a running sweep, by the part that they play, and how they die."""

import random
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

# What `ps` calls them, and how often each is chosen: workers live longest and are the most.
NAMES = {
    "worker": "ray::RayTrainWorker",
    "driver": "ray::ImplicitFunc",
    "controller": "ray::TrainController",
    "raylet": "raylet",
    "gcs": "gcs_server",
}
WEIGHTS = {"worker": 8, "driver": 3, "controller": 2, "main": 4, "raylet": 1, "gcs": 1, "SIGINT": 1, "SIGTERM": 1}


@dataclass(frozen=True, slots=True)
class Kill:
    """One process to kill, and the trial that it works on, where it is one trial's."""

    role: str
    process: psutil.Process
    trial: str | None = None

    def strike(self) -> None:
        number = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}.get(self.role, signal.SIGKILL)
        self.process.send_signal(number)


def choose(main: subprocess.Popen[str], dice: random.Random) -> Kill | None:
    """Somebody of the sweep's processes; None where the chosen role is not filled just now."""
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
    """Its descendants of that name: the kernel keeps 15 characters of one, Ray writes its own into the command line."""
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
