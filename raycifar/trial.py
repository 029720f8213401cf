"""One trial from its spec to its summary: the same under Ray, with --local and in a test.

With several workers every one calls `run_trial`; the first (rank 0) writes the files.
"""

import importlib.metadata
import io
import os
import platform
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save
from torch import Tensor

from raycifar.checkpoints import load_checkpoint, newest_checkpoint, save_checkpoint
from raycifar.data import Cifar10, load_cifar10
from raycifar.records import EpochRecord, History, Session, TrialError, TrialFolder, TrialSummary, write_bytes
from raycifar.spec import TrialSpec
from raycifar.training import TrainState, evaluate_logits, fit, predict, resolve_precision, world
from raycifar.vgg import build_vgg16


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


OnEpoch = Callable[[EpochRecord, Path | None], None]


def run_trial(spec: TrialSpec, folder: Path, assets: Assets, place: Place, on_epoch: OnEpoch) -> TrialSummary | None:
    """Train, or go on training, the trial in its folder; test it; write its summary.

    `on_epoch` gets each record and, in rank 0, the checkpoint's path. Returns the summary in rank 0, None elsewhere.
    An exception is written to error.json before it leaves.
    """
    trial = TrialFolder(folder)
    try:
        return _run(spec, trial, assets, place, on_epoch)
    except Exception as error:
        trial.write_error(trial_error(error))
        raise


def trial_error(error: BaseException) -> TrialError:
    text = "".join(traceback.format_exception(error))
    return TrialError(kind=type(error).__name__, message=str(error), traceback=text, at=time.time())


def _run(spec: TrialSpec, trial: TrialFolder, assets: Assets, place: Place, on_epoch: OnEpoch) -> TrialSummary | None:
    started = time.time()
    first = world()[0] == 0
    if first:
        trial.clear_error()
    place = replace(place, threads=_threads(trial, place))
    _set_up_torch(spec, place)
    state, history = _restore(spec, trial, assets, place)
    data = load_cifar10(assets.cifar10, spec.data, place.device)
    history.sessions.append(_session(place, started, state.epoch + 1))
    if first:
        trial.write_history(history)
    last_pause = 0.0
    for record in fit(state, data.train, data.val, spec):
        history.epochs.append(record)
        history.sessions[-1] = _extended(history.sessions[-1], record)
        pause = time.perf_counter()
        on_epoch(record, _save(trial, state, history) if first else None)
        last_pause = time.perf_counter() - pause
    return _finish(spec, trial, state, data, history, last_pause) if first else None


def _threads(trial: TrialFolder, place: Place) -> int:
    """A resumed trial keeps its threads: on a CPU, sums depend on how many share them."""
    sessions = trial.history().sessions
    same = sessions and place.device == "cpu" and sessions[-1].device_kind == "cpu"
    return sessions[-1].threads if same else place.threads


def _extended(session: Session, record: EpochRecord) -> Session:
    """The session after one more epoch; its first one tells when training began."""
    if record.epoch == session.first_epoch:
        began = record.finished_at - record.val_seconds - record.train_seconds
        session = replace(session, startup_seconds=began - session.started_at)
    return replace(session, ended_at=record.finished_at)


def _set_up_torch(spec: TrialSpec, place: Place) -> None:
    torch.set_num_threads(place.threads)
    torch.backends.cudnn.benchmark = not spec.deterministic
    if spec.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be reproducible
    torch.use_deterministic_algorithms(spec.deterministic)


def _restore(spec: TrialSpec, trial: TrialFolder, assets: Assets, place: Place) -> tuple[TrainState, History]:
    """A fresh state, or that of the newest sound checkpoint, which rank 0 chooses for all."""
    state = TrainState(build_vgg16(spec.model, spec.seed, assets.imagenet), spec, place.device)
    chosen: list[Path | None] = [None]
    if world()[0] == 0:
        chosen[0] = newest_checkpoint(trial.path)
    if world()[1] > 1:
        dist.broadcast_object_list(chosen, src=0)
    earlier = trial.history().sessions  # also those that ended before their first checkpoint
    if chosen[0] is None:
        return state, History(sessions=earlier)
    saved, history = load_checkpoint(chosen[0])
    state.load_state_dict(saved)
    history.sessions = max(history.sessions, earlier, key=len)
    return state, history


def _session(place: Place, started: float, first_epoch: int) -> Session:
    labels: list[str] = [place.label]
    if world()[1] > 1:
        labels = [""] * world()[1]
        dist.all_gather_object(labels, place.label)
    device = torch.device(place.device)
    now = time.time()
    return Session(
        started_at=started,
        ended_at=now,
        startup_seconds=now - started,
        first_epoch=first_epoch,
        host=socket.gethostname(),
        device=device_name(device),
        device_kind=device.type,
        devices=labels,
        threads=place.threads,
    )


def device_name(device: torch.device) -> str:
    """ "NVIDIA H200", or what the CPU calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _save(trial: TrialFolder, state: TrainState, history: History) -> Path:
    path = save_checkpoint(trial.path, state.state_dict(), history)
    trial.write_history(history)
    return path


def _finish(
    spec: TrialSpec, trial: TrialFolder, state: TrainState, data: Cifar10, history: History, last_pause: float
) -> TrialSummary:
    """Test the best epoch's weights, once, and write what the trial leaves behind."""
    start = time.perf_counter()
    model, precision = state.evaluated, resolve_precision(spec.precision, state.device)
    model.load_state_dict(state.best_weights)
    logits = predict(model, data.test, precision)
    flipped = predict(model, data.test, precision, mirrored=True)
    test_loss, test_accuracy = evaluate_logits(logits, data.test.labels)
    both = (logits.softmax(1) + flipped.softmax(1)).argmax(1)
    seconds = time.perf_counter() - start
    _write_predictions(trial, logits, data.test.labels)
    weights = {name: weight.contiguous() for name, weight in state.best_weights.items()}
    write_bytes(trial.best_weights, save(weights))
    now = time.time()
    history.sessions[-1] = replace(history.sessions[-1], ended_at=now)
    trial.write_history(history)
    epochs = history.epochs
    summary = TrialSummary(
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
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        test_accuracy_flip=(both == data.test.labels).float().mean().item(),
        train_images=len(data.train),
        val_images=len(data.val),
        test_images=len(data.test),
        parameters=sum(p.numel() for p in state.model.parameters() if p.requires_grad),
        train_seconds=sum(record.train_seconds for record in epochs),
        val_seconds=sum(record.val_seconds for record in epochs),
        checkpoint_seconds=sum(record.checkpoint_seconds for record in epochs) + last_pause,
        startup_seconds=sum(session.startup_seconds for session in history.sessions),
        test_seconds=seconds,
        finished_at=now,
        precision=precision,
        workers=world()[1],
        versions=versions(),
    )
    trial.write_summary(summary)
    return summary


def _write_predictions(trial: TrialFolder, logits: Tensor, labels: Tensor) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, logits=logits.cpu().numpy(), labels=labels.cpu().numpy())
    write_bytes(trial.predictions, content.getvalue())


def versions() -> dict[str, str]:
    """Of Python and the packages that decide a trial's numbers."""
    packages = ("raycifar", "ray", "torch", "torchvision", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found, "cuda": torch.version.cuda or "none"}
