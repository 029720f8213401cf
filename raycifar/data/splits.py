"""A data set on the training device, or read as it trains: the splits, and in which order batches take their images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from raycifar.config.data import Data
from raycifar.data.mapped import Mapped

# Tensors of the file that say more of the test images: each one's group, and whether one that trains is nearly equal.
TEST_NOTES = ("groups", "near")
SPLIT_SEED = 0  # draws the test subset, which is the same for every trial


@dataclass(frozen=True, slots=True)
class Split:
    """images uint8 (N, 3, H, W), labels int64 (N,), on one device; or images that are read as they are needed."""

    images: Tensor | Mapped
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Split":
        images = self.images.take(index) if isinstance(self.images, Mapped) else self.images[index]
        return Split(images, self.labels[index])

    def share(self, rank: int, workers: int) -> "Split":
        """What worker `rank` of so many evaluates; a view."""
        part = slice(rank, None, workers)
        images = self.images.take(part) if isinstance(self.images, Mapped) else self.images[part]
        return Split(images, self.labels[part])

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class Training:
    """All that a search may see: without a test split. `val` is as in Splits."""

    train: Split
    val: Split


@dataclass(frozen=True, slots=True)
class Splits:
    """`val` never overlaps `train` when validation is "holdout", and is `train` itself when it is "train"."""

    train: Split
    val: Split
    test: Split
    test_index: Tensor  # int64 (N,): which of the official test images `test` holds, in its order
    test_notes: dict[str, Tensor] = field(default_factory=dict)  # those of TEST_NOTES that the file has, (N,) each


def load_splits(path: Path, spec: Data, device: torch.device | str = "cpu", resident: bool = True) -> Splits:
    """Map the cached data set into memory and cut the splits that `spec` asks for.

    `resident` images move to `device`; others stay in the file. That changes no number.
    """
    device = torch.device(device)
    tensors = load_file(path)
    training = _training(tensors, spec, device, resident)
    test = Split(tensors["test_images"], tensors["test_labels"])
    chosen = stratified(test.labels, spec.test_images) if spec.test_images else torch.arange(len(test))
    notes = {name: tensors[f"test_{name}"][chosen] for name in TEST_NOTES if f"test_{name}" in tensors}
    return Splits(training.train, training.val, _part(test, chosen, device, resident), chosen, notes)


def load_training(path: Path, spec: Data, device: torch.device | str = "cpu", resident: bool = True) -> Training:
    """As load_splits, but the test images and their labels are not read."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("test")}  # noqa: SIM118
    return _training(tensors, spec, torch.device(device), resident)


def _training(tensors: Mapping[str, Tensor], spec: Data, device: torch.device, resident: bool) -> Training:
    everything = Split(tensors["train_images"], tensors["train_labels"])
    is_given = "val_images" in tensors and spec.validation == "holdout"
    held_out, train = train_val_indices(everything.labels, spec, tensors.get("train_folds"), is_given)
    train_split = _part(everything, train, device, resident)
    if spec.validation == "train":
        return Training(train_split, train_split)
    if is_given:
        given = Split(tensors["val_images"], tensors["val_labels"])
        return Training(train_split, _part(given, torch.arange(len(given)), device, resident))
    return Training(train_split, _part(everything, held_out, device, resident))


def _part(everything: Split, index: Tensor, device: torch.device, resident: bool) -> Split:
    if resident or isinstance(everything.images, Mapped):
        return everything.take(index).to(device)
    return Split(Mapped(everything.images, index, device), everything.labels[index].to(device))


def train_val_indices(
    labels: Tensor, spec: Data, folds: Tensor | None = None, is_given: bool = False
) -> tuple[Tensor, Tensor]:
    """Sorted indices of the held-out images (none when validation is "train") and of the training images.

    `folds`, int64 (N,), are those of whole groups, where there are some; where validation images are given, none is
    held out. Raises ValueError where the spec leaves its `split_seed` to the trial: TrialSpec.own_data has the trial's.
    """
    if isinstance(spec.split_seed, str):
        raise ValueError(f"data.split_seed = {spec.split_seed!r} is no number yet")
    held_out = _held_out(labels, spec, folds, spec.split_seed) if not is_given else torch.empty(0, dtype=torch.int64)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[held_out] = False
    train = rest.nonzero().squeeze(1)
    if spec.train_images:
        train = train[stratified(labels[train], spec.train_images, spec.split_seed)]
    return held_out, train


def _held_out(labels: Tensor, spec: Data, folds: Tensor | None, seed: int) -> Tensor:
    if spec.validation != "holdout":
        return torch.empty(0, dtype=torch.int64)
    if folds is not None:
        chosen = spec.folds_held_out(int(folds.max()) + 1, len(labels))
        return torch.isin(folds, torch.tensor(chosen)).nonzero().squeeze(1)
    return stratified(labels, spec.share_held_out(len(labels)), seed)


def stratified(labels: Tensor, count: int, seed: int = SPLIT_SEED) -> Tensor:
    """Sorted indices of `count` images, of each class its share, drawn with the seed. labels: (N,).

    Raises ValueError where a class has too few images.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label, share in enumerate(shares(labels.bincount().tolist(), count)):
        of_class = (labels == label).nonzero().squeeze(1)
        if len(of_class) < share:
            raise ValueError(f"class {label} has {len(of_class)} images, {share} are asked for")
        chosen.append(of_class[torch.randperm(len(of_class), generator=generator)[:share]])
    return torch.cat(chosen).sort().values


def shares(images: Sequence[int], count: int) -> list[int]:
    """How many of `count` images each class gets, by how many it has: the largest remainder, the first class of equals.

    That is Hamilton's method; what it rounds down goes to the classes that lost most. Where there are as many as
    classes, a class that would get none gets one, of a class that has most of them.
    """
    total = sum(images)
    whole = [count * number // total for number in images]
    lost = sorted(range(len(images)), key=lambda label: -(count * images[label] % total))
    for label in lost[: count - sum(whole)]:
        whole[label] += 1
    for label in range(len(images)) if count >= len(images) else ():
        if images[label] > 1 and not whole[label]:
            whole[whole.index(max(whole))] -= 1
            whole[label] = 1
    return whole


def batches(images: int, batch_size: int, generator: torch.Generator, drop_last: bool = False) -> Iterator[Tensor]:
    """Shuffled indices, a batch at a time, on the generator's device; every image once unless `drop_last`."""
    order = torch.randperm(images, generator=generator, device=generator.device)
    end = images - images % batch_size if drop_last else images
    yield from order[:end].split(batch_size)


def batch_count(images: int, batch_size: int, drop_last: bool = False) -> int:
    """How many batches an epoch has."""
    return images // batch_size if drop_last else -(-images // batch_size)
