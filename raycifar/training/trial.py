"""One trial from its spec to its summary: the same under Ray, with --local and in a test.

With several workers every one calls `run_trial`; the first (rank 0) writes the files.
"""

import contextlib
import errno
import importlib.metadata
import io
import logging
import math
import os
import platform
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Cifar10, Split, load_cifar10
from raycifar.devices import full_memory, trials_that_fit
from raycifar.networks.fused_norm import works
from raycifar.networks.vgg import build_vgg16, calibrate_batch_norm
from raycifar.storage.checkpoints import checkpoint_name, load_checkpoint, newest_checkpoint
from raycifar.storage.files import write_bytes
from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import EpochRecord, History, Session, TrialError, TrialSummary
from raycifar.training.checkpoint_writer import CheckpointWriter
from raycifar.training.energy import EnergyMeter
from raycifar.training.evaluation import Sign, evaluate_logits, nobody, predict
from raycifar.training.loop import NonFiniteLossError, TrainState, fit
from raycifar.training.precision import PrecisionError, require_native, resolve_precision
from raycifar.training.workers import from_first, gathered, world


@dataclass(frozen=True, slots=True)
class Assets:
    """Paths of the cached files; nothing is downloaded inside a trial."""

    cifar10: Path
    imagenet: Path | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker of a trial runs."""

    device: str  # "cuda:0" or "cpu"
    threads: int  # CPU threads
    label: str  # "node:gpu index" or "node:cpu"
    sharing: int = 1  # trials on the same GPU


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a trial tells how it goes.

    `epoch` gets each record and, in rank 0, the newest checkpoint that has been completed since the record before, of
    this epoch or an earlier one; also the epochs after `heard` that are there already (None: no such epoch). `alive` is
    called while it trains, validates and tests, to be told from a trial that hangs. `warn` gets a line for what
    makes it slower than it might be.
    """

    epoch: Callable[[EpochRecord, Path | None], None]
    heard: int | None = None
    alive: Sign = nobody
    warn: Callable[[str], object] = str  # nothing is done with it


class GpuMemoryError(Exception):
    """The trial does not fit into its GPU, or its share of one; the message says what to lower."""


class StorageError(Exception):
    """The trial's folder cannot be written: a full disk, a read-only one; the message names it."""


class OtherNetworkError(Exception):
    """The checkpoint is of a network that this version builds otherwise; the message names it and the remedy."""


# Would be so again, however often it is tried.
HOPELESS = (NonFiniteLossError, GpuMemoryError, StorageError, PrecisionError, OtherNetworkError)
CONTEXT_BYTES = 0.5e9  # of a GPU, that a process takes for CUDA itself
_NO_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def run_trial(spec: TrialSpec, folder: Path, assets: Assets, place: Place, caller: Caller) -> TrialSummary | None:
    """Train, or go on training, the trial in its folder; test it; write its summary.

    Returns the summary in rank 0, None elsewhere. An exception is written to error.json before it leaves; one of the
    HOPELESS says what to do.
    """
    trial = TrialFolder(folder)
    try:
        with _heard(caller) as warnings:
            return _run(spec, trial, assets, place, caller, warnings)
    except Exception as error:
        explained = _explained(error, spec, folder, place)
        with contextlib.suppress(OSError):  # where the disk is full, the runner knows the reason all the same
            trial.write_error(trial_error(explained))
        if explained is error:
            raise
        raise explained from error


def _explained(error: Exception, spec: TrialSpec, folder: Path, place: Place) -> Exception:
    """The error with its remedy, where there is one that every user can apply."""
    if full := full_memory(error):
        reason = str(full).partition("\n")[0].partition(". ")[0]
        remedy = _less_memory(spec, place)
        return GpuMemoryError(f"trial {spec.name!r}: {reason}: {remedy}, and give the same command again")
    if isinstance(error, OSError) and error.errno in _NO_WRITING:
        path = Path(error.filename or folder)
        if not path.is_relative_to(folder):
            return error
        return StorageError(
            f"{path}: cannot be written ({error.strerror}): make room, or make it writable, and give the same command "
            "again; the epochs before are kept"
        )
    return error


def _less_memory(spec: TrialSpec, place: Place) -> str:
    if place.sharing == 1:
        return f"it has the GPU to itself: lower batch_size = {spec.batch_size}"
    device = torch.device(place.device)
    fewer = place.sharing - 1
    with contextlib.suppress(RuntimeError):  # where no room is left for CUDA itself, it cannot be asked
        _, total = torch.cuda.mem_get_info(device)
        wanted = torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES  # and more
        fewer = min(fewer, trials_that_fit(total, wanted))
    return f"{place.sharing} trials share the GPU: type --trials-per-gpu {fewer}"


