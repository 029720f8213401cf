"""How long the report of 100 classes and 200 trials takes, and the report itself, to be looked at.

The images are real: CIFAR-10's and Fashion-MNIST's 20 classes, each in five of its eight turned and mirrored views,
thinned so that classes are unlike in size. So are the predictions: ridge regression on pooled pixels. They are no
results of a sweep, and networks do better.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmarks.common import Measured, Table, count, measured, parser, publish, surroundings
from raycifar.config.data import Data
from raycifar.config.datasets import BUILT_IN, CIFAR10, FASHION_MNIST, Facts
from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.data.sources import fetch_data
from raycifar.devices import versions
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import EpochRecord, History, Session, SweepRecord, TrialSummary

VIEWS = 5
MOST = {"train": 160, "test": 80}  # images of the largest class; the smallest has SMALLEST of that
SMALLEST = 0.08
HELD_OUT = 1_500
ARMS = {
    "coarse": (4, 30.0),
    "coarse-loose": (4, 0.3),
    "fine": (8, 30.0),
    "fine-loose": (8, 0.3),
}  # pooled side, penalty
EPOCHS = 4  # of which each sees as many more images
SHARPNESS = 8.0  # of the scores as logits


@dataclass(frozen=True, slots=True)
class Joined:
    """Images uint8 (N, 3, 32, 32) and labels int64 (N,) by split, and what is known of them."""

    images: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]
    facts: Facts


def joined() -> Joined:
    """All views of both data sets."""
    files = [load_file(fetch_data(Data(name=name))) for name in BUILT_IN]
    images, labels = dict[str, NDArray[np.uint8]](), dict[str, NDArray[np.int64]]()
    for split, most in MOST.items():
        shown = [_views(file, split, most, 50 * number) for number, file in enumerate(files)]
        images[split] = np.concatenate([picture for picture, _ in shown])
        labels[split] = np.concatenate([label for _, label in shown])
    classes = [*CIFAR10.classes, *FASHION_MNIST.classes]
    names = [f"{name}, view {view + 1}" for name in classes for view in range(VIEWS)]
    counts = {split: tuple(np.bincount(of, minlength=len(names)).tolist()) for split, of in labels.items()}
    facts = Facts(
        name="joined",
        title="CIFAR-10 and Fashion-MNIST, turned",
        classes=tuple(names),
        side=32,
        mean=(0.4,) * 3,
        std=(0.3,) * 3,
        mirror=False,
        digest="0" * 64,
        train=counts["train"],
        test=counts["test"],
    )
    return Joined(images, labels, facts)


def _views(file: dict[str, Any], split: str, most: int, first: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels, rows = file[f"{split}_images"], file[f"{split}_labels"], np.random.default_rng(0)
    shown, named = [], []
    for label in range(10):
        of_class = rows.permutation(np.flatnonzero(labels == label))
        for view in range(VIEWS):
            place = first + VIEWS * label + view
            number = round(most * SMALLEST ** ((37 * place % 100) / 99))
            chosen, of_class = of_class[:number], of_class[number:]
            turned = np.rot90(images[chosen], view % 4, axes=(2, 3))
            shown.append(turned if view < 4 else turned[..., ::-1])
            named.append(np.full(number, place))
    return np.concatenate(shown), np.concatenate(named)


def pooled(images: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Means of squares of pixels, (N, 3 * side * side + 1), and a constant."""
    step = images.shape[-1] // side
    means = images.reshape(len(images), 3, side, step, side, step).mean(axis=(3, 5), dtype=np.float32) / 255 - 0.5
    return np.hstack([means.reshape(len(images), -1), np.ones((len(images), 1), np.float32)])


def fitted(x: NDArray[np.float32], labels: NDArray[np.int64], penalty: float, classes: int) -> NDArray[np.float32]:
    """Ridge regression on the classes."""
    held_back = penalty * np.eye(x.shape[1], dtype=np.float32)
    return np.linalg.solve(x.T @ x + held_back, x.T @ np.eye(classes, dtype=np.float32)[labels])


def build(folder: SweepFolder, data: Joined, seeds: int) -> None:
    """A folder of results whose predictions are those of ridge regressions."""
    trials = [
        {
            "name": f"{arm}-{seed}",
            "arm": arm,
            "seed": seed,
            "epochs": EPOCHS,
            "model": {"weights": "random"},
            "augmentation": {"flip": "none"},
            "data": {"holdout_images": HELD_OUT},
        }
        for arm in ARMS
        for seed in range(1, seeds + 1)
    ]
    spec = SweepSpec.model_validate({"name": "joined", "trials": trials})
    folder.write_record(
        SweepRecord(
            name="joined",
            fingerprint=spec.fingerprint(),
            spec=spec.model_dump(mode="json"),
            source="benchmarks/report.py",
            created_at=time.time(),
            versions=versions(),
            commit=None,
            hardware="ridge regression, not a network",
            data=data.facts.digest,
            facts=data.facts.model_dump(mode="json"),
        )
    )
    features = {side: {split: pooled(of, side) for split, of in data.images.items()} for side, _ in ARMS.values()}
    for trial in spec.trials:
        _train(folder, trial.with_facts(data.facts), data, features[ARMS[trial.arm][0]])


