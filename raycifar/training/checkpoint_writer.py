"""Checkpoints written behind the training: a fast device does not wait for a slow disk."""

import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from raycifar.storage.checkpoints import save_checkpoint
from raycifar.storage.records import History
from raycifar.training.loop import TrainState

# Of an epoch's time. A write that takes less is waited for, so that a finished epoch is a saved one.
AFFORDABLE = 0.02


class CheckpointWriter:
    """Saves one trial's state from a thread of its own; leaving the `with` block waits for it.

    Where writing takes longer than AFFORDABLE of an epoch, the next epochs train meanwhile, and those that end before
    it is done have no checkpoint of their own: a crash costs at most the time of two writes. Best weights are part of
    every state, so no best epoch is lost.
    """

    def __init__(self, folder: Path, first_seconds: float = 0.0) -> None:
        """`first_seconds`: what the first write is taken to last."""
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[Path] | None = None
        self._seconds = first_seconds  # the last write's

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def save(self, state: TrainState, history: History, last: bool) -> Path | None:
        """Save the state after the history's last epoch, now, soon, or (while busy, unless it is the last) not at all.

        Returns the newest checkpoint that has been completed since the call before. Raises what writing raises.
        """
        done = self._completed(wait=last)
        if self._writing is None:
            self._writing = self._thread.submit(self._write, *_snapshot(state, history))
            epoch = history.epochs[-1]
            affordable = self._seconds <= AFFORDABLE * (epoch.train_seconds + epoch.val_seconds)
            done = self._completed(wait=last or affordable) or done
        return done

    def _completed(self, wait: bool) -> Path | None:
        if self._writing is None or not (wait or self._writing.done()):
            return None
        path = self._writing.result()
        self._writing = None
        return path

    def _write(self, state: dict[str, Any], history: History, stream: torch.cuda.Stream | None) -> Path:
        start = time.perf_counter()
        with torch.cuda.stream(stream):
            path = save_checkpoint(self._folder, state, history)
        self._seconds = time.perf_counter() - start
        return path


def _snapshot(state: TrainState, history: History) -> tuple[dict[str, Any], History, torch.cuda.Stream | None]:
    """Both as they are now, and the stream to read the state on: on the training's, a copy would queue behind steps."""
    copied, records = copy.deepcopy(state.state_dict()), History(list(history.epochs), list(history.sessions))
    if state.device.type != "cuda":
        return copied, records, None
    stream = torch.cuda.Stream(state.device)
    stream.wait_stream(torch.cuda.current_stream(state.device))
    return copied, records, stream
