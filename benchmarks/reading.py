"""Reading the user's own images: a folder of JPEG files decoded, checked and stored, beside a plain loop with Pillow.

The files are CIFAR-10's training images, enlarged. The plain loop opens, converts, fits and stacks one image after the
other, on one core; it checks nothing. Both run in processes of their own, whose memory is looked at twice a second.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import load_file, save_file

from benchmarks.common import Measured, Table, count, parser, publish, refuse, surroundings
from benchmarks.processes import watched
from raycifar.config.data import Data
from raycifar.config.datasets import CIFAR10
from raycifar.data.cifar10 import fetch_cifar10
from raycifar.data.own.images import fetch_own
from raycifar.storage.asset_cache import AssetError

SIZE, SIDE = (400, 300), 64


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    if args.only:
        WAYS[args.only](args.folder)
        return 0
    try:
        source = fetch_cifar10()
    except AssetError as why:
        return refuse("reading", why)
    where = surroundings()
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_images(source, Path(scratch) / "images", args.images)
        turns = [{way: _run(way, folder, Path(scratch)) for way in WAYS} for _ in range(args.rounds)]
    publish(args, where, [_table(turns, args.images)])
    return 0


def write_images(source: Path, folder: Path, images: int) -> Path:
    """JPEG files of CIFAR-10's first training images, a folder a class."""
    tensors = load_file(source)
    for number, label in enumerate(tensors["train_labels"][:images]):
        below = folder / CIFAR10.classes[label]
        below.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.ascontiguousarray(tensors["train_images"][number].transpose(1, 2, 0)))
        image.resize(SIZE, Image.Resampling.BICUBIC).save(below / f"{number}.jpg", quality=90)
    return folder


def plain(folder: Path) -> None:
    """As one writes it in a script."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    images = [
        np.asarray(ImageOps.fit(Image.open(path).convert("RGB"), (SIDE, SIDE)))
        for path in sorted(folder.rglob("*.jpg"))
    ]
    save_file({"images": np.stack(images)}, Path(os.environ["RAYCIFAR_CACHE"]) / "plain.safetensors")


def ours(folder: Path) -> None:
    fetch_own(Data(path=str(folder), side=SIDE))


WAYS: dict[str, Callable[[Path], None]] = {"plain": plain, "raycifar": ours}


def _run(way: str, folder: Path, scratch: Path) -> tuple[float, float]:
    """Seconds, and the most memory in bytes."""
    cache = scratch / "cache"
    cache.mkdir()
    with watched() as peak:
        start = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.reading", f"--only={way}", f"--folder={folder}"]
        subprocess.run(command, check=True, env={**os.environ, "RAYCIFAR_CACHE": str(cache)})
        seconds = time.perf_counter() - start
    shutil.rmtree(cache)
    return seconds, peak.memory


def _table(turns: Sequence[dict[str, tuple[float, float]]], images: int) -> Table:
    seconds = {way: Measured(tuple(turn[way][0] for turn in turns)) for way in WAYS}
    memory = {way: Measured(tuple(turn[way][1] / 1e6 for turn in turns)) for way in WAYS}
    rates = {way: Measured(tuple(images / value for value in found.values)) for way, found in seconds.items()}
    rows = [(way, rates[way], rates[way].over(rates["plain"]), memory[way]) for way in WAYS]
    size = f"{SIZE[0]} x {SIZE[1]} pixels, stored at {SIDE} x {SIDE}"
    return Table(f"{images:,} JPEG files of {size}", ("", "images/s", "times the plain loop", "memory, MB"), rows)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("reading", (__doc__ or "").partition("\n\n")[0], rounds=3)
    made.add_argument("--images", type=count, default=20_000, help="of a round (default: %(default)s)")
    made.add_argument("--only", choices=sorted(WAYS), help=argparse.SUPPRESS)
    made.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
