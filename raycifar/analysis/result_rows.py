"""The rows and columns of `Results`' frames, made of what is read from one trial's folder."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

import pandas as pd

from raycifar.analysis.trial_state import TrialTrace
from raycifar.storage.records import EpochRecord, History, Session, TrialSummary, field_names

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


def frame(rows: Iterable[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Every column, whatever the rows know; numbers as numbers even where all are missing."""
    frame = pd.DataFrame([{column: row.get(column) for column in columns} for row in rows], columns=columns)
    return frame.astype({column: float for column in columns if frame[column].isna().all()})


def _identity(trace: TrialTrace) -> dict[str, Any]:
    return {"trial": trace.spec.name, "arm": trace.spec.arm, "seed": trace.spec.seed}


def _own_seconds(epoch: EpochRecord) -> float:
    return epoch.train_seconds + epoch.val_seconds + epoch.checkpoint_seconds


def epoch_rows(trace: TrialTrace) -> Iterator[tuple[Any, ...]]:
    """As tuples in the order of EPOCH_COLUMNS: dicts of 200,000 epochs would take minutes and gigabytes."""
    own, identity, values = 0.0, _identity(trace).values(), attrgetter(*field_names(EpochRecord))
    for epoch in trace.history.epochs:
        own += _own_seconds(epoch)
        yield (*identity, *values(epoch), own, trace.spec.data.validation)


def session_rows(trace: TrialTrace) -> Iterator[dict[str, Any]]:
    for number, session in enumerate(trace.history.sessions, 1):
        row = {"session": number, "validation": trace.spec.data.validation}
        yield {**_identity(trace), **row, **asdict(session)}


def trial_row(trace: TrialTrace, status: str) -> dict[str, Any]:
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