def trial_error(error: BaseException) -> TrialError:
    text = "".join(traceback.format_exception(error))
    return TrialError(kind=type(error).__name__, message=str(error), traceback=text, at=time.time())


class _Heard(logging.Handler):
    def __init__(self, caller: Caller) -> None:
        super().__init__(logging.WARNING)
        self.caller = caller
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.caller.warn(record.getMessage())


@contextlib.contextmanager
def _heard(caller: Caller) -> Iterator[list[str]]:
    """What the package's modules warn of meanwhile; the log alone would tell few, for Ray's workers' is not shown."""
    handler = _Heard(caller)
    logger = logging.getLogger("raycifar")
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


def _run(
    spec: TrialSpec, trial: TrialFolder, assets: Assets, place: Place, caller: Caller, warnings: list[str]
) -> TrialSummary | None:
    started = time.time()
    entered = time.perf_counter()
    first = world()[0] == 0
    if first:
        trial.clear_error()
    place = replace(place, threads=_threads(trial, place))
    set_up_torch(spec, place)
    data = load_cifar10(assets.cifar10, spec.data, place.device)
    state, history = _restore(spec, trial, network(spec, assets, data.train), place)
    if not history.epochs:  # one that began where it was native goes on where it is not
        require_native(spec, state.device)
    as_before = spec.model_copy(update={"precision": _precision(spec, history, state.device)})
    session = _session(place, started, entered, state.epoch + 1, as_before.precision)
    meter = EnergyMeter(state.device)
    history.sessions.append(replace(session, energy_joules=meter.joules()))
    if first:
        trial.write_history(history)
    for record in history.epochs[caller.heard :] if caller.heard is not None else ():
        saved = trial.path / checkpoint_name(record.epoch)
        caller.epoch(record, saved if first and saved.exists() else None)
    last_pause = 0.0
    with CheckpointWriter(trial.path, 0.0 if state.device.type == "cpu" else math.inf) as writer:
        for record in fit(state, data.train, data.val, as_before, caller.alive):
            history.epochs.append(record)
            since_start = time.perf_counter() - entered
            history.sessions[-1] = _extended(history.sessions[-1], record, since_start, meter.joules(), warnings)
            pause = time.perf_counter()
            completed = writer.save(state, history, last=state.finished(spec)) if first else None
            if first:
                trial.write_history(history)
            caller.epoch(record, completed)
            last_pause = time.perf_counter() - pause
    if not first:
        return None
    tested = _test(state, data.test, as_before.precision, caller.alive)
    _write_tested(trial, state, data, tested)
    history.sessions[-1] = replace(history.sessions[-1], ended_at=max(history.sessions[-1].ended_at, time.time()))
    trial.write_history(history)
    summary = _summary(spec, state, data, history, tested, last_pause)
    trial.write_summary(summary)
    return summary


def _precision(spec: TrialSpec, history: History, device: torch.device) -> str:
    """A resumed trial keeps what "auto" was where it began: another kind of device must not change its numbers."""
    before = [session.precision for session in history.sessions if session.precision]
    return before[0] if before and history.epochs else resolve_precision(spec.precision, device)


def _threads(trial: TrialFolder, place: Place) -> int:
    """A resumed trial keeps its threads: on a CPU, sums depend on how many share them."""
    sessions = trial.history().sessions
    same = sessions and place.device == "cpu" and sessions[-1].device_kind == "cpu"
    return sessions[-1].threads if same else place.threads


def _extended(
    session: Session, record: EpochRecord, since_start: float, joules: float | None, warnings: list[str]
) -> Session:
    """The session after one more epoch; its first one tells how long it took until training began."""
    if record.epoch == session.first_epoch:
        session = replace(session, startup_seconds=since_start - record.train_seconds - record.val_seconds)
    ended_at = max(session.ended_at, record.finished_at)  # a clock may be set back
    return replace(session, ended_at=ended_at, energy_joules=joules, warnings=list(warnings))


def set_up_torch(spec: TrialSpec, place: Place) -> None:
    """Threads and determinism of this process, before anything is computed."""
    torch.set_num_threads(place.threads)
    works.cache_clear()  # every trial that runs without Triton's kernels says so, not a process's first alone
    torch.backends.cudnn.benchmark = not spec.deterministic
    # What cuBLAS needs to be reproducible. It looks once a process, so a later trial's need counts from the first on.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(spec.deterministic)
    torch.backends.cudnn.allow_tf32 = False  # or convolutions in "fp32" would have the mantissa of fp16


