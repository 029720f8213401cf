"""One trial from its spec to its summary: the same under Ray, with --local and in a test.

With several workers every one calls `run_trial`; the first (rank 0) writes the files.
"""

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from raycifar.config.sweep import TrialSpec
from raycifar.data.sources import facts_of
from raycifar.data.splits import Split, load_splits
from raycifar.devices import gpu_room
from raycifar.networks.fused_norm import works
from raycifar.networks.registry import build_network
from raycifar.networks.vgg import calibrate_batch_norm
from raycifar.storage.checkpoints import checkpoint_name, newest_checkpoint
from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import EpochRecord, History, TrialSummary
from raycifar.training.checkpoint_writer import CheckpointWriter, load_checkpoint
from raycifar.training.energy import EnergyMeter
from raycifar.training.evaluation import Sign, nobody
from raycifar.training.failures import OtherNetworkError, explained, trial_error
from raycifar.training.loop import TrainState, fit
from raycifar.training.precision import require_native
from raycifar.training.session import Start, begun, collected_warnings, extended, kept_precision, kept_threads
from raycifar.training.tested import OnTraining, on_training, run_test, summary_of, write_tested
from raycifar.training.workers import from_first, gathered, world

READ_AHEAD = "its images would take %.1f GB beside the network, too much here: they are read as it trains"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assets:
    """Paths of the cached files; nothing is downloaded inside a trial."""

    data: Path
    imagenet: Path | None  # VGG16's weights; None where no trial has them
    others: Mapping[str, Path] = field(default_factory=dict)  # the same of other networks, by name

    def weights_of(self, network: str) -> Path | None:
        """The ImageNet weights of the network that `model.name` names."""
        return self.imagenet if network == "vgg16" else self.others.get(network)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker of a trial runs."""

    device: str  # "cuda:0" or "cpu"
    threads: int  # CPU threads
    label: str  # "node:gpu index" or "node:cpu"
    sharing: int = 1  # trials on the same GPU
    image_bytes: float = math.inf  # that images may take of a CPU's memory

    def holds(self, image_bytes: float) -> bool:
        """Whether images of so many bytes fit here beside the network; others are read as it trains."""
        return image_bytes <= (self.image_bytes if self.device == "cpu" else gpu_room(self.device, self.sharing))


@dataclass(frozen=True, slots=True)
class Caller:
    """What a trial calls, to tell how it goes.

    `epoch` gets each record and, in rank 0, the newest checkpoint that was completed since the record before; it may
    be of an earlier epoch. After a resume it also gets the saved epochs after `heard`, the last one that the caller
    knows of (None: it knows them all). `alive` is called at least once a step, and for each part of what is validated
    or tested: it tells a working trial from one that hangs. `warn` gets a line for what makes the trial slower than it
    might be.
    """

    epoch: Callable[[EpochRecord, Path | None], None]
    heard: int | None = None
    alive: Sign = nobody
    warn: Callable[[str], object] = str  # which has no effect


def run_trial(spec: TrialSpec, folder: Path, assets: Assets, place: Place, caller: Caller) -> TrialSummary | None:
    """Train, or go on training, the trial in its folder; test it; write its summary.

    Returns the summary in rank 0, None elsewhere. An exception is written to error.json before it leaves; one of
    failures.HOPELESS says what to do.
    """
    trial = TrialFolder(folder)
    try:
        spec = spec.with_facts(facts_of(assets.data, spec.data))
        with collected_warnings(caller.warn) as warnings:
            return _Run(spec, trial, assets, place, caller).to_summary(warnings)
    except Exception as error:
        told = explained(error, spec, folder, place.device, place.sharing)
        with contextlib.suppress(OSError):  # where the disk is full, the caller knows the reason all the same
            trial.write_error(trial_error(told))
        if told is error:
            raise
        raise told from error


class _Run:
    """One session of a trial, in one worker: made before the first step, from what earlier sessions left."""

    def __init__(self, spec: TrialSpec, trial: TrialFolder, assets: Assets, place: Place, caller: Caller) -> None:
        self.start = Start.now()
        self.trial, self.caller = trial, caller
        self.writes = world()[0] == 0  # rank 0 alone writes files
        if self.writes:
            trial.clear_error()
        threads = kept_threads(trial.history().sessions, place.device, place.threads)
        self.place = replace(place, threads=threads)
        set_up_torch(spec, self.place)

        # Where the trial stands: fresh, or as its newest checkpoint has it.
        resident = place.holds(spec.image_bytes)
        if not resident:
            _log.warning(READ_AHEAD, spec.image_bytes / 1e9)
        self.data = load_splits(assets.data, spec.own_data(), place.device, resident)
        self.state, self.history = _restore(spec, trial, network(spec, assets, self.data.train), place)
        if not self.history.epochs:  # a trial that began where bf16 is native may go on where it is emulated
            require_native(spec, self.state.device)
        self.precision = kept_precision(spec, self.history, self.state.device)
        self.spec, self.spec_in_precision = spec, spec.model_copy(update={"precision": self.precision})

    def to_summary(self, warnings: list[str]) -> TrialSummary | None:
        """Train to the end and test; `warnings` grows while this runs. Returns the summary in rank 0, else None."""
        meter = self._begin_session()
        self._tell_saved_epochs()
        with CheckpointWriter(self.trial.path) as writer:
            last_pause = self._train(meter, warnings, writer)
            measures = self.spec.data.measure_training
            plain = on_training(self.state, self.data.train, self.precision, self.caller.alive) if measures else None
            return self._test(last_pause, plain, writer) if self.writes else None

    def _begin_session(self) -> EnergyMeter:
        """Record the session: one that ends before its first epoch counts, too. Its energy counts from here on."""
        devices = gathered(self.place.label)
        device, threads = self.state.device, self.place.threads
        session = begun(self.start, self.state.epoch + 1, self.precision, device, devices, threads)
        meter = EnergyMeter(device)
        self.history.sessions.append(replace(session, energy_joules=meter.joules()))
        if self.writes:
            self.trial.write_history(self.history)
        return meter

    def _tell_saved_epochs(self) -> None:
        """Tell the caller of the epochs that were saved and that it has not heard of: its process may have died."""
        for record in self.history.epochs[self.caller.heard :] if self.caller.heard is not None else ():
            saved = self.trial.path / checkpoint_name(record.epoch)
            self.caller.epoch(record, saved if self.writes and saved.exists() else None)

    def _train(self, meter: EnergyMeter, warnings: list[str], writer: CheckpointWriter) -> float:
        """Train to the last epoch; save, record and tell of each. Returns the seconds that the last one's saving took.

        Those of the other epochs are in the record of the epoch after.
        """
        state, history, last_pause = self.state, self.history, 0.0
        for record in fit(state, self.data.train, self.data.val, self.spec_in_precision, self.caller.alive):
            history.epochs.append(record)
            since_start = self.start.seconds()
            history.sessions[-1] = extended(history.sessions[-1], record, since_start, meter.joules(), warnings)
            pause = time.perf_counter()
            completed = writer.save(state, history, last=state.finished(self.spec)) if self.writes else None
            if self.writes:
                self.trial.write_history(history)
            self.caller.epoch(record, completed)
            last_pause = time.perf_counter() - pause
        return last_pause

    def _test(self, last_pause: float, plain: OnTraining | None, writer: CheckpointWriter) -> TrialSummary:
        """Test the best epoch's weights; write the predictions, the weights and, last of all, the summary.

        Meanwhile the last checkpoint may still be written: no summary without it.
        """
        mirror = self.spec.data.facts.mirror
        tested = run_test(self.state, self.data.test, self.precision, self.caller.alive, mirror)
        write_tested(self.trial, self.state, self.data, tested)
        pause = time.perf_counter()
        writer.finish()
        last_pause += time.perf_counter() - pause
        session = self.history.sessions[-1]
        self.history.sessions[-1] = replace(session, ended_at=max(session.ended_at, time.time()))
        self.trial.write_history(self.history)
        summary = summary_of(self.spec, self.state, self.data, self.history, tested, last_pause)
        if plain:
            summary = replace(summary, plain_train_accuracy=plain.accuracy, plain_train_seconds=plain.seconds)
        self.trial.write_summary(summary)
        return summary


def set_up_torch(spec: TrialSpec, place: Place) -> None:
    """Set this process's threads and determinism, before anything is computed."""
    torch.set_num_threads(place.threads)
    works.cache_clear()  # so that every trial of a process warns where Triton does not run, not the first one alone
    torch.backends.cudnn.benchmark = not spec.deterministic
    # cuBLAS needs this to be reproducible, and reads it once a process: a later trial may be a deterministic one.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms, which imports the compiler to tell it, too: 0.9 s of a CPU.
    torch.set_deterministic_debug_mode("error" if spec.deterministic else "default")
    torch.backends.cudnn.allow_tf32 = False  # convolutions in "fp32" would have fp16's mantissa


