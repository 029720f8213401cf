"""Training steps of a network of torchvision on one CPU thread: with our 3x3 convolutions, and with PyTorch's own.

Both are channels_last, with the same weights, images and precision, and take turns step by step in one process. What is
counted is CPU time, so that a busy machine changes little.
"""

import argparse
import copy
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.common import Measured, Table, count, parser, publish, surroundings
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.networks.convolution import Convolution
from raycifar.networks.registry import build_network
from raycifar.training.precision import resolve_precision

BATCH = 128
OURS, THEIRS = "raycifar's convolutions", "PyTorch's convolutions"


def main(arguments: Sequence[str] | None = None) -> int:
    args, where = _parse(arguments), surroundings()
    torch.set_num_threads(1)
    rows = []
    for precision in dict.fromkeys(("fp32", resolve_precision("auto", torch.device("cpu")))):
        found = measure(args.network, args.side, precision, args.rounds)
        rows += [(f"{name}, {precision}", rates, found[OURS].over(rates)) for name, rates in found.items()]
    title = f"{args.network} at {args.side} pixels a side"
    publish(args, where, [Table(title, ("", "images per CPU-second", "ours over it"), rows, f"Batches of {BATCH}.")])
    return 0


def networks(name: str, side: int) -> dict[str, nn.Module]:
    """The same network twice."""
    ours = build_network(Model(name=name, weights="random", side=side), CIFAR10, 1).train()
    theirs = copy.deepcopy(ours)
    for layer in theirs.modules():
        if isinstance(layer, Convolution):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
    return {OURS: ours, THEIRS: theirs}


def measure(name: str, side: int, precision: str, rounds: int) -> dict[str, Measured]:
    """Interleaved steps after one to warm up."""
    images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(BATCH) % 10
    both = networks(name, side)
    steps = {key: torch.optim.SGD(network.parameters(), 0.01, momentum=0.9) for key, network in both.items()}
    turns = []
    for _ in range(rounds + 1):
        turns.append({key: _rate(network, steps[key], images, labels, precision) for key, network in both.items()})
    return {key: Measured(tuple(turn[key] for turn in turns[1:])) for key in both}


def _rate(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, precision: str
) -> float:
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return BATCH / (time.process_time() - start)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("networks", (__doc__ or "").partition("\n\n")[0], rounds=9)
    made.add_argument("--network", default="torchvision/resnet18", help="its name (default: %(default)s)")
    made.add_argument("--side", type=count, default=32, help="in pixels, that it sees (default: %(default)s)")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
