"""The test of a trained trial, once, and what it leaves: the predictions, the tested weights, the summary."""

import io
import time
from dataclasses import dataclass

import numpy as np
from safetensors.torch import save
from torch import Tensor

from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Split, Splits
from raycifar.devices import versions
from raycifar.storage.beneath import write_bytes
from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import History, TrialSummary
from raycifar.training.evaluation import Sign, evaluate, evaluate_logits, predict
from raycifar.training.loop import TrainState
from raycifar.training.workers import world


@dataclass(frozen=True, slots=True)
class Tested:
    """How the best epoch's weights did on the N test images."""

    logits: Tensor  # float32 (N, classes), on the device
    loss: float
    accuracy: float
    accuracy_flip: float | None  # of probabilities averaged over image and mirror image
    seconds: float


def run_test(state: TrainState, test: Split, precision: str, alive: Sign, mirror: bool = True) -> Tested:
    """Load the best weights into the evaluated network and test it; nothing that comes after depends on the result.

    `mirror` says whether a mirror image is of the same class.
    """
    start = time.perf_counter()
    state.evaluated.load_state_dict(state.best_weights)
    logits = predict(state.evaluated, test, precision, alive=alive)
    accuracy_flip = _flip_averaged(state, test, logits, precision, alive) if mirror else None
    return Tested(logits, *evaluate_logits(logits, test.labels), accuracy_flip, time.perf_counter() - start)


def _flip_averaged(state: TrainState, test: Split, logits: Tensor, precision: str, alive: Sign) -> float:
    mirrored = predict(state.evaluated, test, precision, mirrored=True, alive=alive)
    answers = (logits.softmax(1) + mirrored.softmax(1)).argmax(1)
    return (answers == test.labels).float().mean().item()


@dataclass(frozen=True, slots=True)
class OnTraining:
    """How the best epoch's weights did on the training images, not augmented."""

    accuracy: float
    seconds: float


def on_training(state: TrainState, train: Split, precision: str, alive: Sign) -> OnTraining:
    """Load the best weights into the evaluated network and measure it on the training images, as test images are.

    Workers share the images, so every one of them calls this.
    """
    start = time.perf_counter()
    state.evaluated.load_state_dict(state.best_weights)
    _, accuracy = evaluate(state.evaluated, train, precision, alive)
    return OnTraining(accuracy, time.perf_counter() - start)


def write_tested(trial: TrialFolder, state: TrainState, data: Splits, tested: Tested) -> None:
    """Write predictions.npz and best.safetensors. Raises OSError."""
    content = io.BytesIO()
    arrays = {"logits": tested.logits, "labels": data.test.labels, "index": data.test_index, **data.test_notes}
    np.savez_compressed(content, allow_pickle=False, **{name: array.cpu().numpy() for name, array in arrays.items()})
    write_bytes(trial.files / trial.predictions.name, content.getvalue())
    weights = {name: weight.contiguous() for name, weight in state.best_weights.items()}
    write_bytes(trial.files / trial.best_weights.name, save(weights))


def summary_of(
    spec: TrialSpec, state: TrainState, data: Splits, history: History, tested: Tested, last_pause: float
) -> TrialSummary:
    """The finished trial's summary. `last_pause`: seconds that the last epoch's checkpoint took."""
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
        test_accuracy_flip=tested.accuracy_flip,
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