def network(spec: TrialSpec, assets: Assets, train: Split) -> nn.Module:
    """The trial's network as it is before its first step, on the CPU or the data's device."""
    model = build_vgg16(spec.model, spec.seed, assets.imagenet)
    if spec.model.weights == "imagenet" and spec.model.batch_norm:
        images = train.images[: model.images_at_once]
        calibrate_batch_norm(model.to(images.device), images)
    return model


def _restore(spec: TrialSpec, trial: TrialFolder, model: nn.Module, place: Place) -> tuple[TrainState, History]:
    """A fresh state of the network, or that of the newest sound checkpoint, which rank 0 chooses for all."""
    state = TrainState(model, spec, place.device)
    chosen = from_first(newest_checkpoint(trial.path) if world()[0] == 0 else None)
    earlier = trial.history().sessions  # also those that ended before their first checkpoint
    if chosen is None:
        return state, History(sessions=earlier)
    saved, history = load_checkpoint(chosen)
    try:
        state.load_state_dict(saved)
    except (KeyError, RuntimeError, ValueError) as error:
        raise OtherNetworkError(
            f"{chosen}: this version builds the trial's network, or its optimizer, otherwise than the one that wrote "
            "this: choose another --name, or start over with --fresh (the old results are moved aside)"
        ) from error
    history.sessions = max(history.sessions, earlier, key=len)
    return state, history


def _session(place: Place, started: float, entered: float, first_epoch: int, precision: str) -> Session:
    device = torch.device(place.device)
    return Session(
        started_at=started,
        ended_at=max(started, time.time()),
        startup_seconds=time.perf_counter() - entered,
        first_epoch=first_epoch,
        host=socket.gethostname(),
        device=device_name(device),
        device_kind=device.type,
        devices=gathered(place.label),
        threads=place.threads,
        precision=precision,
    )


def device_name(device: torch.device) -> str:
    """ "NVIDIA H200", or what the CPU calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True, slots=True)
class _Tested:
    """What the best epoch's weights said of the test images; `flipped`: averaged with what they said mirrored."""

    logits: Tensor
    loss: float
    accuracy: float
    flipped: float
    seconds: float


def _test(state: TrainState, test: Split, precision: str, alive: Sign) -> _Tested:
    """Once: nothing that comes after depends on it."""
    start = time.perf_counter()
    state.evaluated.load_state_dict(state.best_weights)
    logits = predict(state.evaluated, test, precision, alive=alive)
    mirrored = predict(state.evaluated, test, precision, mirrored=True, alive=alive)
    both = (logits.softmax(1) + mirrored.softmax(1)).argmax(1)
    flipped = (both == test.labels).float().mean().item()
    return _Tested(logits, *evaluate_logits(logits, test.labels), flipped, time.perf_counter() - start)


def _write_tested(trial: TrialFolder, state: TrainState, data: Cifar10, tested: _Tested) -> None:
    content = io.BytesIO()
    arrays = {"logits": tested.logits, "labels": data.test.labels, "index": data.test_index}
    np.savez_compressed(content, allow_pickle=False, **{name: array.cpu().numpy() for name, array in arrays.items()})
    write_bytes(trial.predictions, content.getvalue())
    weights = {name: weight.contiguous() for name, weight in state.best_weights.items()}
    write_bytes(trial.best_weights, save(weights))


def _summary(
    spec: TrialSpec, state: TrainState, data: Cifar10, history: History, tested: _Tested, last_pause: float
) -> TrialSummary:
    epochs = history.epochs
    return TrialSummary(
        trial=spec.name,
        arm=spec.arm,
        seed=spec.seed,
        fingerprint=spec.fingerprint(),
        validation=spec.data.validation,
        epochs_planned=spec.epochs,
        epochs_run=len(epochs),
        stopped_early=state.stopped_early,
        best_epoch=state.best_epoch,
        best_val_accuracy=state.best_val_accuracy,
        best_val_loss=state.best_val_loss,
        test_loss=tested.loss,
        test_accuracy=tested.accuracy,
        test_accuracy_flip=tested.flipped,
        train_images=len(data.train),
        val_images=len(data.val),
        test_images=len(data.test),
        parameters=sum(p.numel() for p in state.model.parameters() if p.requires_grad),
        train_seconds=sum(record.train_seconds for record in epochs),
        val_seconds=sum(record.val_seconds for record in epochs),
        checkpoint_seconds=sum(record.checkpoint_seconds for record in epochs) + last_pause,
        startup_seconds=sum(session.startup_seconds for session in history.sessions),
        test_seconds=tested.seconds,
        finished_at=time.time(),
        precision=history.sessions[-1].precision,
        workers=world()[1],
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Of Python and the packages that decide a trial's numbers."""
    packages = ("raycifar", "ray", "torch", "torchvision", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found, "cuda": torch.version.cuda or "none"}
