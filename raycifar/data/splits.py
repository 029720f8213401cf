"""A data set as tensors on the training device: the splits, and the order in which batches take their images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from raycifar.config.settings import Data

# Tensors of the file that say more of the test images: each one's group, and whether one that trains is nearly equal.
TEST_NOTES = ("groups", "near")
SPLIT_SEED = 0  # draws the test subset, which is the same for every trial


@dataclass(frozen=True, slots=True)
class Split:
    """images uint8 (N, 3, H, W), labels int64 (N,), on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Split":
        return Split(self.images[index], self.labels[index])

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


def load_splits(path: Path, spec: Data, device: torch.device | str = "cpu") -> Splits:
    """Read the cached data set (memory-mapped until it moves to `device`) and cut the splits that `spec` asks for."""
    device = torch.device(device)
    tensors = load_file(path)
    training = _training(Split(tensors["train_images"], tensors["train_labels"]), spec, device)
    test = Split(tensors["test_images"], tensors["test_labels"])
    chosen = stratified(test.labels, spec.test_images) if spec.test_images else torch.arange(len(test))
    notes = {name: tensors[f"test_{name}"][chosen] for name in TEST_NOTES if f"test_{name}" in tensors}
    return Splits(training.train, training.val, test.take(chosen).to(device), chosen, notes)


def load_training(path: Path, spec: Data, device: torch.device | str = "cpu") -> Training:
    """As load_splits, but the test images and their labels are not read."""
    with safe_open(path, "pt") as file:
        everything = Split(file.get_tensor("train_images"), file.get_tensor("train_labels"))
    return _training(everything, spec, torch.device(device))


def _training(everything: Split, spec: Data, device: torch.device) -> Training:
    held_out, train = train_val_indices(everything.labels, spec)
    train_split = everything.take(train).to(device)
    val = train_split if spec.validation == "train" else everything.take(held_out).to(device)
    return Training(train_split, val)


def train_val_indices(labels: Tensor, spec: Data) -> tuple[Tensor, Tensor]:
    """Sorted indices of the held-out images (none when validation is "train") and of the training images.

    Raises ValueError where the spec leaves its `split_seed` to the trial: TrialSpec.own_data has the trial's.
    """
    if isinstance(spec.split_seed, str):
        raise ValueError(f"data.split_seed = {spec.split_seed!r} is no number yet")
    count = spec.holdout_images if spec.validation == "holdout" else 0
    held_out = stratified(labels, count, spec.split_seed)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[held_out] = False
    train = rest.nonzero().squeeze(1)
    if spec.train_images:
        train = train[stratified(labels[train], spec.train_images, spec.split_seed)]
    return held_out, train


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

    That is Hamilton's method; what it rounds down goes to the classes that lost most.
    """
    total = sum(images)
    whole = [count * number // total for number in images]
    lost = sorted(range(len(images)), key=lambda label: -(count * images[label] % total))
    for label in lost[: count - sum(whole)]:
        whole[label] += 1
    return whole


def batches(images: int, batch_size: int, generator: torch.Generator, drop_last: bool = False) -> Iterator[Tensor]:
    """Shuffled indices, a batch at a time, on the generator's device; every image once unless `drop_last`."""
    order = torch.randperm(images, generator=generator, device=generator.device)
    end = images - images % batch_size if drop_last else images
    yield from order[:end].split(batch_size)


def batch_count(images: int, batch_size: int, drop_last: bool = False) -> int:
    """How many batches an epoch has."""
    return images // batch_size if drop_last else -(-images // batch_size)
