"""A sweep's folder -> tidy frames: one row an epoch, one row a trial, one row a session.

Times are Unix seconds and durations seconds; accuracies are fractions. Four durations that are easily confused have one
name each: a trial's training time (`own_seconds`: training steps + validation + checkpointing + test), its start-up,
the sum of training times over trials (combined), and the sweep's wall clock.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from raycifar.analysis.tested_arms import accuracy_frame, difference_frame
from raycifar.analysis.trial_state import (
    Interval,
    ResultsError,
    TrialTrace,
    active_intervals,
    is_running,
    read_invocations,
    read_notes,
    read_sweep,
    read_trial,
)
from raycifar.config.architectures import title_of
from raycifar.config.datasets import Facts
from raycifar.config.sweep import SweepSpec
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import EpochRecord, History, Invocation, Session, SweepRecord, TrialSummary, field_names

__all__ = [
    "EPOCH_COLUMNS",
    "LEAK",
    "MOST_ARMS",
    "SESSION_COLUMNS",
    "THRESHOLD",
    "TRIAL_COLUMNS",
    "Results",
    "ResultsError",
    "dicts",
    "leaks",
    "read_results",
]

LEAK = "validated on the training images (leak)"
MOST_ARMS = 7  # that a report shows one by one: as many as there are colours
THRESHOLD = 0.85  # the validation accuracy at which the reference report compares its arms

_IDENTITY = ["trial", "arm", "seed"]
EPOCH_COLUMNS = [*_IDENTITY, *field_names(EpochRecord), "own_seconds", "validation"]
SESSION_COLUMNS = [*_IDENTITY, "session", "validation", *field_names(Session)]
TRIAL_COLUMNS = [
    *_IDENTITY,
    "status",
    *(name for name in field_names(TrialSummary) if name not in _IDENTITY),
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy"),  # of the last epoch
    "mean_train_accuracy",  # over epochs
    "train_test_gap",  # the last epoch's training accuracy minus the test accuracy
    "plain_gap",  # plain_train_accuracy minus the test accuracy: both of the tested weights
    "own_seconds",
    "gpu_seconds",
    "energy_joules",
    "epochs_to_threshold",
    "seconds_to_threshold",  # of training time
    "images_per_second",
    *("sessions", "device", "device_kind", "devices", "error"),
]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that the analysis uses. The frames have the columns EPOCH_, TRIAL_ and SESSION_COLUMNS."""

    path: Path
    record: SweepRecord
    spec: SweepSpec
    epochs: pd.DataFrame
    trials: pd.DataFrame
    sessions: pd.DataFrame
    invocations: list[Invocation]
    running: bool
    active: list[Interval]  # when run_sweep.py ran: disjoint and in order
    read_at: float
    problems: list[str]  # one line for each file that could not be read
    notes: list[str] = field(default_factory=list)  # what people wrote about these results, a paragraph each

    @property
    def facts(self) -> Facts:
        """What is known of the data set that all trials read."""
        return self.spec.data.facts

    @property
    def networks(self) -> list[str]:
        """What texts call the networks that the arms train, each once."""
        return list(dict.fromkeys(title_of(trial.model.source or trial.model.name) for trial in self.spec.trials))

    @property
    def time_notes(self) -> list[str]:
        """What stands beside every time: the first paragraph of the notes, if there are any."""
        return [f"Note on this sweep: {note}" for note in self.notes[:1]]

    @property
    def wall_seconds(self) -> float:
        """How long run_sweep.py ran on this sweep; pauses between its calls do not count."""
        return sum(end - start for start, end in self.active)

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of `trials` that have been tested."""
        return self.trials[self.trials["status"] == "finished"]

    def finished_by_arm(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """The tested trials of every arm that has some, in the sweep file's order."""
        for arm in self.arms:
            trials = self.finished[self.finished["arm"] == arm]
            if len(trials):
                yield arm, trials

    def accuracies(self) -> pd.DataFrame:
        """Every arm's mean test accuracy with its 95 % intervals; see tested_arms.accuracy_frame. Reads predictions."""
        return accuracy_frame(self)

    def differences(self) -> pd.DataFrame:
        """Every arm against the best and the first one; see tested_arms.difference_frame. Reads predictions."""
        return difference_frame(self)

    @property
    def compared_epochs(self) -> pd.DataFrame:
        """The rows of `epochs` that represent their arm: failed trials only where all begun ones failed."""
        begun = self.trials[self.trials["epochs_run"] > 0]
        failed = begun["status"] == "failed"
        left_out = begun[failed & ~failed.groupby(begun["arm"]).transform("all")]
        return self.epochs[~self.epochs["trial"].isin(left_out["trial"])]

    @property
    def arms(self) -> list[str]:
        """In the order of the sweep file."""
        return list(dict.fromkeys(trial.arm for trial in self.spec.trials))

    @property
    def shown_arms(self) -> list[str]:
        """In the sweep file's order, all arms, or the MOST_ARMS of the highest mean validation accuracy where there
        are more: to choose them by their test accuracy would make the shown one look too good. Before any has finished,
        by their best epoch so far.
        """
        if len(self.arms) <= MOST_ARMS:
            return self.arms
        means = self.trials.groupby("arm")["best_val_accuracy"].mean()
        if means.isna().all():
            means = self.epochs.groupby("arm")["val_accuracy"].max().reindex(self.arms)
        best = set(means.fillna(-1.0).sort_values(ascending=False, kind="stable").index[:MOST_ARMS])
        return [arm for arm in self.arms if arm in best]


