"""The live table: a line a trial, as wide as the terminal and no wider."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raycifar.config.sweep import TrialSpec
from raycifar.storage.records import EpochRecord

RUNNING = ("starting", "resumed", "training", "testing")
STYLES = {"waiting": "dim", "done": "green", "failed": "bold red"} | dict.fromkeys(RUNNING, "cyan")
GAP = 2  # terminal cells between columns
# Where the terminal is narrow. "" is the bar; "trend" is validation accuracy by epoch, all trials on one scale.
DROPPED_FIRST = ("lr", "GPU", "images/s", "trend", "train", "", "ETA", "val", "epoch")
WIDEST_BAR = 30
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass
class Row:
    """One trial as the terminal knows it."""

    spec: TrialSpec
    epochs: list[EpochRecord]  # of all sessions
    state: str = "waiting"
    note: str = ""
    gpu: str = ""
    seconds: list[float] = field(default_factory=list)  # of each epoch of this session
    epoch_ended_at: float = 0.0

    @property
    def last(self) -> EpochRecord | None:
        return self.epochs[-1] if self.epochs else None

    @property
    def shown_state(self) -> str:
        return self.note if self.state == "done" and self.note else f"{self.state}  {self.note}".rstrip()

    def seconds_left(self, epoch_seconds: float) -> float:
        """Counts down while an epoch runs, but not below what the epochs after it need."""
        epochs = self.spec.epochs - (self.last.epoch if self.last else 0)
        if epochs <= 0 or self.state in ("testing", "done", "failed"):
            return 0.0
        since = time.monotonic() - self.epoch_ended_at if self.seconds else 0.0
        return epoch_seconds * epochs - min(since, epoch_seconds)


def live_table(rows: Sequence[Row], console: Console, last_line: str, over: bool = False) -> Group:
    """The trials that fit, those that run or failed first where not all do, and a last line about all of them."""
    shown, columns = list(rows), _columns(rows, console)
    if hidden := max(len(rows) + 3 - console.height, 0):  # header, last line, cursor
        shown.sort(key=lambda row: (row.state not in RUNNING, row.state != "failed"))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for column, width in columns.items():
        left = column in ("trial", "", "trend", "state")
        table.add_column(column, width=width, justify="left" if left else "right", no_wrap=True)
    spread = _spread(rows)
    for row in shown[: len(rows) - hidden]:
        cells = _cells(row, columns, spread, over)
        table.add_row(*(cells[column] for column in columns))
    more = f"{hidden} more not shown, " if hidden else ""
    return Group(table, Text(more + last_line, no_wrap=True, overflow="ellipsis"))


def _columns(rows: Sequence[Row], console: Console) -> dict[str, int]:
    """Those that fit into the terminal, and their widths."""
    widths = _least_widths(rows, console.width)
    if console.options.ascii_only:
        del widths["trend"]
    for column in DROPPED_FIRST:
        if _free(widths, console) < 0:
            widths.pop(column, None)
    texts, epochs = [len(row.shown_state) for row in rows], [row.spec.epochs for row in rows]
    for column, wanted in (("state", max(texts)), ("trend", max(epochs)), ("", WIDEST_BAR)):
        if column in widths:
            widths[column] += max(min(_free(widths, console), wanted - widths[column]), 0)
    return widths


def _least_widths(rows: Sequence[Row], room: int) -> dict[str, int]:
    trial = min(max([5, *(len(row.spec.name) for row in rows)]), max(room // 5, 8))
    epoch = max([5, *(2 * len(str(row.spec.epochs)) + 1 for row in rows)])
    gpu = max([3, *(len(row.gpu) for row in rows)])
    widths = {"trial": trial, "": 6, "epoch": epoch, "train": 7, "val": 7, "trend": 6, "lr": 8, "images/s": 8}
    return widths | {"GPU": gpu, "state": 12, "ETA": 8}


def _free(widths: dict[str, int], console: Console) -> int:
    return console.width - sum(widths.values()) - GAP * (len(widths) - 1)


def _cells(row: Row, columns: dict[str, int], spread: tuple[float, float], over: bool) -> dict[str, RenderableType]:
    name, room, last, done = row.spec.name, columns["trial"], row.last, row.last.epoch if row.last else 0
    left = row.seconds_left(fmean(row.seconds)) if row.seconds and not over else 0.0
    at_work = last if row.state == "training" else None
    return {
        "trial": name if len(name) <= room else f"..{name[2 - room :]}",  # repeats differ at the end
        "": ProgressBar(row.spec.epochs, done),
        "epoch": f"{done}/{row.spec.epochs}",
        "train": percent(last.train_accuracy) if last else "",
        "val": percent(last.val_accuracy) if last else "",
        "trend": Trend([epoch.val_accuracy for epoch in row.epochs], *spread),
        "lr": f"{at_work.lr:#.3g}" if at_work else "",
        "images/s": f"{at_work.images_per_second:.0f}" if at_work else "",
        "GPU": row.gpu,
        "state": Text(row.shown_state, STYLES.get(row.state, ""), overflow="ellipsis"),
        "ETA": clock(left) if left else "",
    }


@dataclass(frozen=True)
class Trend:
    """A sparkline as wide as its column: each block is an epoch, or the last of several epochs that share it."""

    values: Sequence[float]
    low: float  # of all trials, so that their lines compare
    high: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        cells = min(options.max_width, len(self.values))
        shown = [self.values[(i + 1) * len(self.values) // cells - 1] for i in range(cells)]
        steps = len(BLOCKS) - 1
        scale = steps / (self.high - self.low) if self.high > self.low else 0.0
        yield Text("".join(BLOCKS[round((value - self.low) * scale)] for value in shown), no_wrap=True)


def _spread(rows: Sequence[Row]) -> tuple[float, float]:
    accuracies = [epoch.val_accuracy for row in rows for epoch in row.epochs] or [0.0]
    return min(accuracies), max(accuracies)


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    return f"{round(seconds) // 3600}:{round(seconds) // 60 % 60:02}:{round(seconds) % 60:02}"
