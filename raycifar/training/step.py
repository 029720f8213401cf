"""One optimizer step, from the indices of a batch to the updated weights; on one GPU it is a single CUDA graph.

A step of VGG16 is some 300 kernels, and launching them one by one takes a fast GPU longer than computing them. So
whatever differs between steps (indices, epoch, learning rate) lies in tensors that keep their addresses, and the step
reads nothing else: recorded once, it is replayed with one launch. On other devices the same code runs every time.
"""

import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycifar.config.sweep import TrialSpec
from raycifar.data.augment import Augmenter, Mixer
from raycifar.data.splits import Split
from raycifar.devices import full_memory
from raycifar.training.evaluation import loss_and_correct
from raycifar.training.optimizers import Average
from raycifar.training.precision import autocast, resolve_precision
from raycifar.training.workers import distributed, world

# Steps before the recording: cuDNN chooses its algorithms in them, and the optimizer makes its buffers.
WARM_UP_STEPS = 3


def steps_before_recording(device: torch.device) -> int:
    """How many steps run before one is recorded; -1 where none is: on a CPU, and where workers talk to each other."""
    return WARM_UP_STEPS if device.type == "cuda" and world()[1] == 1 else -1


class Step:
    """The step of one trial in one session. Call it with a batch's indices, epoch and learning rate."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, train: Split, spec: TrialSpec
    ) -> None:
        device = train.labels.device
        self.network = distributed(model)
        self.precision = resolve_precision(spec.precision, device)
        self.generator = torch.Generator(device)  # of the augmentation
        self._optimizer, self._average, self._train, self._spec = optimizer, average, train, spec
        self.augmenter = Augmenter.of(train, spec.augmentation, spec.seed)
        self.mixer = Mixer.of(spec.augmentation, spec.seed, device)
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._index = torch.zeros(min(spec.batch_size, len(train)), dtype=torch.int64, device=device)
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        # Each group's own learning rate, in place; checkpoints from before there were ratios have none.
        self._lr_ratios = torch.tensor([group.get("lr_ratio", 1.0) for group in optimizer.param_groups], device=device)
        self._lrs = torch.zeros_like(self._lr_ratios)
        for group, lr in zip(optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = lr
        self._run: Callable[[], Tensor] = self._on_index
        self._until_recording = steps_before_recording(device)

    def __call__(self, index: Tensor, epoch: int, lr: float) -> Tensor:
        """Train on the images `index` (B,): this worker's summed loss and right answers, float64 (2,) on the device.

        The result may be overwritten by the next step.
        """
        self._epoch.fill_(epoch)
        torch.mul(self._lr_ratios, lr, out=self._lrs)
        if len(index) != len(self._index):  # an epoch's last batch
            return self._once(index)
        self._index.copy_(index)
        if self._until_recording == 0:
            self._run = self._recorded()
        self._until_recording -= 1
        return self._aside() if self._until_recording >= 0 else self._run()

    def _on_index(self) -> Tensor:
        return self._once(self._index)

    def _aside(self) -> Tensor:
        """On a stream of its own, as PyTorch asks for the steps before a recording."""
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            sums = self._on_index()
        current.wait_stream(side)
        return sums

    def _once(self, index: Tensor) -> Tensor:
        rank, workers = world()
        images, targets = self.augmenter(index, self._epoch, self.generator), self._train.labels[index]
        if self.mixer is not None:
            images, targets = self.mixer(images, targets, self.generator)
        images, targets = images[rank::workers], targets[rank::workers]
        with autocast(targets.device, self.precision):
            logits = self.network(images)
        logits = logits.float()
        smoothed = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self._spec.label_smoothing)
        # Workers' gradients are averaged: times `workers` makes that the mean over the whole batch.
        (smoothed * (workers / len(index))).backward()
        if self._spec.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self._parameters, self._spec.optimizer.clip_norm)
        with autocast(targets.device, self.precision):  # which Muon's products are in; sums and rates are not
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update()
        return loss_and_correct(logits.detach(), targets)

    def _recorded(self) -> Callable[[], Tensor]:
        """The step as a CUDA graph, or as it is where that cannot be recorded. Recording computes nothing."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        try:
            # thread_local: what the thread that writes checkpoints does meanwhile is no part of the step
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                sums = self._on_index()
        except RuntimeError as error:
            if full_memory(error):  # steps launched one by one would only hide it
                raise
            self._optimizer.zero_grad(set_to_none=True)
            reason = str(error).partition("\n")[0]
            logging.getLogger(__name__).warning("no CUDA graph, steps are launched kernel by kernel: %s", reason)
            return self._on_index

        def replay() -> Tensor:
            graph.replay()
            return sums

        return replay
