"""Folders of searches, as a search would have left them."""

from pathlib import Path
from typing import Any

from raycifar.search.records import FINISHED, STOPPED, SampleRecord, SearchFolder, SearchRecord
from raycifar.search.spec import SearchSpec, load_search
from raycifar.storage.records import EpochRecord, History

FILE = """
[[trials]]
name = "tiny"
epochs = 2
batch_size = 20
model = { weights = "random", train = "head" }
data = { train_images = 40, holdout_images = 20 }
[search]
samples = 4
reduction = 2
[search.space]
optimizer.lr = { loguniform = [1e-4, 1e-1] }
model.dropout = { uniform = [0.0, 0.5] }
augmentation.cutout = { choice = [0, 8] }
batch_size = { int = [10, 20] }
"""
SETTINGS = {"optimizer.lr": 0.0123456, "model.dropout": 0.25, "augmentation.cutout": 8, "batch_size": 16}


def epoch(number: int, val_accuracy: float) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        lr=0.01,
        train_loss=2.0,
        train_accuracy=0.2,
        val_loss=2.0,
        val_accuracy=val_accuracy,
        train_seconds=1.0,
        val_seconds=0.1,
        checkpoint_seconds=0.0,
        images_per_second=40.0,
        finished_at=1.7e9 + number,
    )


def write_record(path: Path) -> None:
    """The record of FILE's search."""
    (path.parent / "search.toml").write_text(FILE)
    search = load_search(path.parent / "search.toml")
    assert search is not None
    about: dict[str, Any] = {
        "source": "search.toml",
        "created_at": 1.7e9,
        "versions": {},
        "commit": None,
        "hardware": "",
    }
    record = SearchRecord(name=path.name, spec=search.model_dump(mode="json"), asks=search.asks, **about)
    SearchFolder(path).write_record(record)


def write_samples(folder: SearchFolder, search: SearchSpec, accuracies: dict[str, list[float]]) -> None:
    """Samples that have ended, by the validation accuracies of their epochs."""
    known = {sample.name: sample.settings for sample in folder.samples()}
    for name, values in accuracies.items():
        finished = len(values) == search.trial.epochs
        sample = SampleRecord(
            name=name,
            settings=known.get(name, SETTINGS),
            outcome=FINISHED if finished else STOPPED,
            epochs_run=len(values),
            best_epoch=values.index(max(values)) + 1,
            best_val_accuracy=max(values),
        )
        folder.write_sample(sample)
        folder.trial(name).write_history(History([epoch(i, value) for i, value in enumerate(values, 1)]))