def network(spec: TrialSpec, assets: Assets, train: Split) -> nn.Module:
    """The trial's network before its first step; on the CPU, or once calibrated on the training images' device."""
    model = build_network(spec.model, spec.data.facts, spec.seed, assets.weights_of(spec.model.name))
    if spec.model.weights == "imagenet" and spec.model.batch_norm:
        images = train.images[: model.images_at_once]
        calibrate_batch_norm(model.to(images.device), images)
    return model


def _restore(spec: TrialSpec, trial: TrialFolder, model: nn.Module, place: Place) -> tuple[TrainState, History]:
    """State and history: fresh ones, or those of the newest sound checkpoint, which rank 0 chooses for all workers.

    Raises OtherNetworkError where the checkpoint does not fit the network or its optimizer.
    """
    state = TrainState(model, spec, place.device)
    chosen = from_first(newest_checkpoint(trial.path) if world()[0] == 0 else None)
    earlier = trial.history().sessions  # also those that ended before their first checkpoint
    if chosen is None:
        return state, History(sessions=earlier)
    saved, history = load_checkpoint(chosen)
    try:
        state.load_state_dict(saved)
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise OtherNetworkError(
            f"{chosen}: this version builds the trial's network, or its optimizer, otherwise than the one that wrote "
            "this: choose another --name, or start over with --fresh (the old results are moved aside)"
        ) from error
    history.sessions = max(history.sessions, earlier, key=len)
    return state, history