def _train(folder: SweepFolder, trial: TrialSpec, data: Joined, features: dict[str, NDArray[np.float32]]) -> None:
    """Each epoch fits more of the images; the test is that of the best by the held-out ones."""
    rows = np.random.default_rng(trial.seed).permutation(len(data.labels["train"]))
    held_out, train = rows[:HELD_OUT], rows[HELD_OUT:]
    x, y, classes = features["train"], data.labels["train"], len(data.facts.classes)
    epochs, best, start = [], (-1.0, features["test"][:0]), time.time()
    for number in range(1, EPOCHS + 1):
        began, seen = time.time(), train[: len(train) * number // EPOCHS]
        weights = fitted(x[seen], y[seen], ARMS[trial.arm][1], classes)
        accuracies = [float(np.mean((x[of] @ weights).argmax(1) == y[of])) for of in (seen, held_out)]
        best = max(best, (accuracies[1], weights), key=lambda one: one[0])
        epochs.append(_epoch(number, accuracies, time.time() - began, len(seen)))
    logits = SHARPNESS * (features["test"] @ best[1])
    labels = data.labels["test"]
    _write(folder, trial, History(epochs, [_session(start)]), logits, labels, best[0])


def _epoch(number: int, accuracies: list[float], seconds: float, images: int) -> EpochRecord:
    train, val = accuracies
    return EpochRecord(
        epoch=number,
        lr=0.0,
        train_loss=1 - train,
        train_accuracy=train,
        val_loss=1 - val,
        val_accuracy=val,
        train_seconds=seconds,
        val_seconds=0.0,
        checkpoint_seconds=0.0,
        images_per_second=images / max(seconds, 1e-6),
        finished_at=time.time(),
    )


def _session(start: float) -> Session:
    return Session(
        started_at=start,
        ended_at=time.time(),
        startup_seconds=0.0,
        first_epoch=1,
        host="here",
        device="CPU",
        device_kind="cpu",
        devices=["here:cpu"],
        threads=1,
    )


def _write(
    folder: SweepFolder,
    trial: TrialSpec,
    history: History,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    best: float,
) -> None:
    place, right = folder.trial(trial.name), float((logits.argmax(1) == labels).mean())
    place.path.mkdir()
    place.write_history(history)
    np.savez(place.predictions, logits=logits, labels=labels, index=np.arange(len(labels)))
    train, val, test = trial.data.images
    place.write_summary(
        TrialSummary(
            trial=trial.name,
            arm=trial.arm,
            seed=trial.seed,
            fingerprint=trial.fingerprint(),
            validation="holdout",
            epochs_planned=EPOCHS,
            epochs_run=EPOCHS,
            stopped_early=False,
            best_epoch=EPOCHS,
            best_val_accuracy=best,
            best_val_loss=1 - best,
            test_loss=1 - right,
            test_accuracy=right,
            test_accuracy_flip=None,
            train_images=train,
            val_images=val,
            test_images=test,
            parameters=1,
            train_seconds=1.0,
            val_seconds=0.0,
            checkpoint_seconds=0.0,
            startup_seconds=0.0,
            test_seconds=0.0,
            finished_at=time.time(),
            precision="fp32",
            workers=1,
            versions=versions(),
        )
    )


def seconds(folder: Path, data: Joined, rounds: int) -> Measured:
    """How long analyze.py takes, with the images in a cache of its own."""
    cache = folder / "cache"
    cache.mkdir()
    tensors = {"test_images": data.images["test"], "test_labels": data.labels["test"]}
    save_file({name: np.ascontiguousarray(of) for name, of in tensors.items()}, cache / data.facts.file_name)
    command, taken = [sys.executable, "-m", "raycifar", "analyze", str(folder)], []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "RAYCIFAR_CACHE": str(cache)})
        taken.append(time.perf_counter() - start)
    return measured(taken)


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit status."""
    options = parser("report", __doc__, rounds=3)
    options.add_argument("--seeds", type=count, default=50, help="of each of the arms (default: %(default)s)")
    options.add_argument("--keep", type=Path, metavar="DIR", help="a new folder, in which results and report stay")
    args, where, data = options.parse_args(argv), surroundings(), joined()
    with TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch, "joined")
        folder.mkdir(parents=True)
        build(SweepFolder(folder), data, args.seeds)
        taken = seconds(folder, data, args.rounds)
    facts, trials = data.facts, len(ARMS) * args.seeds
    row = (trials, len(facts.classes), facts.test_images, max(facts.test) / min(facts.test), taken)
    columns = ("trials", "classes", "test images", "largest class / smallest", "analyze.py, s")
    publish(args, where, [Table("", columns, [row])])
    return 0


if __name__ == "__main__":
    sys.exit(main())