def leaks(frame: pd.DataFrame) -> bool:
    """Whether any row of a frame comes from a trial that was validated on its training images."""
    return bool((frame["validation"] == "train").any())


def dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def read_results(path: str | Path) -> Results:
    """Read a sweep's folder, also while it runs. Raises ResultsError where there is no sweep to read.

    A trial whose files are broken gets the status "unreadable" and a line in `problems`; the others are read.
    """
    folder = SweepFolder(Path(path).expanduser())
    record, spec = read_sweep(folder)
    running = is_running(folder)  # before the trials are read: what ends meanwhile then shows as running, not as dead
    (calls, problems), (notes, unread) = read_invocations(folder), read_notes(folder)
    traces = [read_trial(folder.trial(trial.name), trial) for trial in spec.trials]
    since = (calls[-1].started_at if calls else record.created_at) if running else None
    now = time.time()
    return Results(
        path=folder.path,
        record=record,
        spec=spec,
        epochs=pd.DataFrame.from_records([row for t in traces for row in _epoch_rows(t)], columns=EPOCH_COLUMNS),
        trials=_frame((_trial_row(trace, trace.status(since)) for trace in traces), TRIAL_COLUMNS),
        sessions=_frame((row for trace in traces for row in _session_rows(trace)), SESSION_COLUMNS),
        invocations=calls,
        running=running,
        active=active_intervals(calls, running, now, (at for trace in traces for at in trace.times())),
        read_at=now,
        problems=problems + unread + [problem for trace in traces for problem in trace.problems],
        notes=notes,
    )


