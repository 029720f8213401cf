"""A part in a process of its own, with a hard limit in seconds; when it ends, all that it started has ended, too."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
GRACE = 10.0  # seconds between SIGTERM and SIGKILL: a training saves its epoch
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux' prctl


@contextmanager
def adopting() -> Iterator[None]:
    """Descendants whose parents end meanwhile become this process's children, and so can be found and ended."""
    _adopt(True)
    try:
        yield
    finally:
        _adopt(False)


def _adopt(orphans: bool) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, int(orphans), 0, 0, 0)


def run(command: Sequence[str], settings: Mapping[str, str], limit: float, log: Path) -> int | None:
    """The exit status of a command whose output goes to `log`; None where it ran past `limit` seconds.

    Its descendants have ended on return, and also where an exception comes from a signal.
    """
    others = _children()
    with log.open("wb") as output, adopting():
        environment = os.environ | settings
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            end(others)


def end(others: set[psutil.Process]) -> None:
    """End all descendants of this process but for `others`: SIGTERM first, and SIGKILL after the grace."""
    ours = _children() - others
    for process in ours:
        _signal(process, psutil.Process.terminate)
    _, alive = psutil.wait_procs(ours, timeout=GRACE)
    while alive := [*(_children() - others)]:  # also those that began meanwhile
        for process in alive:
            _signal(process, psutil.Process.kill)
        psutil.wait_procs(alive, timeout=1)


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _signal(process: psutil.Process, send: Callable[[psutil.Process], None]) -> None:
    with suppress(psutil.Error):  # it has ended
        send(process)
