"""How long a running sweep still takes, from what its trials have taken so far: starts, epochs and tests."""

import heapq
import time
from collections import deque
from collections.abc import Mapping
from statistics import fmean

from raycifar.config.sweep import TrialSpec
from raycifar.networks.cost import work
from raycifar.storage.records import EpochRecord
from raycifar.tracking.live_table import RUNNING, Row

RECENT = 5  # epochs, starts and tests of any trial: what runs beside the sweep may have changed since older ones
OVER = ("testing", "done", "failed")


class Estimate:
    """Hears of the rows what the terminal hears, before the terminal changes them. Times are time.monotonic()'s."""

    def __init__(self, rows: Mapping[str, Row], are_tested: bool = True) -> None:
        self._rows, self._are_tested = rows, are_tested
        self._flops = {name: work(row.spec) / row.spec.epochs for name, row in rows.items()}  # an epoch
        self._epochs = deque[tuple[float, float]](maxlen=RECENT)  # operations, seconds
        self._starts = deque[float](maxlen=RECENT)
        self._tests = deque[tuple[float, float]](maxlen=RECENT)  # operations of an epoch of that trial, seconds
        self._began: dict[str, float] = {}  # trials that have had no epoch in this session
        self._testing: dict[str, float] = {}
        self._most = 1  # trials that ran at the same time

    def state(self, trial: str, state: str) -> None:
        now = time.monotonic()
        if state in ("starting", "resumed"):
            self._began[trial] = now
        elif state == "testing":
            self._testing[trial] = now
        elif state == "done" and trial in self._testing:
            self._tests.append((self._flops[trial], now - self._testing.pop(trial)))

    def epoch(self, trial: str, record: EpochRecord, seconds: float) -> None:
        """`seconds`: the whole epoch's. A trial's first one tells how long its start took."""
        self._epochs.append((self._flops[trial], seconds))
        if (began := self._began.pop(trial, None)) is not None:
            start = time.monotonic() - began - record.train_seconds - record.val_seconds
            self._starts.append(max(start, 0.0))

    @property
    def is_rough(self) -> bool:
        """Whether an arm that still has to train has had no epoch in this call."""
        timed = {row.spec.arm for row in self._rows.values() if row.seconds}
        return any(row.state not in OVER and row.spec.arm not in timed for row in self._rows.values())

    def seconds_left(self) -> float:
        """Each trial that waits starts, longest first, where one ends. 0 before any epoch has ended."""
        if not self._epochs:
            return 0.0
        rows = self._rows.values()
        of_arm = {row.spec.arm: mean_epoch(row) for row in rows if row.seconds}
        ends = [self._left(row, of_arm) for row in rows if row.state in RUNNING]
        self._most = max(self._most, len(ends))
        ends += [0.0] * (self._most - len(ends))
        heapq.heapify(ends)
        for row in sorted((row for row in rows if row.state == "waiting"), key=lambda row: -work(row.spec)):
            heapq.heapreplace(ends, ends[0] + self._left(row, of_arm))
        return max(ends)

    def _left(self, row: Row, of_arm: Mapping[str, float]) -> float:
        epochs = row.spec.epochs - (row.last.epoch if row.last else 0)
        if epochs <= 0 or row.state in OVER:
            return 0.0
        test = self._test(row)
        if row.seconds:
            return row.seconds_left(mean_epoch(row)) + test
        start = fmean(self._starts) if self._starts else 0.0
        an_epoch = of_arm.get(row.spec.arm) or self._scaled(self._epochs, row)
        began = self._began.get(row.spec.name)
        since = 0.0 if began is None else time.monotonic() - began
        return start + an_epoch * epochs - min(since, start + an_epoch) + test

    def _scaled(self, measured: deque[tuple[float, float]], row: Row) -> float:
        """Seconds of other trials, by their number of operations and the row's."""
        return self._flops[row.spec.name] * sum(s for _, s in measured) / sum(flops for flops, _ in measured)

    def _test(self, row: Row) -> float:
        """As long as tests took; before any has ended, by the newest validation's speed."""
        if not self._are_tested:
            return 0.0
        if self._tests:
            return self._scaled(self._tests, row)
        known = [other for other in (row, *self._rows.values()) if other.last]
        return test_seconds(known[0].spec, known[0].epochs[-1]) if known else 0.0


def test_seconds(spec: TrialSpec, record: EpochRecord) -> float:
    """How long a test takes, by a validation's speed: it may see each test image twice, once as its mirror image.

    Where the trial measures itself on its training images, too, each of them is seen once.
    """
    train, val, test = spec.data.images
    tests = 2 if spec.data.facts.mirror else 1
    return record.val_seconds * (tests * test + spec.data.measure_training * train) / val


def mean_epoch(row: Row) -> float:
    """Of this session; without its first epoch, which may compile, where others follow."""
    return fmean(row.seconds[1:] if len(row.seconds) > 2 else row.seconds)
