"""A trial's checkpoints on disk: whole or not there, and checked before they are believed.

`checkpoint_000012/` holds the TrainState after epoch 12 (`state.pt`), the trial's history so far (`history.json`), and
last a `manifest.json` with both files' sizes and CRC-32. The folder is written under another name and renamed.
"""

import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch

from raycifar.records import History, RecordError, read_json, write_json

KEPT = 2  # the latest, and the one before in case the latest is damaged

_NAME = re.compile(r"checkpoint_(\d{6,})$")
_FILES = ("state.pt", "history.json")


def save_checkpoint(folder: Path, state: dict[str, Any], history: History) -> Path:
    """Write the checkpoint of the history's last epoch into the trial's folder; returns its path."""
    final = folder / f"checkpoint_{history.epochs[-1].epoch:06d}"
    partial = folder / f".{final.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    torch.save(state, partial / "state.pt")
    write_json(partial / "history.json", history.to_json())
    write_json(partial / "manifest.json", {name: _fingerprint(partial / name) for name in _FILES})
    _sync(partial / "state.pt")
    shutil.rmtree(final, ignore_errors=True)  # an unsound one of the same epoch
    os.replace(partial, final)
    _sync(folder)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest sound checkpoint."""
    return next((path for path in reversed(_checkpoints(folder)) if _problem(path) is None), None)


def saved_history(folder: Path) -> History:
    """The epochs that a trial would resume after."""
    path = newest_checkpoint(folder)
    return History.from_json(read_json(path / "history.json")) if path else History()


def tidy_checkpoints(folder: Path) -> list[str]:
    """Before a session: delete the damaged checkpoints newer than the newest sound one, then prune.

    Returns a line for each deleted one, to be shown. No other process may be writing.
    """
    problems = []
    for path in reversed(_checkpoints(folder)):
        problem = _problem(path)
        if problem is None:
            break
        problems.append(f"{path}: {problem}: deleted; the epochs since the checkpoint before are trained again")
        shutil.rmtree(path)
    prune_checkpoints(folder)
    return problems


def load_checkpoint(path: Path) -> tuple[dict[str, Any], History]:
    """The state, on the CPU, and the history."""
    state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    return state, History.from_json(read_json(path / "history.json"))


def prune_checkpoints(folder: Path) -> None:
    """Delete all but the newest KEPT, and what an interrupted writer left."""
    for path in [*_checkpoints(folder)[:-KEPT], *folder.glob(".checkpoint_*.partial")]:
        shutil.rmtree(path, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    found = {path: match for path in folder.glob("checkpoint_*") if (match := _NAME.match(path.name))}
    return sorted(found, key=lambda path: int(found[path][1]))


def _problem(path: Path) -> str | None:
    try:
        manifest = read_json(path / "manifest.json")
        damaged = [name for name in _FILES if manifest.get(name) != _fingerprint(path / name)]
    except (RecordError, OSError, AttributeError) as error:
        return f"cannot be read ({error})"
    return f"{damaged[0]} is damaged (size or CRC-32 differ)" if damaged else None


def _fingerprint(path: Path) -> dict[str, int]:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return {"bytes": path.stat().st_size, "crc32": crc}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
