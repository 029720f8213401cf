"""Optimizer, learning-rate schedule, plateau and early stopping, weight averaging: each from its table of the spec."""

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raycifar.config.settings import Averaging, Monitor, Optimizer, Schedule
from raycifar.networks.fused_norm import FusedLayers
from raycifar.networks.network import Network
from raycifar.storage.records import EpochRecord
from raycifar.training import eager, muon
from raycifar.training.workers import world


def build_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer of the trained parameters, in groups that each have a weight decay and an `lr_ratio`.

    A group's learning rate is the schedule's times its `lr_ratio`. Frozen parameters are left out.
    """
    groups = _groups(model, settings)
    trained = [parameter for group in groups for parameter in group["params"]]
    if settings.name in ("sgd", "muon"):
        nesterov = settings.nesterov and settings.momentum > 0
        sgd = muon.Muon if settings.name == "muon" else eager.SGD
        if muon.FUSED and not settings.clip_norm and world()[1] == 1:  # others read the gradients as well
            muon.take_gradients_as_they_are([one for group in groups if group["kernels"] for one in group["params"]])
        return sgd(groups, settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True)
    adam = eager.AdamW if settings.name == "adamw" else eager.Adam
    on_gpu = any(parameter.is_cuda for parameter in trained)
    return adam(groups, settings.lr, fused=True, capturable=on_gpu)


def _groups(model: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """A group for each combination of weights or biases, kernels of Muon or others, learning rate and weight decay.

    "Biases" are all parameters of one dimension: batch norm's, too. Muon keeps its kernels' norms, so nothing reads
    their weight decay. Weights come first, also where there are none: checkpoints name the groups by their order.
    """
    head_lr, head_decay = settings.head_lr_ratio, settings.head_decay_ratio
    groups: dict[tuple[bool, bool, float, float], list[nn.Parameter]] = {
        (True, False, 1.0, 1.0): [],
        (False, False, 1.0, 1.0): [],
    }
    # A VGG's first kernels have more outputs than inputs, and are left out by that, as they always were.
    is_library = isinstance(model, Network) and not isinstance(model.features, FusedLayers)
    first = next((parameter for parameter in model.parameters() if parameter.ndim == 4), None) if is_library else None
    for depth, parameter in _by_depth(model):
        lr_ratio, decay_ratio = (settings.layer_decay ** (depth - 1), 1.0) if depth else (head_lr, head_decay)
        is_kernel = settings.name == "muon" and parameter.ndim == 4 and parameter is not first
        is_kernel = is_kernel and len(parameter) <= parameter[0].numel()
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

    A network may tell its own `depths`. In others, a layer begins with a weight of several dimensions; its bias and its
    batch norm follow.
    """
    if isinstance(model, Network):
        yield from ((depth, parameter) for depth, parameter in model.depths() if parameter.requires_grad)
        return
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
    """Keeps an average of a network's parameters and batch-norm statistics in the network `module`.

    PyTorch's AveragedModel computes the same, but reads its counter of updates on the host twice a step: a GPU has to
    wait for that, and no CUDA graph can be recorded.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        self._counts = [(average, current) for average, current in pairs if not average.is_floating_point()]
        floats = [(average, current) for average, current in pairs if average.is_floating_point()]
        self._averages, self._currents = [average for average, _ in floats], [current for _, current in floats]
        self._share = torch.zeros((), device=self._averages[0].device)

    def set_share(self, share: float) -> None:
        """Set how much of the network each later update takes in, from 0 to 1."""
        self._share.fill_(share)

    def update(self) -> None:
        """Take in the network's current weights and statistics, by the share that was set; counts are copied."""
        torch._foreach_lerp_(self._averages, self._currents, [self._share] * len(self._averages))
        for average, current in self._counts:
            average.copy_(current)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]


def exponential_share(decay: float, updates: int) -> float:
    """The network's share in the next update of an exponential average, after so many `updates`.

    A young average forgets faster; otherwise it would resemble the random weights that it began with for long. The
    decay is that of TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return 1 - min(decay, (1 + updates) / (10 + updates))


def build_average(model: nn.Module, settings: Averaging) -> Average | None:
    """An Average where the settings ask for one: exponential, updated every step, or a plain mean, every epoch."""
    return Average(model) if settings.swa_epochs or settings.ema_decay else None


def monitored(record: EpochRecord, monitor: Monitor) -> float:
    """What of an epoch is better the larger it is. Raises ValueError where that was not measured."""
    value = -record.val_loss if monitor == "val_loss" else getattr(record, monitor)
    if value is None:
        raise ValueError(f"epoch {record.epoch} has no {monitor}")
    return float(value)


@dataclass(slots=True)
class Patience:
    """Counts the epochs since a record was last better than all before it."""

    monitor: Monitor
    min_delta: float = 0.0
    best: float | None = None
    waited: int = 0

    def observe(self, record: EpochRecord) -> int:
        """Returns how many epochs in a row, this one included, have not been better by more than min_delta."""
        value = monitored(record, self.monitor)
        if self.best is None or value > self.best + self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Plateau:
    """The learning rate's reduction so far, `factor`; it falls after `patience` epochs without a better value."""

    schedule: Schedule
    peak_lr: float
    waiting: Patience
    factor: float = 1.0

    def observe(self, record: EpochRecord) -> None:
        """Take in a finished epoch; it may reduce `factor`, where the schedule is a plateau's."""
        if self.schedule.name != "plateau":
            return
        if self.waiting.observe(record) >= self.schedule.patience:
            self.factor = max(self.factor * self.schedule.factor, min(1.0, self.schedule.min_lr / self.peak_lr))
            self.waiting.waited = 0
