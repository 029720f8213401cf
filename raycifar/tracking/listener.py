"""The bus: whoever wants to hear how a sweep or a search goes is a `Listener`, and the `Bus` tells them all the same.

Everything is told in the process that runs the sweep, on Ray and without it. A listener that fails is told of in one
line and hears no more; it never ends a training.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from raycifar.storage.records import EpochRecord, TrialSummary

# The states of a trial, in their order; "resumed" continues after its last epoch.
STATES = ("waiting", "starting", "resumed", "training", "testing", "done", "failed")


@dataclass(frozen=True, slots=True)
class Start:
    """What is known of a trial when it starts, or starts again."""

    settings: Mapping[str, Any]  # as the sweep file nests them
    epochs: Sequence[EpochRecord]  # that are there already, of earlier sessions


class Listener:
    """Hears how each trial goes. In a search a trial is a sample, and has no summary. Override what is of interest."""

    def start(self, trial: str, start: Start) -> None:
        """The trial starts, or resumes; its state is told next. Comes again where its driver is started again."""

    def state(self, trial: str, state: str, note: str = "") -> None:
        """One of STATES, and one line about it."""

    def place(self, trial: str, labels: Sequence[str]) -> None:
        """Its workers are up, each on "node:gpu index" or "node:cpu"."""

    def warn(self, trial: str, line: str) -> None:
        """What does not end the trial."""

    def epoch(self, trial: str, record: EpochRecord) -> None:
        """An epoch has ended; each is told once a call."""

    def summary(self, trial: str, summary: TrialSummary) -> None:
        """The trial has been tested."""

    def refresh(self) -> None:
        """Comes about once a second under Ray, whether anything has happened or not."""

    def close(self) -> None:
        """The sweep has ended, or was interrupted."""


def tested(summary: TrialSummary) -> str:
    """How a tested trial did, in a few words."""
    return f"test {100 * summary.test_accuracy:.1f} %, best epoch {summary.best_epoch}"


@dataclass(frozen=True, slots=True)
class Tracked:
    """What an experiment tracker needs to know of the sweep or search that it logs."""

    folder: Path
    created_at: float  # of the results: the same in every call that resumes them

    def run_id(self, trial: str) -> str:
        """The same for all sessions of a trial, and another for the same trial of a sweep that starts over."""
        return f"{self.folder.name}-{trial}-{self.created_at:.0f}"


class Tracker(Listener):
    """An experiment tracker that `--log NAME` chooses: one file, and one line in tracking/trackers.py."""

    name: ClassVar[str]  # as --log takes it, and the extra that installs it
    packages: ClassVar[tuple[str, ...]]  # what it imports, in its methods only: they may be missing

    def __init__(self, tracked: Tracked) -> None:
        self.tracked = tracked

    @classmethod
    def problem(cls) -> str | None:
        """What keeps it from logging here, with the remedy, though its packages are installed."""
        return None

    @classmethod
    def beside(cls) -> tuple[str, ...]:
        """The files and folders that it opens in the results' folder, by names that everybody knows."""
        return ()


@dataclass(slots=True)
class Bus(AbstractContextManager["Bus"]):
    """Tells all listeners, the first of them first; at the end of its `with` block it closes them."""

    epochs: Mapping[str, int]  # how many each trial has planned
    listeners: list[Listener]
    complain: Callable[[str], object]  # gets the line about a listener that failed
    _last: dict[str, tuple[str, str]] = field(default_factory=dict)  # each trial's state and note

    def __exit__(self, *_: object) -> None:
        self._tell("close")

    def start(self, trial: str, start: Start) -> None:
        self._tell("start", trial, start)

    def state(self, trial: str, state: str, note: str = "") -> None:
        """Told where it is news; a note of any text becomes one printable line."""
        note = " ".join("".join(c if c.isprintable() else " " for c in note).split())
        if self._last.get(trial) != (state, note):
            self._last[trial] = state, note
            self._tell("state", trial, state, note)

    def place(self, trial: str, labels: Sequence[str]) -> None:
        """The trial trains from here on."""
        self._tell("place", trial, labels)
        self.state(trial, "training")

    def warn(self, trial: str, line: str) -> None:
        self._tell("warn", trial, line)

    def epoch(self, trial: str, record: EpochRecord) -> None:
        """After the last planned epoch the trial is tested."""
        self._last[trial] = "training", ""
        self._tell("epoch", trial, record)
        if record.epoch == self.epochs[trial]:
            self.state(trial, "testing")

    def summary(self, trial: str, summary: TrialSummary) -> None:
        self._tell("summary", trial, summary)
        self.state(trial, "done", tested(summary))

    def refresh(self) -> None:
        self._tell("refresh")

    def _tell(self, what: str, *news: Any) -> None:
        for listener in list(self.listeners):
            try:
                getattr(listener, what)(*news)
            except Exception as error:  # a full disk, a server that is down
                self.listeners.remove(listener)
                reason = str(error).partition("\n")[0] or type(error).__name__
                self.complain(f"{type(listener).__name__} stopped logging this sweep: {reason}")
