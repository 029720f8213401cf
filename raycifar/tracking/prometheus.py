"""The newest epoch of every trial on Ray's metrics endpoint, where Prometheus finds it; `grafana.json` draws it."""

import time

from ray.util.metrics import Gauge

from raycifar.storage.records import EpochRecord, TrialSummary
from raycifar.tracking.listener import Listener

# Ray puts "ray_" before each name.
EPOCH = {
    "epoch": "The last finished epoch",
    "train_accuracy": "Training accuracy, of augmented images, a fraction",
    "val_accuracy": "Validation accuracy, a fraction",
    "train_loss": "Training loss, in nats",
    "val_loss": "Validation loss, in nats",
    "lr": "Learning rate of the epoch's last step",
    "images_per_second": "Training images per second",
}
TEST = {"test_accuracy": "Test accuracy of the best epoch's weights, a fraction"}


class Gauges(Listener):
    """One Prometheus gauge a figure, with the tags `sweep` and `trial`."""

    def __init__(self, sweep: str) -> None:
        self._sweep = sweep
        self._gauges = {
            name: Gauge(f"raycifar_{name}", description, ("sweep", "trial"))
            for name, description in (EPOCH | TEST).items()
        }
        self._values: dict[tuple[str, str], float] = {}  # by gauge and trial
        self._set_at = 0.0

    def epoch(self, trial: str, record: EpochRecord) -> None:
        self._values |= {(name, trial): getattr(record, name) for name in EPOCH}
        self._set()

    def summary(self, trial: str, summary: TrialSummary) -> None:
        self._values |= {(name, trial): getattr(summary, name) for name in TEST}
        self._set()

    def refresh(self) -> None:
        """Ray drops a gauge that is not set again within two of its reports (ten seconds each): call this often."""
        if time.monotonic() - self._set_at > 1:
            self._set()

    def _set(self) -> None:
        self._set_at = time.monotonic()
        for (name, trial), value in self._values.items():
            self._gauges[name].set(value, {"sweep": self._sweep, "trial": trial})
