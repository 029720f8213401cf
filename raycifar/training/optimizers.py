"""Optimizer, learning-rate schedule, plateau and early stopping, weight averaging: each from its table of the spec."""

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raycifar.config.settings import Averaging, Monitor, Optimizer, Schedule
from raycifar.storage.records import EpochRecord
from raycifar.training.muon import Muon


def build_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Each group of parameters has a weight decay and, as `lr_ratio`, its learning rate over the schedule's.

    Frozen parameters are left out.
    """
    groups = _groups(model, settings)
    trained = [parameter for group in groups for parameter in group["params"]]
    if settings.name in ("sgd", "muon"):
        nesterov = settings.nesterov and settings.momentum > 0
        sgd = Muon if settings.name == "muon" else torch.optim.SGD
        return sgd(groups, settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True)
    adam = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    on_gpu = any(parameter.is_cuda for parameter in trained)
    return adam(groups, settings.lr, fused=True, capturable=on_gpu)


def _groups(model: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """Weights, then biases and batch norm (one dimension), once for every learning rate and weight decay.

    Muon's kernels, whose norms are fixed, stand apart: nothing reads their weight decay.
    """
    head_lr, head_decay = settings.head_lr_ratio, settings.head_decay_ratio
    groups: dict[tuple[bool, bool, float, float], list[nn.Parameter]] = {
        (True, False, 1.0, 1.0): [],
        (False, False, 1.0, 1.0): [],
    }
    for depth, parameter in _by_depth(model):
        lr_ratio, decay_ratio = (settings.layer_decay ** (depth - 1), 1.0) if depth else (head_lr, head_decay)
        is_kernel = settings.name == "muon" and parameter.ndim == 4 and len(parameter) <= parameter[0].numel()
        if is_kernel:
            lr_ratio *= settings.muon_lr / settings.lr
        groups.setdefault((parameter.ndim > 1, is_kernel, lr_ratio, decay_ratio), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay * decay_ratio * (1.0 if is_weight else settings.bias_decay_ratio),
            "lr_ratio": lr_ratio,
            "kernels": is_kernel,
        }
        for (is_weight, is_kernel, lr_ratio, decay_ratio), parameters in groups.items()
    ]


def _by_depth(model: nn.Module) -> Iterator[tuple[int, nn.Parameter]]:
    """The trained parameters with their depth: 0 in the module `head`, 1 in the layer before it, and so on.

    A layer begins with a weight of several dimensions; its bias and its batch norm follow.
    """
    head = {id(parameter) for parameter in getattr(model, "head", nn.Module()).parameters()}
    trunk = [parameter for parameter in model.parameters() if id(parameter) not in head]
    depth = 1 + sum(parameter.ndim > 1 for parameter in trunk)
    for parameter in model.parameters():
        in_head = id(parameter) in head
        depth -= parameter.ndim > 1 and not in_head
        if parameter.requires_grad:
            yield 0 if in_head else depth, parameter


def learning_rate_factor(schedule: Schedule, progress: float, epochs: int) -> float:
    """Share of the peak learning rate `progress` epochs into the training (a float: the middle of the coming step)."""
    if progress < schedule.warmup_epochs:
        return progress / schedule.warmup_epochs
    done = (progress - schedule.warmup_epochs) / (epochs - schedule.warmup_epochs)
    falling = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}.get(schedule.name, 1.0)
    return schedule.final_ratio + (1 - schedule.final_ratio) * falling


class Average:
    """`module` is an average of a network's parameters and batch-norm statistics.

    PyTorch's AveragedModel computes the same, but reads its counter of updates on the host twice a step, which makes a
    GPU wait, and keeps a step from being recorded as a CUDA graph.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        self._counts = [(mine, theirs) for mine, theirs in pairs if not mine.is_floating_point()]
        floats = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        self._mine, self._theirs = [mine for mine, _ in floats], [theirs for _, theirs in floats]
        self._share = torch.zeros((), device=self._mine[0].device)

    def set_share(self, share: float) -> None:
        """How much of the network each update takes in, from 0 to 1, until it is set again."""
        self._share.fill_(share)

    def update(self) -> None:
        """After the network that this one was made from has learnt."""
        torch._foreach_lerp_(self._mine, self._theirs, [self._share] * len(self._mine))
        for mine, theirs in self._counts:
            mine.copy_(theirs)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]


def exponential_share(decay: float, updates: int) -> float:
    """The network's share in an exponential average that has had so many updates.

    A young average forgets faster, or it would long be the random weights that it began with: the decay is that of
    TensorFlow's ExponentialMovingAverage with its num_updates.
    """
    return 1 - min(decay, (1 + updates) / (10 + updates))


def build_average(model: nn.Module, settings: Averaging) -> Average | None:
    """Where the spec asks for one: exponential, to be updated every step, or a plain mean, every epoch."""
    return Average(model) if settings.swa_epochs or settings.ema_decay else None


@dataclass(slots=True)
class Patience:
    """Counts the epochs since a record was last better; what that leads to is the caller's."""

    monitor: Monitor
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

    schedule: Schedule
    peak_lr: float
    waiting: Patience
    factor: float = 1.0

    def observe(self, record: EpochRecord) -> None:
        if self.schedule.name != "plateau":
            return
        if self.waiting.observe(record) >= self.schedule.patience:
            self.factor = max(self.factor * self.schedule.factor, min(1.0, self.schedule.min_lr / self.peak_lr))
            self.waiting.waited = 0
