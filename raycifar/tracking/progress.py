"""How a running sweep is seen: a live table in a terminal, plain lines in a pipe, a log or CI, and who else listens."""

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from statistics import fmean
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from raycifar.config.sweep import TrialSpec
from raycifar.storage.records import EpochRecord, History, TrialSummary
from raycifar.tracking.live_table import RUNNING, STYLES, Row, clock, live_table, percent


class Listener(Protocol):
    """Hears what the terminal shows: a file of events, TensorBoard, metrics."""

    def state(self, trial: str, state: str, note: str = "") -> None: ...

    def epoch(self, trial: str, record: EpochRecord) -> None: ...

    def summary(self, trial: str, summary: TrialSummary) -> None: ...


class Progress(AbstractContextManager["Progress"]):
    """Shows the trials while its `with` block runs; `done` holds the histories that earlier sessions left.

    States: waiting, starting, resumed (continues after its last epoch), training, testing, done, failed. What is told
    before the block begins is of earlier sessions: the table shows it, the listeners do not hear it.
    """

    def __init__(
        self,
        trials: Sequence[TrialSpec],
        console: Console | None = None,
        done: Mapping[str, History] | None = None,
        listeners: Sequence[Listener] = (),
    ):
        self.console = console or Console()
        done = done or {}
        self._rows = {
            trial.name: Row(trial, list(done[trial.name].epochs) if trial.name in done else []) for trial in trials
        }
        self._started, self._ended = time.monotonic(), 0.0
        live = self.console.is_interactive and not self.console.quiet
        self._live = Live(console=self.console, get_renderable=self._view) if live else None
        self.listeners: list[Listener] = list(listeners)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = time.monotonic()
        if self._live:
            self._live.stop()

    def state(self, trial: str, state: str, note: str = "") -> None:
        """A failure is also printed above the table, which may have no room for its note."""
        row = self._rows[trial]
        note = " ".join("".join(c if c.isprintable() else " " for c in note).split())
        if (state, note) != (row.state, row.note):
            row.state, row.note = state, note
            if state == "failed" or not self._live:
                line = f"{trial}  {state}  {note}".rstrip()
                self.console.print(Text(line, STYLES.get(state, "")), soft_wrap=not self._live)
            self._tell("state", trial, state, note)

    def _tell(self, what: str, *news: Any) -> None:
        """A listener that cannot take it, as on a full disk, hears no more; it ends no training."""
        for listener in list(self.listeners):
            try:
                getattr(listener, what)(*news)
            except Exception as error:
                self.listeners.remove(listener)
                line = f"{type(listener).__name__} hears no more of this sweep: {error}"
                self.console.print(Text(line, "yellow"), soft_wrap=True)

    def place(self, trial: str, labels: Sequence[str]) -> None:
        """A trial's workers are up, each on "node:gpu index" or "node:cpu": it trains from here on."""
        here = f"{socket.gethostname()}:"
        gpus = ",".join(label.removeprefix(here) for label in labels) if not labels[0].endswith(":cpu") else "cpu"
        self._rows[trial].gpu = gpus
        self.state(trial, "training")

    def warn(self, trial: str, line: str) -> None:
        """Of what does not end the trial, above the table."""
        self.console.print(Text(f"{trial}  warning: {line}", "yellow"), soft_wrap=True)

    def epoch(self, trial: str, record: EpochRecord) -> None:
        row, seconds = self._rows[trial], record.train_seconds + record.val_seconds + record.checkpoint_seconds
        row.seconds.append(seconds)
        row.epochs.append(record)
        row.epoch_ended_at, row.state, row.note = time.monotonic(), "training", ""
        if not self._live:
            accuracies = f"train {percent(record.train_accuracy)}  val {percent(record.val_accuracy)}"
            speed = f"{record.images_per_second:.0f} images/s  {seconds:.1f} s"
            line = f"{trial}  epoch {record.epoch}/{row.spec.epochs}  {accuracies}  lr {record.lr:#.3g}  {speed}"
            self.console.print(Text(line), soft_wrap=True)
        self._tell("epoch", trial, record)
        if record.epoch == row.spec.epochs:
            self.state(trial, "testing")

    def summary(self, trial: str, summary: TrialSummary) -> None:
        self._tell("summary", trial, summary)
        self.state(trial, "done", f"test {percent(summary.test_accuracy)}, best epoch {summary.best_epoch}")

    def _view(self) -> Group:
        return live_table(list(self._rows.values()), self.console, self._last_line(), over=bool(self._ended))

    def _last_line(self) -> str:
        states = [row.state for row in self._rows.values()]
        counts = f"{states.count('done')} of {len(states)} trials done, {states.count('failed')} failed"
        elapsed, left = (self._ended or time.monotonic()) - self._started, self._seconds_left()
        return f"{counts}  elapsed {clock(elapsed)}" + (f"  ETA {clock(left)}" if left and not self._ended else "")

    def _seconds_left(self) -> float:
        """With as many trials at once as run now; an epoch of a trial not yet timed takes the mean of the others'."""
        rows = self._rows.values()
        timed = [s for row in rows for s in row.seconds] or [0.0]
        left = [row.seconds_left(fmean(row.seconds or timed)) for row in rows] or [0.0]
        return max(sum(left) / max(sum(row.state in RUNNING for row in rows), 1), *left)
