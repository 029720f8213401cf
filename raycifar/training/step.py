"""One optimizer step, from the indices of a batch to the updated weights; on one GPU it is a single CUDA graph.

A step of VGG16 is about 300 kernels, and on a fast GPU launching them one by one takes longer than computing them. So
all that differs between steps (indices, epoch, learning rate) lies in tensors that keep their addresses, and the step
reads nothing else: it is recorded once and replayed with one launch. On other devices the same code runs every time.
"""

import logging
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycifar.config.sweep import TrialSpec
from raycifar.data.augment import Augmenter, Mixer
from raycifar.data.mapped import Mapped, ReadAhead
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


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """float32 (classes,), by which images count in the loss so that classes count alike; over all images its mean is 1.

    Those are scikit-learn's "balanced" weights; a class without images has none.
    """
    counts = labels.bincount(minlength=classes)
    return torch.where(counts > 0, len(labels) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0).float()


def _is_balanced(spec: TrialSpec) -> bool:
    return spec.class_weights == "balanced"


class Step:
    """The step of one trial in one session. Call it with a batch's indices, epoch and learning rate."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, train: Split, spec: TrialSpec
    ) -> None:
        """`average` is updated by every step; None where there is none, or where it is updated once an epoch."""
        device = train.labels.device
        self.network = distributed(model)
        self.precision = resolve_precision(spec.precision, device)
        self.generator = torch.Generator(device)  # of the augmentation
        self._optimizer, self._average, self._train, self._spec = optimizer, average, train, spec
        self.augmenter = Augmenter.of(train, spec.augmentation, spec.seed)
        self.mixer = Mixer.of(spec.augmentation, len(spec.data.facts.classes), spec.seed, device)
        self._weights = class_weights(train.labels, len(spec.data.facts.classes)) if _is_balanced(spec) else None
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

        # What differs between steps, at fixed addresses.
        self._index = torch.zeros(min(spec.batch_size, len(train)), dtype=torch.int64, device=device)
        self._read: Tensor | None = None  # the images of a batch, where they are not on the device already
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        # Each group's own learning rate, in place; checkpoints of versions before `lr_ratio` have none.
        self._lr_ratios = torch.tensor([group.get("lr_ratio", 1.0) for group in optimizer.param_groups], device=device)
        self._lrs = torch.zeros_like(self._lr_ratios)
        for group, lr in zip(optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = lr

        self._source = ReadAhead(train.images, len(self._index)) if isinstance(train.images, Mapped) else None

        # What a call runs: the step's code, or its recording once that is made.
        self._run: Callable[[], Tensor] = self._on_index
        self._until_recording = steps_before_recording(device)

    def ahead(self, order: Iterable[Tensor]) -> Iterable[Tensor]:
        """The same indices, to be called with one after the other: images that are mapped are read ahead."""
        return order if self._source is None else self._source.ahead(order)

    def __call__(self, index: Tensor, epoch: int, lr: float) -> Tensor:
        """Train on the images `index` (B,) of the training set.

        Returns this worker's summed loss and number of right answers, float64 (2,) on the device; the next step may
        overwrite them.
        """
        self._epoch.fill_(epoch)
        torch.mul(self._lr_ratios, lr, out=self._lrs)
        if self._source is not None:
            self._read = self._source.read(index)
        if len(index) != len(self._index):  # an epoch's last batch
            return self._train_on(index)
        self._index.copy_(index)
        if self._until_recording == 0:
            self._run = self._recorded()
        self._until_recording -= 1
        return self._aside() if self._until_recording >= 0 else self._run()

    def _on_index(self) -> Tensor:
        """The step on the indices at their fixed address: what is recorded."""
        return self._train_on(self._index)

    def _aside(self) -> Tensor:
        """The step on a stream of its own, as PyTorch asks for the steps before a recording."""
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            sums = self._on_index()
        current.wait_stream(side)
        return sums

    def _train_on(self, index: Tensor) -> Tensor:
        # Augment and mix the whole batch, so that its draws do not depend on the workers; keep this worker's share.
        rank, workers = world()
        images = self.augmenter(index, self._epoch, self.generator, self._read)
        targets = self._train.labels[index]
        if self.mixer is not None:
            images, targets = self.mixer(images, targets, self.generator)
        images, targets = images[rank::workers], targets[rank::workers]

        # Forwards and backwards. Workers' gradients are averaged: times `workers` makes that the whole batch's mean.
        with autocast(targets.device, self.precision):
            logits = self.network(images)
        logits = logits.float()
        smoothing = self._spec.label_smoothing
        smoothed = F.cross_entropy(logits, targets, self._weights, reduction="sum", label_smoothing=smoothing)
        (smoothed * (workers / len(index))).backward()

        # Update the weights, then their average.
        if self._spec.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self._parameters, self._spec.optimizer.clip_norm)
        with autocast(targets.device, self.precision):  # for Muon's matrix products; other updates stay in fp32
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update()
        return loss_and_correct(logits.detach(), targets)

    def _recorded(self) -> Callable[[], Tensor]:
        """The step as a CUDA graph, or its code where that cannot be recorded. Recording computes nothing.

        Raises RuntimeError where the recording does not fit into the GPU's memory.
        """
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        try:
            # thread_local: the thread that writes checkpoints may do meanwhile what a recording must not
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                sums = self._on_index()
        except RuntimeError as error:
            if full_memory(error):  # launching kernel by kernel would only hide that
                raise
            self._optimizer.zero_grad(set_to_none=True)
            reason = str(error).partition("\n")[0]
            logging.getLogger(__name__).warning("no CUDA graph, steps are launched kernel by kernel: %s", reason)
            return self._on_index

        def replay() -> Tensor:
            graph.replay()
            return sums

        return replay
