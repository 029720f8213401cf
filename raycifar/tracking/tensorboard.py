"""TensorBoard's files: one run a trial, also after a resume, with an epoch as the step."""

import time

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from raycifar.storage.beneath import delete, names_in
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.records import EpochRecord, TrialSummary
from raycifar.storage.written import EVENTS
from raycifar.tracking.listener import Listener, Start

TAGS = {
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "val_accuracy",
    "loss/train": "train_loss",
    "loss/validation": "val_loss",
    "learning_rate": "lr",
    "speed/images_per_second": "images_per_second",
    "speed/train_seconds": "train_seconds",
    "speed/val_seconds": "val_seconds",
}


class TensorBoard(Listener):
    """A trial that starts again replaces its earlier file by one that begins at epoch 1."""

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._writers: dict[str, EventsWriter] = {}
        self._heard: dict[str, dict[int, EpochRecord]] = {}  # by epoch; of these some may not be saved

    def start(self, trial: str, start: Start) -> None:
        self._close(trial)
        self._writers[trial] = _fresh_writer(self._folder.trial(trial))
        saved = {record.epoch: record for record in start.epochs}
        for _, record in sorted((saved | self._heard.get(trial, {})).items()):
            self.epoch(trial, record)

    def state(self, trial: str, state: str, note: str = "") -> None:
        if state in ("done", "failed"):
            self._close(trial)

    def epoch(self, trial: str, record: EpochRecord) -> None:
        self._heard.setdefault(trial, {})[record.epoch] = record
        for tag, field in TAGS.items():
            self._add(trial, tag, getattr(record, field), record.epoch, record.finished_at)
        self._writers[trial].flush()

    def summary(self, trial: str, summary: TrialSummary) -> None:
        """The tested weights' figures, at the epoch that they are of."""
        self._add(trial, "accuracy/test", summary.test_accuracy, summary.best_epoch, time.time())
        self._add(trial, "loss/test", summary.test_loss, summary.best_epoch, time.time())

    def _add(self, trial: str, tag: str, value: float, step: int, at: float) -> None:
        """In this thread: a Ctrl-C as SummaryWriter fills its queue may leave its threads waiting for ever."""
        self._writers[trial].write_event(Event(summary=scalar(tag, value), step=step, wall_time=at))

    def close(self) -> None:
        for trial in list(self._writers):
            self._close(trial)

    def _close(self, trial: str) -> None:
        if writer := self._writers.pop(trial, None):
            writer.close()


def _fresh_writer(trial: TrialFolder) -> EventsWriter:
    for name in names_in(trial.files):
        if EVENTS.fullmatch(name):
            delete(trial.files / name)
    return EventsWriter(str(trial.path / "events"))
