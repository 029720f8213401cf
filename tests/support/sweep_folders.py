"""Sweep folders with SYNTHETIC numbers, written through raycifar.storage.records, for the tests of the analysis.

The curves are formulas, not measurements: nothing that is drawn from them may leave the tests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raycifar.config.datasets import CIFAR10
from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import EpochRecord, History, Invocation, Session, SweepRecord, TrialError, TrialSummary

START = 1_700_000_000.0
STARTUP = 12.0
REPORT_ARMS = {"transfer": (3, 15), "scratch": (1, 125)}  # arm: trials, epochs


def write_sweep(
    path: Path,
    arms: Mapping[str, tuple[int, int]] | None = None,
    *,
    device_kind: str = "cuda",
    data: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    lanes: int = 4,
    running: bool = False,
) -> SweepFolder:
    """A sweep whose trials have all finished; `seconds` is an epoch's training time by arm."""
    arms = arms or {"transfer": (3, 4), "scratch": (1, 6)}
    path.mkdir(parents=True)
    folder = SweepFolder(path)
    spec = sweep_spec(path.name, arms, data or {})
    record = SweepRecord(
        name=spec.name,
        fingerprint=spec.fingerprint(),
        spec=spec.model_dump(mode="json"),
        source=f"sweeps/{spec.name}.toml",
        created_at=START,
        versions={"python": "3.11", "torch": "2.14.1", "ray": "2.60.0"},
        commit="0123456789abcdef",
        hardware="synthetic",
    )
    folder.write_record(record)
    free = [START + 20.0] * lanes
    for trial in sorted(spec.trials, key=lambda trial: -trial.epochs):
        lane = free.index(min(free))
        train_seconds = (seconds or {}).get(trial.arm, 25.0)
        device = f"node:{lane}" if device_kind == "cuda" else "node:cpu"
        free[lane] = write_trial(
            folder, trial, started_at=free[lane], device=device, device_kind=device_kind, train_seconds=train_seconds
        )
    ended_at = None if running else max(free) + 5
    call = Invocation(
        command=f"python run_sweep.py {record.source}", started_at=START, ended_at=ended_at, exit_status=0, gpus=lanes
    )
    folder.write_invocations([call])
    return folder


def sweep_spec(name: str, arms: Mapping[str, tuple[int, int]], data: Mapping[str, Any]) -> SweepSpec:
    """One arm transfers where its name begins so; the others start from random weights."""
    trials = []
    for arm, (repeats, epochs) in arms.items():
        model = {"weights": "imagenet" if arm.startswith("transfer") else "random"}
        for i in range(repeats):
            trial = f"{arm}-{i + 1}" if repeats > 1 else arm
            trials.append(
                {"name": trial, "arm": arm, "seed": i + 1, "epochs": epochs, "model": model, "data": dict(data)}
            )
    return SweepSpec.model_validate({"name": name, "trials": trials})


def epoch(trial: TrialSpec, number: int, started_at: float, train_seconds: float = 25.0) -> EpochRecord:
    """A made-up epoch: accuracies rise to a level of the arm's own, and seeds differ a little."""
    transfer = trial.model.weights == "imagenet"
    level, start, pace = (0.93, 0.5, 2.5) if transfer else (0.95, 0.8, 14.0)
    jitter = 0.004 * math.sin(7 * number + 3 * trial.seed) + 0.001 * trial.seed
    val = level - start * math.exp(-number / pace) + jitter
    train = val + 0.03 * (1 - math.exp(-number / pace)) - 0.02
    return EpochRecord(
        epoch=number,
        lr=0.01 / number,
        train_loss=-math.log(train),
        train_accuracy=train,
        val_loss=-math.log(val) * 1.2,
        val_accuracy=val,
        train_seconds=train_seconds,
        val_seconds=2.0,
        checkpoint_seconds=0.5,
        images_per_second=45_000 / train_seconds,
        finished_at=started_at + train_seconds + 2.5,
    )


def write_trial(
    folder: SweepFolder,
    trial: TrialSpec,
    *,
    started_at: float,
    device: str,
    device_kind: str = "cuda",
    train_seconds: float = 25.0,
) -> float:
    """A finished trial; returns when it ended."""
    history = begin_trial(
        folder,
        trial,
        trial.epochs,
        started_at=started_at,
        device=device,
        device_kind=device_kind,
        train_seconds=train_seconds,
    )
    summary = summarise(trial, history)
    folder.trial(trial.name).write_summary(summary)
    return summary.finished_at


