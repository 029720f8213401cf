"""`--json`: what happens in a sweep, as lines of JSON for scripts.

One object a line; `event` says which, `at` is its time in Unix seconds, and the other fields are called what they are
called in the records::

    plan     name, folder, runner, gpus, trials_at_once, trials (names, in the order in which they start)
    state    trial, state (starting, resumed, training, testing, done, failed), note
    epoch    trial, and what an EpochRecord holds
    summary  what a TrialSummary holds
    end      exit_status

In a search a trial is a sample, and there is no summary: none is tested.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from raycifar.storage.records import EpochRecord, TrialSummary
from raycifar.tracking.listener import Listener


class JsonLines(Listener):
    """Writes each event to a stream at once. A reader that goes away ends no training."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def plan(self, path: Path, trials: Sequence[str], runner: str, gpus: int, trials_at_once: int) -> None:
        where = {"name": path.name, "folder": str(path), "runner": runner}
        self._write("plan", **where, gpus=gpus, trials_at_once=trials_at_once, trials=list(trials))

    def state(self, trial: str, state: str, note: str = "") -> None:
        self._write("state", trial=trial, state=state, note=note)

    def epoch(self, trial: str, record: EpochRecord) -> None:
        self._write("epoch", trial=trial, **record.to_json())

    def summary(self, trial: str, summary: TrialSummary) -> None:
        self._write("summary", **summary.to_json())

    def end(self, exit_status: int) -> None:
        self._write("end", exit_status=exit_status)

    def _write(self, event: str, **fields: Any) -> None:
        try:
            print(json.dumps({"event": event, "at": time.time(), **fields}), file=self._stream, flush=True)
        except OSError:  # what follows, and Python's own flush at the end, goes nowhere
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
