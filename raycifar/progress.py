"""The live view of a running sweep: a table in a terminal, plain lines in a pipe, a log or CI."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raycifar.records import EpochRecord, History, TrialSummary
from raycifar.spec import TrialSpec

RUNNING = ("starting", "resumed", "training", "testing")
STYLES = {"waiting": "dim", "done": "green", "failed": "bold red"} | dict.fromkeys(RUNNING, "cyan")
GAP = 2  # terminal cells between columns
DROPPED_FIRST = ("images/s", "train", "", "ETA", "val", "epoch")  # where the terminal is narrow; "" is the bar


@dataclass
class _Trial:
    spec: TrialSpec
    last: EpochRecord | None
    state: str = "waiting"
    note: str = ""
    seconds: list[float] = field(default_factory=list)  # of each epoch of this session
    epoch_ended_at: float = 0.0

    def seconds_left(self, epoch_seconds: float) -> float:
        """Counts down while an epoch runs, but not below what the epochs after it need."""
        epochs = self.spec.epochs - (self.last.epoch if self.last else 0)
        if epochs <= 0 or self.state in ("testing", "done", "failed"):
            return 0.0
        since = time.monotonic() - self.epoch_ended_at if self.seconds else 0.0
        return epoch_seconds * epochs - min(since, epoch_seconds)


class Progress(AbstractContextManager["Progress"]):
    """Shows the trials while its `with` block runs; `done` holds the histories that earlier sessions left.

    States: waiting, starting, resumed (continues after its last epoch), training, testing, done, failed.
    """

    def __init__(
        self, trials: Sequence[TrialSpec], console: Console | None = None, done: Mapping[str, History] | None = None
    ):
        self.console = console or Console()
        last = {name: history.epochs[-1] for name, history in (done or {}).items() if history.epochs}
        self._trials = {trial.name: _Trial(trial, last.get(trial.name)) for trial in trials}
        self._started, self._ended = time.monotonic(), 0.0
        self._live = Live(console=self.console, get_renderable=self._view) if self.console.is_interactive else None

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
        row = self._trials[trial]
        note = " ".join("".join(c if c.isprintable() else " " for c in note).split())
        if (state, note) != (row.state, row.note):
            row.state, row.note = state, note
            if state == "failed" or not self._live:
                line = f"{trial}  {state}  {note}".rstrip()
                self.console.print(Text(line, STYLES.get(state, "")), soft_wrap=not self._live)

    def epoch(self, trial: str, record: EpochRecord) -> None:
        row, seconds = self._trials[trial], record.train_seconds + record.val_seconds + record.checkpoint_seconds
        row.seconds.append(seconds)
        row.last, row.epoch_ended_at, row.state, row.note = record, time.monotonic(), "training", ""
        if not self._live:
            accuracies = f"train {_percent(record.train_accuracy)}  val {_percent(record.val_accuracy)}"
            speed = f"{record.images_per_second:.0f} images/s  {seconds:.1f} s"
            line = f"{trial}  epoch {record.epoch}/{row.spec.epochs}  {accuracies}  lr {record.lr:#.3g}  {speed}"
            self.console.print(Text(line), soft_wrap=True)

    def summary(self, trial: str, summary: TrialSummary) -> None:
        self.state(trial, "done", f"test {_percent(summary.test_accuracy)}, best epoch {summary.best_epoch}")

    def _view(self) -> Group:
        rows, columns = list(self._trials.values()), self._columns(self.console.width)
        if hidden := max(len(rows) + 3 - self.console.height, 0):  # header, last line, cursor
            rows.sort(key=lambda row: (row.state not in RUNNING, row.state != "failed"))
        table = Table(box=None, padding=(0, GAP, 0, 0), header_style="dim", expand=True)
        for column, width in columns.items():
            ratio = 1 if column in ("", "state") else None  # these two share what is left over
            left = ratio or column == "trial"
            table.add_column(column, width=width, ratio=ratio, justify="left" if left else "right", no_wrap=True)
        for row in rows[: len(rows) - hidden]:
            cells = self._cells(row, columns["trial"])
            table.add_row(*(cells[column] for column in columns))
        more = f"{hidden} more not shown, " if hidden else ""
        return Group(table, Text(more + self._last_line(), no_wrap=True, overflow="ellipsis"))

    def _columns(self, room: int) -> dict[str, int]:
        """Those that fit into `room` cells, and their least widths."""
        trial = min(max([5, *map(len, self._trials)]), max(room // 5, 8))
        epoch = max([5, *(2 * len(str(row.spec.epochs)) + 1 for row in self._trials.values())])
        widths = {"trial": trial, "": 10, "epoch": epoch, "train": 7, "val": 7, "images/s": 8, "state": 12, "ETA": 8}
        for column in DROPPED_FIRST:
            if sum(widths.values()) + GAP * len(widths) > room:
                del widths[column]
        return widths

    def _cells(self, row: _Trial, name_width: int) -> dict[str, RenderableType]:
        name, last, done = row.spec.name, row.last, row.last.epoch if row.last else 0
        left = row.seconds_left(fmean(row.seconds)) if row.seconds and not self._ended else 0.0
        state = row.note if row.state == "done" and row.note else f"{row.state}  {row.note}".rstrip()
        return {
            "trial": name if len(name) <= name_width else f"..{name[2 - name_width :]}",  # repeats differ at the end,
            "": ProgressBar(row.spec.epochs, done),
            "epoch": f"{done}/{row.spec.epochs}",
            "train": _percent(last.train_accuracy) if last else "",
            "val": _percent(last.val_accuracy) if last else "",
            "images/s": f"{last.images_per_second:.0f}" if last and row.state == "training" else "",
            "state": Text(state, STYLES.get(row.state, ""), overflow="ellipsis"),
            "ETA": _clock(left) if left else "",
        }

    def _last_line(self) -> str:
        states = [row.state for row in self._trials.values()]
        counts = f"{states.count('done')} of {len(states)} trials done, {states.count('failed')} failed"
        elapsed, left = (self._ended or time.monotonic()) - self._started, self._seconds_left()
        return f"{counts}  elapsed {_clock(elapsed)}" + (f"  ETA {_clock(left)}" if left and not self._ended else "")

    def _seconds_left(self) -> float:
        """With as many trials at once as run now; an epoch of a trial not yet timed takes the mean of the others'."""
        rows = self._trials.values()
        timed = [s for row in rows for s in row.seconds] or [0.0]
        left = [row.seconds_left(fmean(row.seconds or timed)) for row in rows] or [0.0]
        return max(sum(left) / max(sum(row.state in RUNNING for row in rows), 1), *left)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 3600}:{round(seconds) // 60 % 60:02}:{round(seconds) % 60:02}"
