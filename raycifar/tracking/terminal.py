"""How a running sweep is seen: a live table in a terminal, plain lines in a pipe, a log or CI."""

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from raycifar.config.sweep import TrialSpec
from raycifar.storage.records import EpochRecord, History, TrialSummary
from raycifar.tracking.estimate import Estimate
from raycifar.tracking.listener import Listener, tested
from raycifar.tracking.live_table import STYLES, Row, clock, live_table, percent


class Terminal(Listener, AbstractContextManager["Terminal"]):
    """Shows the trials while its `with` block runs; `done` holds the histories that earlier sessions left.

    `are_tested`: whether a trial that has trained is tested, which takes time; in a search none is.
    """

    def __init__(
        self,
        trials: Sequence[TrialSpec],
        console: Console | None = None,
        done: Mapping[str, History] | None = None,
        are_tested: bool = True,
    ):
        self.console = console or Console()
        done = done or {}
        self._rows = {
            trial.name: Row(trial, list(done[trial.name].epochs) if trial.name in done else []) for trial in trials
        }
        self._estimate = Estimate(self._rows, are_tested)
        self._started, self._ended = time.monotonic(), 0.0
        live = self.console.is_interactive and not self.console.quiet
        self._live = Live(console=self.console, get_renderable=self.view) if live else None

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
        self._estimate.state(trial, state)
        row.state, row.note = state, note
        if state == "failed" or not self._live:
            line = f"{trial}  {state}  {note}".rstrip()
            self.console.print(Text(line, STYLES.get(state, "")), soft_wrap=not self._live)

    def done(self, trial: str, summary: TrialSummary) -> None:
        """A trial that an earlier call finished."""
        self.state(trial, "done", tested(summary))

    def place(self, trial: str, labels: Sequence[str]) -> None:
        here = f"{socket.gethostname()}:"
        gpus = ",".join(label.removeprefix(here) for label in labels) if not labels[0].endswith(":cpu") else "cpu"
        self._rows[trial].gpu = gpus

    def warn(self, trial: str, line: str) -> None:
        """Above the table."""
        self.console.print(Text(f"{trial}  warning: {line}", "yellow"), soft_wrap=True)

    def complain(self, line: str) -> None:
        """A warning that is no trial's, above the table."""
        self.console.print(Text(line, "yellow"), soft_wrap=True)

    def epoch(self, trial: str, record: EpochRecord) -> None:
        row, seconds = self._rows[trial], record.train_seconds + record.val_seconds + record.checkpoint_seconds
        self._estimate.epoch(trial, record, seconds)
        row.seconds.append(seconds)
        row.epochs.append(record)
        row.epoch_ended_at, row.state, row.note = time.monotonic(), "training", ""
        if not self._live:
            accuracies = f"train {percent(record.train_accuracy)}  val {percent(record.val_accuracy)}"
            speed = f"{record.images_per_second:.0f} images/s  {seconds:.1f} s"
            line = f"{trial}  epoch {record.epoch}/{row.spec.epochs}  {accuracies}  lr {record.lr:#.3g}  {speed}"
            self.console.print(Text(line), soft_wrap=True)

    def view(self) -> Group:
        """The live table as it stands now."""
        return live_table(list(self._rows.values()), self.console, self._last_line(), over=bool(self._ended))

    def _last_line(self) -> str:
        states = [row.state for row in self._rows.values()]
        counts = f"{states.count('done')} of {len(states)} trials done, {states.count('failed')} failed"
        elapsed, left = (self._ended or time.monotonic()) - self._started, self._estimate.seconds_left()
        about = "~" if self._estimate.is_rough else ""
        eta = f"  ETA {about}{clock(left)}" if left and not self._ended else ""
        return f"{counts}  elapsed {clock(elapsed)}{eta}"