def begin_trial(
    folder: SweepFolder,
    trial: TrialSpec,
    epochs: int,
    *,
    started_at: float = START + 20.0,
    device: str = "node:0",
    device_kind: str = "cuda",
    train_seconds: float = 25.0,
) -> History:
    """A trial that has `epochs` behind it and no summary."""
    folder.trial(trial.name).path.mkdir(exist_ok=True)
    records, at = [], started_at + STARTUP
    for number in range(1, epochs + 1):
        records.append(epoch(trial, number, at, train_seconds))
        at = records[-1].finished_at
    session = Session(
        started_at=started_at,
        ended_at=at,
        startup_seconds=STARTUP,
        first_epoch=1,
        host="node",
        device="Synthetic GPU" if device_kind == "cuda" else "Synthetic CPU",
        device_kind=device_kind,
        devices=[device],
        threads=2,
    )
    history = History(records, [session])
    folder.trial(trial.name).write_history(history)
    return history


def summarise(trial: TrialSpec, history: History, **changes: Any) -> TrialSummary:
    """What the made-up epochs amount to."""
    best = max(history.epochs, key=lambda record: record.val_accuracy)
    train, val, test = trial.data.images
    summary = TrialSummary(
        trial=trial.name,
        arm=trial.arm,
        seed=trial.seed,
        fingerprint=trial.fingerprint(),
        validation=trial.data.validation,
        epochs_planned=trial.epochs,
        epochs_run=len(history.epochs),
        stopped_early=False,
        best_epoch=best.epoch,
        best_val_accuracy=best.val_accuracy,
        best_val_loss=best.val_loss,
        test_loss=best.val_loss * 1.1,
        test_accuracy=round(best.val_accuracy - 0.01, 4),
        test_accuracy_flip=round(best.val_accuracy - 0.004, 4),
        train_images=train,
        val_images=val,
        test_images=test,
        parameters=14_719_818,
        train_seconds=sum(record.train_seconds for record in history.epochs),
        val_seconds=sum(record.val_seconds for record in history.epochs),
        checkpoint_seconds=sum(record.checkpoint_seconds for record in history.epochs),
        startup_seconds=sum(session.startup_seconds for session in history.sessions),
        test_seconds=3.0,
        finished_at=history.sessions[-1].ended_at + 3.0,
        precision="bf16",
        workers=1,
        versions={"torch": "2.14.1", "ray": "2.60.0"},
    )
    return replace(summary, **changes)


def trial_spec(folder: SweepFolder, name: str) -> TrialSpec:
    """The spec of one of the sweep's trials."""
    record = folder.record()
    assert record is not None
    return next(trial for trial in SweepSpec.model_validate(record.spec).trials if trial.name == name)


def write_failure(folder: SweepFolder, name: str, message: str, at: float = START + 60.0) -> None:
    """Turn a finished trial into one that failed."""
    (folder.trial(name).path / "summary.json").unlink()
    error = TrialError(kind="RuntimeError", message=message, traceback="Traceback ...", at=at)
    folder.trial(name).write_error(error)


def add_predictions(folder: SweepFolder, index: Sequence[int] | None = None) -> None:
    """Give every finished trial made-up logits with its summary's test accuracy (to the nearest image).

    Classes come in turn, and a wrong answer is the next class; `index` says which official images they are.
    """
    record = folder.record()
    assert record is not None
    for spec in SweepSpec.model_validate(record.spec).trials:
        trial = folder.trial(spec.name)
        summary = trial.summary()
        if summary is None:
            continue
        n = len(index) if index is not None else summary.test_images
        order = np.random.default_rng(spec.seed).permutation(n)
        labels = np.arange(n) % len(CIFAR10.classes)
        right = round(summary.test_accuracy * n)
        said = labels.copy()
        said[order[right:]] = (labels[order[right:]] + 1) % len(CIFAR10.classes)
        logits = np.zeros((n, len(CIFAR10.classes)), np.float32)
        logits[np.arange(n), said] = np.linspace(1, 8, n, dtype=np.float32)[order]
        extra = {} if index is None else {"index": np.asarray(index)}
        np.savez_compressed(trial.predictions, allow_pickle=False, logits=logits, labels=labels, **extra)
        trial.write_summary(replace(summary, test_accuracy=right / n, test_images=n))
