"""Input pipelines: CIFAR-10 images a CPU-second, cropped, mirrored, normalised, in batches of 128; one thread each.

Ours is the batched gather of `augment.py` with the normalisation of `vgg.py`; the others are torchvision's, image by
image. What is counted is the CPU time of the process, so that a busy machine changes little.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from benchmarks.common import Measured, Table, count, parser, publish, refuse, surroundings
from benchmarks.peers import CROP, torchvision_loader
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Augmentation, Data
from raycifar.data.augment import Augmenter
from raycifar.data.cifar10 import fetch_cifar10
from raycifar.data.splits import Split, batches, load_splits
from raycifar.networks.network import normalised
from raycifar.storage.asset_cache import AssetError

BATCH = 128
OURS = "raycifar, batched gather"


def ours(train: Split) -> Iterable[Tensor]:
    augment = Augmenter.of(train, Augmentation(crop=CROP, flip="random"), seed=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10.mean, CIFAR10.std))
    generator = torch.Generator().manual_seed(1)
    while True:
        for index in batches(len(train), BATCH, generator, drop_last=True):
            yield normalised(augment(index, 1, generator), mean, std)


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
        train = load_splits(fetch_cifar10(), Data()).train
    except AssetError as error:
        return refuse("input", error)
    torch.set_num_threads(1)
    found = measure(train, args.rounds, args.images)
    rows = [(name, rates, rates.beside(found[OURS])) for name, rates in found.items()]
    note = f"{args.images:,} images a round, {10 * args.images:,} of ours."
    publish(args, where, [Table("Input", ("", "images per CPU-second", "ours over it"), rows, note)])
    return 0


def measure(train: Split, rounds: int, images: int) -> dict[str, Measured]:
    """Interleaved rounds after one to warm up; ours is so fast that it takes ten times the images."""
    running = {name: iter(pipeline(train)) for name, pipeline in PIPELINES.items()}
    turns = [
        {name: rate(pipeline, images * (10 if name == OURS else 1)) for name, pipeline in running.items()}
        for _ in range(rounds + 1)
    ]
    return {name: Measured(tuple(turn[name] for turn in turns[1:])) for name in running}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("input", (__doc__ or "").partition("\n\n")[0], rounds=5)
    made.add_argument("--images", type=count, default=10_000, help="of a round (default: %(default)s)")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
