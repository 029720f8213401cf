"""Input pipelines: CIFAR-10 images a CPU-second, cropped, mirrored, normalised, in batches of 128; one thread each.

Ours is the batched gather of `augment.py` with the normalisation of `vgg.py`; the others are torchvision's, image by
image. What is counted is the CPU time of the process, so that a busy machine changes little. Images that stay in their
file (`data/mapped.py`) are measured beside those in memory twice: as an input alone, and in training steps of VGG16.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from benchmarks.common import Measured, Table, count, measured, parser, publish, refuse, surroundings
from benchmarks.peers import CROP, torchvision_loader
from raycifar.config.data import Data
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Augmentation
from raycifar.config.sweep import TrialSpec
from raycifar.data.augment import Augmenter
from raycifar.data.cifar10 import fetch_cifar10
from raycifar.data.mapped import Mapped, ReadAhead
from raycifar.data.splits import Split, batches, load_training
from raycifar.devices import cpu_count
from raycifar.networks.network import normalised
from raycifar.networks.registry import build_network
from raycifar.storage.asset_cache import AssetError
from raycifar.training.loop import TrainState, step_of

BATCH = 128
OURS = "raycifar, batched gather"
FROM_FILE = "the same, read from the file ahead"
AUGMENTATION = Augmentation(crop=CROP, flip="random")
TRIAL = {"name": "input", "arm": "input", "seed": 1, "epochs": 1, "batch_size": BATCH, "model": {"weights": "random"}}


def ours(train: Split) -> Iterable[Tensor]:
    augment = Augmenter.of(train, AUGMENTATION, seed=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10.mean, CIFAR10.std))
    generator = torch.Generator().manual_seed(1)
    while True:
        for index in batches(len(train), BATCH, generator, drop_last=True):
            yield normalised(augment(index, 1, generator), mean, std)


def from_file(train: Split) -> Iterable[Tensor]:
    augment = Augmenter.of(train, AUGMENTATION, seed=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10.mean, CIFAR10.std))
    generator, source = torch.Generator().manual_seed(1), ReadAhead(mapped(train), BATCH)
    while True:
        for index in source.ahead(batches(len(train), BATCH, generator, drop_last=True)):
            yield normalised(augment(index, 1, generator, source.read(index)), mean, std)


def mapped(train: Split) -> Mapped:
    """The images of a split that stayed in its file, or stand for some that did."""
    images = train.images
    return images if isinstance(images, Mapped) else Mapped(images, torch.arange(len(images)), images.device)


def torchvision_pil(train: Split) -> Iterable[Tensor]:
    loader = torchvision_loader(train, BATCH, workers=0)
    while True:
        for images, _ in loader:
            yield images


def torchvision_v2(train: Split) -> Iterable[Tensor]:
    steps = [
        v2.RandomCrop(32, padding=CROP),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(CIFAR10.mean, CIFAR10.std),
    ]
    transform = v2.Compose(steps)

    def collate(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([transform(image) for image, _ in pairs])

    loader = DataLoader(TensorDataset(train.images[:], train.labels), BATCH, shuffle=True, collate_fn=collate)
    while True:
        yield from loader


PIPELINES: dict[str, Callable[[Split], Iterable[Tensor]]] = {
    OURS: ours,
    FROM_FILE: from_file,
    "torchvision, PIL": torchvision_pil,
    "torchvision v2, tensors": torchvision_v2,
}


def rate(pipeline: Iterable[Tensor], images: int) -> float:
    """Images a CPU-second over at least so many images."""
    start, seen = time.process_time(), 0
    for batch in pipeline:
        seen += len(batch)
        if seen >= images:
            break
    return seen / (time.process_time() - start)


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    where = surroundings()
    try:
        path = fetch_cifar10()
    except AssetError as error:
        return refuse("input", error)
    train, in_file = (load_training(path, Data(), resident=resident).train for resident in (True, False))
    torch.set_num_threads(1)
    found = measure(train, in_file, args.rounds, args.images)
    rows = [(name, rates, rates.beside(found[OURS])) for name, rates in found.items()]
    note = f"{args.images:,} images a round, {10 * args.images:,} of ours."
    tables = [Table("Input", ("", "images per CPU-second", "ours over it"), rows, note)]
    if args.steps:
        torch.set_num_threads(cpu_count())
        tables.append(training_table(train, in_file, args.rounds, args.steps))
    publish(args, where, tables)
    return 0


def measure(train: Split, in_file: Split, rounds: int, images: int) -> dict[str, Measured]:
    """Interleaved rounds after one to warm up; ours is so fast that it takes ten times the images."""
    running = {name: iter(pipeline(in_file if name == FROM_FILE else train)) for name, pipeline in PIPELINES.items()}
    turns = [
        {name: rate(pipeline, images * (10 if name in (OURS, FROM_FILE) else 1)) for name, pipeline in running.items()}
        for _ in range(rounds + 1)
    ]
    return {name: Measured(tuple(turn[name] for turn in turns[1:])) for name in running}


def training_table(train: Split, in_file: Split, rounds: int, steps: int) -> Table:
    """Training steps of VGG16 on images in memory and on images in their file, in turns whose order alternates."""
    spec = TrialSpec.model_validate({**TRIAL, "augmentation": AUGMENTATION})
    running = {"in memory": stepper(train, spec), "in the file, read ahead": stepper(in_file, spec)}
    turns = []
    for number in range(rounds + 1):
        order = list(running) if number % 2 else list(running)[::-1]
        turns.append({name: timed(running[name], steps) for name in order})
    clocks = {name: [measured(turn[name][clock] for turn in turns[1:]) for clock in (0, 1)] for name in running}
    resident = clocks["in memory"]
    rows: list[tuple[str | Measured, ...]] = []
    for name, of in clocks.items():
        rows.append((name, *of, *(mine.over(theirs) for mine, theirs in zip(of, resident, strict=True))))
    columns = ("VGG16, batch 128", "images/s", "images per CPU-second", "images/s over in memory", "by CPU-seconds")
    return Table("Training", columns, rows, f"{steps} steps a turn, {cpu_count()} threads.")


def stepper(train: Split, spec: TrialSpec) -> Iterator[int]:
    """Trains a batch at a time, and yields how many images it had."""
    state = TrainState(build_network(spec.model, spec.data.facts, spec.seed), spec)
    step = step_of(state, train, spec)
    while True:
        for index in step.ahead(batches(len(train), BATCH, step.generator, drop_last=True)):
            step(index, 1, 1e-3)
            yield len(index)


def timed(training: Iterator[int], steps: int) -> tuple[float, float]:
    """Images a second, by the clock and by the process's CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    images = sum(islice(training, steps))
    return images / (time.perf_counter() - clock), images / (time.process_time() - cpu)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("input", (__doc__ or "").partition("\n\n")[0], rounds=5)
    made.add_argument("--images", type=count, default=10_000, help="of a round (default: %(default)s)")
    made.add_argument("--steps", type=int, default=4, help="of a turn of training; 0: none (default: %(default)s)")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
