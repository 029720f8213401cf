"""Epoch records: made up, and compared without what is a matter of time."""

from dataclasses import asdict

from raycifar.storage.records import EpochRecord

TIMES = {"train_seconds", "val_seconds", "checkpoint_seconds", "images_per_second", "finished_at"}


def epoch_record(epoch=1, accuracy=0.5, loss=1.0):
    """A record with this validation; its times are 0."""
    seconds = dict.fromkeys(("train_seconds", "val_seconds", "checkpoint_seconds", "finished_at"), 0.0)
    train = {"lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "images_per_second": 1.0}
    return EpochRecord(epoch=epoch, val_loss=loss, val_accuracy=accuracy, **train, **seconds)


def numbers(records):
    """Each record's fields without its times, which no two runs have alike."""
    return [{key: value for key, value in asdict(record).items() if key not in TIMES} for record in records]
