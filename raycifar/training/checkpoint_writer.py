"""Checkpoints written behind the training: a fast device does not wait for a slow disk."""

import copy
import math
import pickle
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from raycifar.storage.checkpoints import write_checkpoint
from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import History
from raycifar.storage.tensor_files import check_pickles, check_saved
from raycifar.texts import in_one_line, printable
from raycifar.training.failures import CheckpointError
from raycifar.training.loop import TrainState

# Share of an epoch's time. A write that takes less is waited for, so that a finished epoch is a saved one.
AFFORDABLE = 0.02


def save_checkpoint(folder: Path, state: dict[str, Any], history: History) -> Path:
    """Write a TrainState's `state_dict` as the checkpoint of the history's last epoch; returns its path.

    Raises OSError where the disk is full or cannot be written to.
    """
    return write_checkpoint(folder, partial(_save, state), history)


def _save(state: dict[str, Any], file: BinaryIO) -> None:
    """As torch.save, which ends the archive of a write that failed, too, and then reports that in place of OSError."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_checkpoint(path: Path) -> tuple[dict[str, Any], History]:
    """A sound checkpoint's state_dict, on the CPU, and history. Unpickles tensors and plain values only.

    Raises OSError, and CheckpointError for what is no trial's state.
    """
    file = path / "state.pt"
    try:
        check_saved(file)  # ours is an archive
        check_pickles(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except OSError:
        raise
    except Exception as why:  # whatever zipfile or the unpickler raises
        code = isinstance(why, pickle.UnpicklingError)  # its own message names ways to run it all the same
        line = "more than tensors, which may be code: not read, weights_only" if code else printable(in_one_line(why))
        raise CheckpointError(
            f"{file}: not a trial's state ({line}): choose another --name, or start over with --fresh "
            "(the old results are moved aside)"
        ) from why
    return state, TrialFolder(path).history()


class CheckpointWriter:
    """Saves one trial's state from a thread of its own; leaving the `with` block waits for that thread.

    Where writing takes longer than AFFORDABLE of an epoch, training goes on meanwhile. Epochs that end before the
    write does get no checkpoint of their own, so a crash costs at most the time of two writes. Every state holds the
    best weights, so no best epoch is lost.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[Path] | None = None
        self._seconds = math.inf  # the last write's; before the first nobody knows, and an epoch may be shorter

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def save(self, state: TrainState, history: History, last: bool) -> Path | None:
        """Save the state after the history's last epoch, unless an earlier write is still going on.

        The `last` state of a trial is always saved; `finish` waits for it. Returns the newest checkpoint that was
        completed since the previous call. Raises what writing raises.
        """
        done = self._completed(wait=last)
        if self._writing is None:
            self._writing = self._thread.submit(self._write, *_snapshot(state, history))
            epoch = history.epochs[-1]
            affordable = self._seconds <= AFFORDABLE * (epoch.train_seconds + epoch.val_seconds)
            done = self._completed(wait=affordable) or done
        return done

    def finish(self) -> None:
        """Wait for the write that goes on. Raises what writing raises."""
        self._completed(wait=True)

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
    """Copies of both, and on a GPU a stream to read the state on: on the training's own, a read waits for its steps."""
    copied, records = copy.deepcopy(state.state_dict()), History(list(history.epochs), list(history.sessions))
    if state.device.type != "cuda":
        return copied, records, None
    stream = torch.cuda.Stream(state.device)
    stream.wait_stream(torch.cuda.current_stream(state.device))
    return copied, records, stream
