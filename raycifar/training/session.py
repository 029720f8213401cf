"""A trial's sessions: what a resumed one keeps of those before it, what it records, which warnings come up in it."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from raycifar.config.sweep import TrialSpec
from raycifar.devices import device_name
from raycifar.storage.records import EpochRecord, History, Session
from raycifar.training.precision import resolve_precision


@dataclass(frozen=True, slots=True)
class Start:
    """When a worker entered the trial: a date, and a reading of the clock that is never set back."""

    at: float
    clock: float

    @classmethod
    def now(cls) -> "Start":
        return cls(time.time(), time.perf_counter())

    def seconds(self) -> float:
        """Since then."""
        return time.perf_counter() - self.clock


def kept_precision(spec: TrialSpec, history: History, device: torch.device) -> str:
    """A resumed trial keeps what "auto" was where it began: another kind of device must not change its numbers."""
    before = [session.precision for session in history.sessions if session.precision]
    return before[0] if before and history.epochs else resolve_precision(spec.precision, device)


def kept_threads(sessions: Sequence[Session], device: str, threads: int) -> int:
    """A trial resumed on a CPU keeps its threads: how many of them share a sum decides its rounding."""
    same = sessions and device == "cpu" and sessions[-1].device_kind == "cpu"
    return sessions[-1].threads if same else threads


def begun(
    start: Start, first_epoch: int, precision: str, device: torch.device, devices: list[str], threads: int
) -> Session:
    """The session as it stands before its first epoch. `devices`: one place a worker; `threads`: of each."""
    return Session(
        started_at=start.at,
        ended_at=max(start.at, time.time()),
        startup_seconds=start.seconds(),
        first_epoch=first_epoch,
        host=socket.gethostname(),
        device=device_name(device),
        device_kind=device.type,
        devices=devices,
        threads=threads,
        precision=precision,
    )


def extended(
    session: Session, record: EpochRecord, since_start: float, joules: float | None, warnings: list[str]
) -> Session:
    """The session after one more epoch, which ended `since_start` seconds after the session's start.

    The first epoch shows how long it took until training began.
    """
    if record.epoch == session.first_epoch:
        session = replace(session, startup_seconds=since_start - record.train_seconds - record.val_seconds)
    ended_at = max(session.ended_at, record.finished_at)  # the wall clock may be set back
    return replace(session, ended_at=ended_at, energy_joules=joules, warnings=list(warnings))


class _Collector(logging.Handler):
    """Collects the warnings that are logged, and hands each on at once."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self.warn = warn
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.warn(record.getMessage())


@contextlib.contextmanager
def collected_warnings(warn: Callable[[str], object]) -> Iterator[list[str]]:
    """The list of what the package's modules warn of while the context is open; `warn` gets each line, too.

    Logging alone would reach few: nobody is shown what Ray's workers log.
    """
    collector = _Collector(warn)
    logger = logging.getLogger("raycifar")
    logger.addHandler(collector)
    try:
        yield collector.lines
    finally:
        logger.removeHandler(collector)
