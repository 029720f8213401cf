"""A network's predictions, their loss and their accuracy."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycifar.data.mapped import Mapped
from raycifar.data.splits import Split
from raycifar.training.precision import autocast
from raycifar.training.workers import all_reduce, world

EVAL_BATCH = 1000  # images at once, for a network without `images_at_once`
Sign = Callable[[], object]  # a sign of life: called at least once a step, and for each part of a validation or test


def nobody() -> None:
    """A Sign for callers that do not watch for signs of life."""


def evaluate(model: nn.Module, split: Split, precision: str = "fp32", alive: Sign = nobody) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy over the split, shared among the workers where there are several."""
    rank, workers = world()
    mine = split.share(rank, workers)
    sums = all_reduce(loss_and_correct(predict(model, mine, precision, alive=alive), mine.labels))
    mean_loss, accuracy = (sums / len(split)).tolist()
    return mean_loss, accuracy


def evaluate_by_class(
    model: nn.Module, split: Split, classes: int, precision: str = "fp32", alive: Sign = nobody
) -> tuple[float, float, float, float]:
    """As `evaluate`, then the mean of the classes' recalls (balanced accuracy), and of their F1.

    As scikit-learn has them, a class without images has no recall, and one that is neither there nor predicted no F1.
    """
    rank, workers = world()
    mine = Split(split.images[rank::workers], split.labels[rank::workers])
    logits = predict(model, mine, precision, alive=alive)
    pairs = (mine.labels * classes + logits.argmax(1)).bincount(minlength=classes**2).double()
    sums = all_reduce(torch.cat([loss_and_correct(logits, mine.labels), pairs])).cpu()
    mean_loss, accuracy = (sums[:2] / len(split)).tolist()
    return mean_loss, accuracy, *_by_class(sums[2:].view(classes, classes))


def _by_class(confused: Tensor) -> tuple[float, float]:
    """Balanced accuracy and macro-F1 of counts (classes, classes): rows are what images are, columns what they got."""
    right, there, predicted = confused.diagonal(), confused.sum(1), confused.sum(0)
    recalls = (right / there)[there > 0]
    f1 = (2 * right / (there + predicted))[there + predicted > 0]
    return recalls.mean().item(), f1.mean().item()


def evaluate_logits(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy of logits (N, classes) against labels (N,)."""
    mean_loss, accuracy = (loss_and_correct(logits, labels) / len(labels)).tolist()
    return mean_loss, accuracy


def predict(
    model: nn.Module, split: Split, precision: str = "fp32", mirrored: bool = False, alive: Sign = nobody
) -> Tensor:
    """Logits float32 (N, classes) of the split's images, or of their mirror images. The network's mode is kept."""
    was_training = model.training
    model.eval()
    with torch.inference_mode(), autocast(split.labels.device, precision):
        parts = [model(part.flip(-1) if mirrored else part).float() for part in parts_of(model, split.images, alive)]
    model.train(was_training)
    return torch.cat(parts)


def parts_of(model: nn.Module, images: Tensor | Mapped, alive: Sign) -> Iterator[Tensor]:
    """The images, as many at a time as the network says it takes; `alive` is called before each part."""
    at_once: int = getattr(model, "images_at_once", EVAL_BATCH)
    for part in images.split(at_once):
        alive()
        yield part


def loss_and_correct(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy, without label smoothing, and the number of right answers: float64 (2,), on the device.

    `targets` are labels int64 (N,), or for mixed images the shares of all labels float32 (N, classes); then the right
    answer is the label with the largest share.
    """
    loss = F.cross_entropy(logits, targets, reduction="sum")
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    correct = (logits.argmax(1) == labels).sum()
    return torch.stack([loss.double(), correct.double()])
