"""When a sweep stops: Ctrl-C at once, SIGTERM once every running trial has saved an epoch, or after a time of grace.

Either way the same command resumes after the last epoch that was saved. What hangs where Ray starts or ends, or behind
Ctrl-C, ends the process after a while. State of the whole process, as signals are.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from raycifar.storage.checkpoints import checkpoint_epoch

GRACE_SECONDS = 20.0  # of the 30 s that schedulers and clouds commonly give between SIGTERM and SIGKILL
LEAVE_SECONDS = 60.0  # for shutting down, such as of Ray; a process that hangs there is ended

_running: dict[str, int] = {}  # trials, and the last epoch that each has told of
_awaited: dict[str, int] | None = None  # as _running, when leaving was asked for: such epochs are waited for
_end_may_hang = False  # whether a library may hold up Python's own end
_left = False  # whether this process is leaving


def start_anew() -> None:
    """Forget all that was asked: as in a new process, no trial runs and no limit of time is set."""
    global _awaited, _left
    _running.clear()
    _awaited, _left = None, False
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()


def heed_signals() -> None:
    """Turn SIGINT and SIGTERM into one KeyboardInterrupt in the main thread; further ones change nothing."""
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave_soon)
    signal.signal(signal.SIGALRM, _leave)


def trial_started(trial: str) -> None:
    _running[trial] = 0


def epoch_ended(trial: str, epoch: int) -> None:
    """The trial's epoch is about to be told of: who asks to leave from now on waits until it is saved."""
    _running[trial] = epoch


def epoch_saved(trial: str, checkpoint: Path) -> None:
    """The checkpoint, perhaps an earlier epoch's, is on disk, and all has been told of the epoch that brought it.

    Raises KeyboardInterrupt where it was the last trial waited for.
    """
    if _awaited is not None and checkpoint_epoch(checkpoint) >= _awaited.get(trial, 0):
        _no_longer_awaited(trial)


def trial_ended(trial: str) -> None:
    """The trial has finished or failed. Raises KeyboardInterrupt as epoch_saved."""
    _running.pop(trial, None)
    _no_longer_awaited(trial)


def _no_longer_awaited(trial: str) -> None:
    if _awaited is not None:
        _awaited.pop(trial, None)
        _leave_if_none_is_awaited()


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """A library's call that may hang: then this process ends, status 1, and the stacks of its threads say where."""
    _end_after(seconds)
    try:
        yield
    finally:
        if not _left:
            faulthandler.cancel_dump_traceback_later()


def end_may_hang() -> None:
    """A library was left half started: its threads may hold up Python's own end for ever."""
    global _end_may_hang  # noqa: PLW0603
    _end_may_hang = True


def end(status: int) -> int:
    """The exit status; but where Python's own end may hang, the process ends here."""
    if _end_may_hang:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _end_after(seconds: float) -> None:
    """Needs neither a lock nor this thread; 2 is standard error, whatever sys.stderr is."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)


def _leave_soon(*_: object) -> None:
    global _awaited  # noqa: PLW0603
    signal.signal(signal.SIGTERM, _leave)
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
    _awaited = dict(_running)
    _leave_if_none_is_awaited()
    line = (
        f"SIGTERM: stops once {', '.join(sorted(_awaited))} have saved an epoch, in {GRACE_SECONDS:.0f} s at the latest"
    )
    print(f"\n{line}", file=sys.stderr, flush=True)


def _leave_if_none_is_awaited() -> None:
    if not _awaited:
        _leave()


def _leave(*_: object) -> NoReturn:
    global _awaited, _left
    _awaited, _left = None, True
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)  # what follows must not be cut short: it lets go of the folder
    _end_after(LEAVE_SECONDS)
    raise KeyboardInterrupt
