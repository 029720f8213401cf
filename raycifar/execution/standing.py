"""How the trials of a sweep stand before a call: done, to be resumed, or new; and how long the rest would take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.execution.placement import CPU_SCALING, Plan, makespan
from raycifar.networks.cost import work
from raycifar.storage.checkpoints import saved_history
from raycifar.storage.files import RecordError
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import History
from raycifar.tracking.estimate import RECENT, test_seconds


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one trial."""

    words: str = "new"
    left: float = 1.0  # share of its epochs
    is_done: bool = False


NEW, DONE = Standing(), Standing("done", 0.0, is_done=True)


def standings(trials: Sequence[TrialSpec], folder: SweepFolder) -> dict[str, Standing]:
    """By name, how each trial stands; empty where none has left anything."""
    recorded = _recorded(folder)
    found = {trial.name: _standing(trial, folder, recorded) for trial in trials}
    return found if any(state != NEW for state in found.values()) else {}


def _recorded(folder: SweepFolder) -> Mapping[str, str]:
    """The fingerprints of the trials whose results lie there."""
    try:
        record = folder.record()
        return {t.name: t.fingerprint() for t in SweepSpec.model_validate(record.spec).trials} if record else {}
    except (RecordError, ValidationError, OSError):
        return {}


def _standing(trial: TrialSpec, folder: SweepFolder, recorded: Mapping[str, str]) -> Standing:
    if recorded.get(trial.name, trial.fingerprint()) != trial.fingerprint():
        return Standing("other settings there: a run is refused")
    files = folder.trial(trial.name)
    try:
        if files.summary():
            return DONE
        epochs = len(saved_history(files.path).epochs)
    except (RecordError, OSError):
        return Standing("its files cannot be read")
    return Standing(f"resumes after epoch {epochs}", max(0.0, 1 - epochs / trial.epochs)) if epochs else NEW


def time_needed(sweep: SweepSpec, plan: Plan, folder: SweepFolder, states: Mapping[str, Standing]) -> str:
    """One line, by the rate of the last session here on the same kind of device; empty where there is none."""
    kind = "cuda" if plan.uses_gpu else "cpu"
    last = max(
        (
            (history.sessions[-1].ended_at, trial.name, trial, history)
            for trial in sweep.trials
            if (history := _history(folder, trial)) and history.sessions[-1].device_kind == kind
        ),
        default=None,
        key=lambda found: found[:2],
    )
    if last is None or not plan.order:
        return ""
    *_, timed, history = last
    factor = _slower(plan, history) / (work(timed) / timed.epochs)
    spent = [e.train_seconds + e.val_seconds + e.checkpoint_seconds for e in history.epochs[-RECENT:]]
    epoch, rest = sum(spent) / len(spent), history.sessions[-1].startup_seconds
    seconds = []
    for trial in plan.order:
        epochs = trial.epochs * states.get(trial.name, NEW).left
        one = epoch * factor * work(trial) / trial.epochs
        seconds.append(rest + epochs * one + test_seconds(timed, history.epochs[-1]))
    rate = history.epochs[-1].images_per_second
    return f"about {_rounded(makespan(seconds, plan.at_once))}, by the {rate:,.0f} images/s of the last run here"


def _history(folder: SweepFolder, trial: TrialSpec) -> History | None:
    try:
        history = folder.trial(trial.name).history()
    except (RecordError, OSError):
        return None
    return history if history.epochs and history.sessions else None


def _slower(plan: Plan, history: History) -> float:
    """How many times as long an epoch takes on the plan's CPU threads as on those of the last session."""
    session = history.sessions[-1]
    threads = session.threads * max(1, len(session.devices))
    return 1.0 if plan.uses_gpu else math.pow(threads / (plan.threads * plan.workers), CPU_SCALING)


def _rounded(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
