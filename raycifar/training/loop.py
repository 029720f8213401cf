"""The training loop in plain PyTorch: `fit` yields a record after every epoch, when the state can be saved.

The loop knows nothing of Ray, of files or of particular networks. Where torch.distributed is initialised with several
workers, each trains on its share of every batch, and all get the same records.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from raycifar.config.settings import BY_CLASS
from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Split, batch_count, batches
from raycifar.storage.records import EpochRecord
from raycifar.training.evaluation import Sign, evaluate, evaluate_by_class, nobody, parts_of
from raycifar.training.optimizers import (
    Patience,
    Plateau,
    build_average,
    build_optimizer,
    exponential_share,
    learning_rate_factor,
    monitored,
)
from raycifar.training.precision import autocast
from raycifar.training.step import Step
from raycifar.training.workers import all_reduce, world

REMEDY = "lower optimizer.lr, or lengthen schedule.warmup_epochs"


class NonFiniteLossError(Exception):
    """The loss became NaN or infinite; the message names epoch and step."""


PROGRESS = ("epoch", "stopped_early")  # attributes of a TrainState that a checkpoint has
BEST = ("best_epoch", "best_weights", "best_val_accuracy", "best_val_loss", "best_monitored")


class TrainState:
    """All that changes while a trial trains; a `state_dict` taken between two records resumes it bit for bit.

    It holds no state of random generators: they are seeded for every epoch from the trial's seed and the epoch.
    """

    def __init__(self, model: nn.Module, spec: TrialSpec, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.optimizer = build_optimizer(self.model, spec.optimizer)
        self.average = build_average(self.model, spec.averaging)
        self.plateau = Plateau(spec.schedule, spec.optimizer.lr, Patience(spec.schedule.monitor))
        self.stopping = Patience(spec.early_stopping.monitor, spec.early_stopping.min_delta)
        self.epoch = 0  # finished epochs
        self.stopped_early = False
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.best_val_accuracy = -1.0
        self.best_monitored = -1.0  # of another monitor than that
        self.best_val_loss = float("inf")

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and tested: the averaged one where there is one."""
        return self.average.module if self.average is not None else self.model

    def state_dict(self) -> dict[str, Any]:
        """Holds tensors and plain values only, so that torch.load(weights_only=True) reads it.

        After a best epoch its weights are the evaluated network's own tensors: a file holds them once.
        """
        best = {name: getattr(self, name) for name in BEST if name != "best_monitored" or self.best_monitored >= 0}
        if self.best_weights and self.best_epoch == self.epoch:
            best["best_weights"] = dict(self.evaluated.state_dict())
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.module.state_dict() if self.average is not None else None,
            "plateau": {"factor": self.plateau.factor, "waiting": self.plateau.waiting.state_dict()},
            "stopping": self.stopping.state_dict(),
            "progress": {name: getattr(self, name) for name in PROGRESS},
            "best": best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises LookupError, RuntimeError, ValueError, TypeError or AttributeError where the state is another."""
        self.model.load_state_dict(state["model"])
        capturable_here = [group.get("capturable") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, capturable in zip(self.optimizer.param_groups, capturable_here, strict=True):
            if capturable is not None:  # adam's: it depends on this device, not on the one that the state comes from
                group["capturable"] = capturable
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.plateau.factor = state["plateau"]["factor"]
        self.plateau.waiting = Patience(**state["plateau"]["waiting"])
        self.stopping = Patience(**state["stopping"])
        found = state["progress"] | state["best"]
        for name in found.keys() & {*PROGRESS, *BEST}:  # and nothing else that a checkpoint may name
            setattr(self, name, found[name])
        self.best_weights = {name: weight.to(self.device, copy=True) for name, weight in self.best_weights.items()}

    def finished(self, spec: TrialSpec) -> bool:
        """Whether all epochs have been trained, or early stopping has ended the trial."""
        return self.stopped_early or self.epoch >= spec.epochs

    def _observe(self, record: EpochRecord, spec: TrialSpec) -> None:
        """Take in a finished epoch: the best weights (ties keep the earlier epoch), the plateau, early stopping."""
        self.epoch = record.epoch
        by_accuracy = spec.monitor == "val_accuracy"
        if monitored(record, spec.monitor) > (self.best_val_accuracy if by_accuracy else self.best_monitored):
            self.best_epoch = record.epoch
            if not by_accuracy:
                self.best_monitored = monitored(record, spec.monitor)
            self.best_val_accuracy, self.best_val_loss = record.val_accuracy, record.val_loss
            self.best_weights = {name: value.clone() for name, value in self.evaluated.state_dict().items()}
        self.plateau.observe(record)
        patience = spec.early_stopping.patience
        waited = self.stopping.observe(record)
        self.stopped_early = bool(patience) and waited >= patience and self.epoch < spec.epochs


def fit(state: TrainState, train: Split, val: Split, spec: TrialSpec, alive: Sign = nobody) -> Iterator[EpochRecord]:
    """Train from `state.epoch` to the end, yielding a record after every epoch. Raises NonFiniteLossError.

    The time that the caller takes between two records is the next record's `checkpoint_seconds`.
    """
    engine = _Engine(state, train, spec, alive)
    paused = 0.0
    while not state.finished(spec):
        record = _epoch(engine, val, state.epoch + 1, paused)
        state._observe(record, spec)
        yielded = time.perf_counter()
        yield record
        paused = time.perf_counter() - yielded


def step_of(state: TrainState, train: Split, spec: TrialSpec) -> Step:
    """The step that trains the state's network; it updates the average, too, if that is an exponential one."""
    return Step(state.model, state.optimizer, state.average if spec.averaging.ema_decay else None, train, spec)


