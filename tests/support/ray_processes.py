"""The actors of a running Ray, by the names that `ps` shows."""

import os

import psutil


def ray_processes(main: int | None = None) -> set[str]:
    """The classes of the actors that live, among the descendants of process `main`, or of this one."""
    called = [_title(process) for process in psutil.Process(main or os.getpid()).children(recursive=True)]
    return {title.removeprefix("ray::").split(".")[0] for title in called if title.startswith("ray::")}


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:  # it has just ended
        return ""
