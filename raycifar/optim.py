"""Optimizer, learning-rate schedule, plateau and early stopping, weight averaging: each from its table of the spec."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raycifar import spec
from raycifar.records import EpochRecord


def build_optimizer(model: nn.Module, settings: spec.Optimizer) -> torch.optim.Optimizer:
    """Weights decay; biases and batch norm (one dimension) do not. Frozen parameters are left out."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True)
    adam = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return adam(groups, settings.lr, fused=True)


def learning_rate_factor(schedule: spec.Schedule, progress: float, epochs: int) -> float:
    """Share of the peak learning rate `progress` epochs into the training (a float: the middle of the coming step)."""
    if progress < schedule.warmup_epochs:
        return progress / schedule.warmup_epochs
    done = (progress - schedule.warmup_epochs) / (epochs - schedule.warmup_epochs)
    falling = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}.get(schedule.name, 1.0)
    return schedule.final_ratio + (1 - schedule.final_ratio) * falling


def build_average(model: nn.Module, settings: spec.Averaging) -> AveragedModel | None:
    """An exponential moving average of parameters and batch-norm statistics, or None."""
    if not settings.ema_decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True)


@dataclass(slots=True)
class Patience:
    """Counts the epochs since a record was last better; what that leads to is the caller's."""

    monitor: spec.Monitor
    min_delta: float = 0.0
    best: float | None = None
    waited: int = 0

    def observe(self, record: EpochRecord) -> int:
        """How many epochs in a row, this one included, have not been better by more than min_delta."""
        value = record.val_accuracy if self.monitor == "val_accuracy" else -record.val_loss
        if self.best is None or value > self.best + self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Plateau:
    """The learning rate's reduction so far: times `factor` after `patience` epochs without a better value."""

    schedule: spec.Schedule
    peak_lr: float
    waiting: Patience
    factor: float = 1.0

    def observe(self, record: EpochRecord) -> None:
        if self.schedule.name != "plateau":
            return
        if self.waiting.observe(record) >= self.schedule.patience:
            self.factor = max(self.factor * self.schedule.factor, min(1.0, self.schedule.min_lr / self.peak_lr))
            self.waiting.waited = 0