class _Engine:
    """What all epochs of a session share: the state, the spec, the training images and the step."""

    def __init__(self, state: TrainState, train: Split, spec: TrialSpec, alive: Sign) -> None:
        self.state, self.spec, self.train, self.images, self.alive = state, spec, train, len(train), alive
        self.step = step_of(state, train, spec)
        self.steps = batch_count(len(train), spec.batch_size, spec.drop_last)  # of an epoch

    def learning_rate(self, epoch: int, step: int) -> float:
        """The schedule's, at the middle of the step, after what plateaus have taken off."""
        progress = epoch - 1 + (step + 0.5) / self.steps
        factor = learning_rate_factor(self.spec.schedule, progress, self.spec.epochs)
        return self.spec.optimizer.lr * factor * self.state.plateau.factor

    def set_share(self, epoch: int, step: int) -> None:
        """Set how much of the network this step's update of the average takes in, where every step updates it."""
        decay, average = self.spec.averaging.ema_decay, self.state.average
        if decay and average is not None:
            average.set_share(exponential_share(decay, (epoch - 1) * self.steps + step))


def _epoch(engine: _Engine, val: Split, epoch: int, paused: float) -> EpochRecord:
    """Train and validate one epoch. `paused`: seconds that the caller took before it."""
    start = time.perf_counter()
    train_loss, train_accuracy, seen, lr = _train_epoch(engine, epoch)
    _average_epoch(engine, epoch)
    trained = time.perf_counter()
    _agree_on_buffers(engine.state.evaluated)
    val_loss, val_accuracy, *by_class = _validated(engine, val)
    if not math.isfinite(val_loss):
        place = f"after epoch {epoch}, step {engine.steps}"
        raise NonFiniteLossError(f"the validation loss is {val_loss} {place}: {REMEDY}")
    return EpochRecord(
        epoch=epoch,
        lr=lr,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        train_seconds=trained - start,
        val_seconds=time.perf_counter() - trained,
        checkpoint_seconds=paused,
        images_per_second=seen / (trained - start),
        finished_at=time.time(),
        **dict(zip(BY_CLASS, by_class, strict=False)),
    )


def _validated(engine: _Engine, val: Split) -> tuple[float, ...]:
    """Loss and accuracy of the evaluated network; where something reads them, the figures BY_CLASS, too."""
    network, precision = engine.state.evaluated, engine.step.precision
    if not engine.spec.measures_classes:
        return evaluate(network, val, precision, engine.alive)
    return evaluate_by_class(network, val, len(engine.spec.data.facts.classes), precision, engine.alive)


def _train_epoch(engine: _Engine, epoch: int) -> tuple[float, float, int, float]:
    """Mean loss, accuracy, number of images and the last learning rate. The device is read once, at the end."""
    spec, step = engine.spec, engine.step
    step.generator.manual_seed(_epoch_seed(spec.seed, epoch))
    torch.manual_seed(_epoch_seed(spec.seed, epoch) + 1 + world()[0])  # dropout's
    step.network.train()
    sums = torch.zeros(engine.steps, 2, dtype=torch.float64, device=engine.state.device)
    seen, lr = 0, 0.0
    order = batches(engine.images, spec.batch_size, step.generator, spec.drop_last)
    for i, index in enumerate(step.ahead(order)):
        lr = engine.learning_rate(epoch, i)
        engine.set_share(epoch, i)
        sums[i] = step(index, epoch, lr)
        engine.alive()  # here, and not from a hook of the optimizer's: a recorded step runs no Python
        seen += len(index)
    per_step = all_reduce(sums).cpu()
    _refuse_non_finite(per_step[:, 0], epoch)
    loss, accuracy = (per_step.sum(0) / seen).tolist()
    return loss, accuracy, seen, lr


def _average_epoch(engine: _Engine, epoch: int) -> None:
    """What an average does once an epoch: the plain mean takes in the weights, batch norm's statistics are recomputed.

    Before the epochs that it averages begin, the plain mean is the network as it is.
    """
    average, averaging = engine.state.average, engine.spec.averaging
    if average is None:
        return
    averaged = epoch - 1 - (engine.spec.epochs - averaging.swa_epochs)
    if averaging.swa_epochs:
        average.set_share(1 / (max(0, averaged) + 1))
        average.update()
    if averaged > 0 or averaging.ema_recompute_batch_norm:
        with autocast(engine.state.device, engine.step.precision):
            update_bn(parts_of(average.module, engine.train.images, engine.alive), average.module)


def _refuse_non_finite(losses: Tensor, epoch: int) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        raise NonFiniteLossError(
            f"the training loss is {losses[bad[0]].item()} in epoch {epoch}, "
            f"step {bad[0].item() + 1} of {len(losses)}: {REMEDY}"
        )


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) * 1_000  # leaves room for a worker's rank


def _agree_on_buffers(model: nn.Module) -> None:
    """Give all workers rank 0's batch norm statistics: on CPUs each has its own, and rank 0's are saved and tested."""
    if world()[1] > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
