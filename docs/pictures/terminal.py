"""Draws terminal.svg: what the terminal shows 113 s after `make demo`'s sweep began, from the epochs on record.

`python docs/pictures/terminal.py` draws it again: look at it before it is committed.
"""

import io
import re
import time
from pathlib import Path

from rich.console import Console

from raycifar.analysis.trial_state import read_sweep
from raycifar.config.sweep import TrialSpec
from raycifar.storage.folders import SweepFolder
from raycifar.tracking.live_table import Row, clock, live_table

HERE = Path(__file__).parent
FOLDER = SweepFolder(HERE.parents[1] / "results" / "quick-2-epyc-cores")
AFTER = 113.2  # seconds: two trials are done, two are in their second epoch
WIDTH = 116  # characters
WEB_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # GitHub loads none from inside a picture


def row(trial: TrialSpec, now: float) -> Row:
    """The trial as it stood at `now`, in Unix seconds."""
    files = FOLDER.trial(trial.name)
    epochs, summary = [epoch for epoch in files.history().epochs if epoch.finished_at <= now], files.summary()
    if summary and summary.finished_at <= now:
        note = f"test {100 * summary.test_accuracy:.1f} %, best epoch {summary.best_epoch}"
        return Row(trial, epochs, "done", note, "cpu")
    seconds = [epoch.train_seconds + epoch.val_seconds + epoch.checkpoint_seconds for epoch in epochs]
    ended_at = time.monotonic() - (now - epochs[-1].finished_at)
    return Row(trial, epochs, "training", "", "cpu", seconds, ended_at)


def main(folder: Path = HERE) -> None:
    (call,) = FOLDER.invocations()
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    rows = [row(trial, call.started_at + AFTER) for trial in read_sweep(FOLDER)[1].trials]
    done = sum(row.state == "done" for row in rows)
    console.print(f"$ {call.command}", style="dim")
    console.print(f"{len(rows)} trials, {call.trials_at_once} at once, on the CPU, 1 thread a worker", style="dim")
    console.print(live_table(rows, console, f"{done} of {len(rows)} trials done, 0 failed  elapsed {clock(AFTER)}"))
    svg = console.export_svg(title="make demo", unique_id="terminal")
    (folder / "terminal.svg").write_text(WEB_FONTS.sub("", svg))


if __name__ == "__main__":
    main()
