"""Trials in this process, one after the other, without Ray."""

import gc
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from raycifar.config.sweep import TrialSpec
from raycifar.execution import interruption
from raycifar.execution.options import Options
from raycifar.execution.placement import Plan
from raycifar.execution.plan import asked_gpus, check_local, local_plan
from raycifar.execution.session import Session
from raycifar.storage.beneath import beneath, make_folder
from raycifar.storage.checkpoints import prune_checkpoints, saved_history, tidy_checkpoints
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import EpochRecord
from raycifar.tracking.listener import Bus, Listener, Start
from raycifar.training.trial import Assets, Caller, Place, run_trial


class Local:
    """The Runner that is this process."""

    name: str = "local"
    dashboard: str | None = None
    notice: str = ""

    def __init__(self, options: Options) -> None:
        """Raises PlacementError for what --local cannot do."""
        check_local(options)

    def place(self, trials: Sequence[TrialSpec], options: Options) -> tuple[Plan, int]:
        gpus = min(asked_gpus(options.gpus, torch.cuda.device_count(), "PyTorch sees"), 1)
        return local_plan(trials, gpus), gpus

    def measured(self, plan: Plan, assets: Assets, options: Options, console: Console) -> Plan:
        return plan

    def check(self, session: Session, path: Path) -> None:
        pass

    def listeners(self, name: str) -> list[Listener]:
        return []

    def run_sweep(self, session: Session, folder: SweepFolder, bus: Bus) -> None:
        label = f"{platform.node()}:{0 if session.gpus else 'cpu'}"
        plan = session.plan
        place = Place("cuda:0" if session.gpus else "cpu", plan.threads, label, image_bytes=plan.image_bytes)
        for trial in session.plan.order:
            run_here(trial, folder, session.assets, place, bus)
            gc.collect()  # weights that only a reference cycle holds: 118 MB a trial, but few objects to Python


def run_here(trial: TrialSpec, folder: SweepFolder, assets: Assets, place: Place, bus: Bus) -> None:
    """One trial, told of as it goes; what ends it ends no other."""
    interruption.trial_started(trial.name)
    try:
        _run(trial, folder.trial(trial.name).path, assets, place, bus)
    except Exception as error:  # this trial's alone, and in its error.json; the next may well run
        bus.state(trial.name, "failed", str(error) or type(error).__name__)
    interruption.trial_ended(trial.name)


def _run(trial: TrialSpec, path: Path, assets: Assets, place: Place, bus: Bus) -> None:
    make_folder(beneath(path))
    for problem in tidy_checkpoints(path):
        bus.complain(problem)
    bus.start(trial.name, Start(trial.model_dump(mode="json"), saved_history(path).epochs))
    bus.state(trial.name, "starting")
    bus.place(trial.name, [place.label])

    def on_epoch(record: EpochRecord, saved: Path | None) -> None:
        interruption.epoch_ended(trial.name, record.epoch)
        bus.epoch(trial.name, record)
        behind.submit(prune_checkpoints, path)
        if saved:
            interruption.epoch_saved(trial.name, saved)

    with ThreadPoolExecutor(1, "pruning") as behind:  # while a checkpoint is written, to delete one takes 0.1 s
        caller = Caller(on_epoch, warn=partial(bus.warn, trial.name))
        summary = run_trial(trial, path, assets, place, caller)
    prune_checkpoints(path)  # of the last one nobody is told
    assert summary is not None  # noqa: S101 - there is one worker
    bus.summary(trial.name, summary)