def _frame(rows: Iterable[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Every column, whatever the rows know; numbers as numbers even where all are missing."""
    frame = pd.DataFrame([{column: row.get(column) for column in columns} for row in rows], columns=columns)
    return frame.astype({column: float for column in columns if frame[column].isna().all()})


def _identity(trace: TrialTrace) -> dict[str, Any]:
    return {"trial": trace.spec.name, "arm": trace.spec.arm, "seed": trace.spec.seed}


def _own_seconds(epoch: EpochRecord) -> float:
    return epoch.train_seconds + epoch.val_seconds + epoch.checkpoint_seconds


def _epoch_rows(trace: TrialTrace) -> Iterator[tuple[Any, ...]]:
    """As tuples in the order of EPOCH_COLUMNS: dicts of 200,000 epochs would take minutes and gigabytes."""
    own, identity, values = 0.0, _identity(trace).values(), attrgetter(*field_names(EpochRecord))
    for epoch in trace.history.epochs:
        own += _own_seconds(epoch)
        yield (*identity, *values(epoch), own, trace.spec.data.validation)


def _session_rows(trace: TrialTrace) -> Iterator[dict[str, Any]]:
    for number, session in enumerate(trace.history.sessions, 1):
        row = {"session": number, "validation": trace.spec.data.validation}
        yield {**_identity(trace), **row, **asdict(session)}


def _trial_row(trace: TrialTrace, status: str) -> dict[str, Any]:
    """What the sweep file says, over it what the epochs so far say, over it what the summary says."""
    row = _planned(trace) | _so_far(trace.history)
    if trace.summary and status == "finished":
        row |= asdict(trace.summary)
        row["versions"] = ", ".join(f"{name} {version}" for name, version in trace.summary.versions.items())
    row |= _identity(trace) | {"status": status, "error": "; ".join(trace.problems)}
    if trace.error and not trace.problems:
        row["error"] = f"{trace.error.kind}: {trace.error.message}"
    row["own_seconds"] = sum(row[f"{part}_seconds"] for part in ("train", "val", "checkpoint", "test"))
    row["train_test_gap"] = row.get("train_accuracy", math.nan) - row.get("test_accuracy", math.nan)
    row["plain_gap"] = _or_nan(row.get("plain_train_accuracy")) - row.get("test_accuracy", math.nan)
    return row | _places(trace.history, row["own_seconds"])


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _planned(trace: TrialTrace) -> dict[str, Any]:
    train, val, test = trace.spec.data.images
    return {
        "validation": trace.spec.data.validation,
        "epochs_planned": trace.spec.epochs,
        "train_images": train,
        "val_images": val,
        "test_images": test,
    }


def _so_far(history: History) -> dict[str, Any]:
    epochs = history.epochs
    row: dict[str, Any] = {
        "epochs_run": len(epochs),
        "train_seconds": sum(epoch.train_seconds for epoch in epochs),
        "val_seconds": sum(epoch.val_seconds for epoch in epochs),
        "checkpoint_seconds": sum(epoch.checkpoint_seconds for epoch in epochs),
        "startup_seconds": sum(session.startup_seconds for session in history.sessions),
        "test_seconds": 0.0,
    }
    if not epochs:
        return row
    last = asdict(epochs[-1])
    row |= {key: last[key] for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
    row["mean_train_accuracy"] = sum(epoch.train_accuracy for epoch in epochs) / len(epochs)
    images = sum(epoch.images_per_second * epoch.train_seconds for epoch in epochs)
    row["images_per_second"] = images / row["train_seconds"] if row["train_seconds"] else math.nan
    reached = next((epoch.epoch for epoch in epochs if epoch.val_accuracy >= THRESHOLD), None)
    if reached:
        row["epochs_to_threshold"] = reached
        row["seconds_to_threshold"] = sum(_own_seconds(epoch) for epoch in epochs[:reached])
    return row


def _places(history: History, own_seconds: float) -> dict[str, Any]:
    sessions = history.sessions

    def joined(values: Iterable[str]) -> str:
        return " then ".join(dict.fromkeys(values))

    return {
        "sessions": len(sessions),
        "device": joined(session.device for session in sessions),
        "device_kind": joined(session.device_kind for session in sessions),
        "devices": joined(", ".join(session.devices) for session in sessions),
        "gpu_seconds": _gpu_seconds(history, own_seconds),
        "energy_joules": _energy(sessions),
    }


def _energy(sessions: Sequence[Session]) -> float:
    """Of all sessions; NaN where one of them did not report it."""
    reported = [math.nan if s.energy_joules is None else s.energy_joules for s in sessions]
    return sum(reported) if sessions else math.nan


def _gpu_seconds(history: History, own_seconds: float) -> float:
    """Training time times GPUs, session by session; NaN where a session ran on a CPU. A shared GPU counts in full."""
    sessions = history.sessions
    if not sessions or any(session.device_kind != "cuda" for session in sessions):
        return math.nan
    seconds = [0.0] * len(sessions)
    for epoch in history.epochs:
        owner = max((i for i, session in enumerate(sessions) if session.first_epoch <= epoch.epoch), default=0)
        seconds[owner] += _own_seconds(epoch)
    seconds[-1] += own_seconds - sum(seconds)  # the last checkpoint and the test
    return sum(len(set(session.devices)) * s for session, s in zip(sessions, seconds, strict=True))
