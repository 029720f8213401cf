"""A trial's checkpoints on disk: whole or not there, and checked before they are believed.

`checkpoint_000012/` holds the TrainState after epoch 12 (`state.pt`), the trial's history so far (`history.json`), and
last a `manifest.json` with both files' sizes and CRC-32. The folder is written under another name and renamed.
"""

import errno
import io
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch

from raycifar.storage.files import RecordError, open_file, read_json, write_bytes, write_json
from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import History

KEPT = 2  # the latest, and the one before in case the latest is damaged

_NAME = re.compile(r"checkpoint_(\d{6,})$")
_FILES = ("state.pt", "history.json")
# What shows that a checkpoint is none, whenever it is read: no such file, no folder, no regular file, too large.
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO}


def checkpoint_name(epoch: int) -> str:
    return f"checkpoint_{epoch:06d}"


def checkpoint_epoch(path: Path) -> int:
    """Raises ValueError for a path that checkpoint_name has not made."""
    if match := _NAME.match(path.name):
        return int(match[1])
    raise ValueError(f"{path}: not a checkpoint's name")


def save_checkpoint(folder: Path, state: dict[str, Any], history: History) -> Path:
    """Write the checkpoint of the history's last epoch into the trial's folder; returns its path.

    Raises OSError where the disk is full or may not be written; the earlier checkpoints stay as they are.
    """
    final = folder / checkpoint_name(history.epochs[-1].epoch)
    partial = folder / f".{final.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_files(partial, state, history)
    except BaseException:  # a full disk, Ctrl-C: what was written would be in the way
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)  # an unsound one of the same epoch
    os.replace(partial, final)
    _sync(folder)
    return final


def _write_files(partial: Path, state: dict[str, Any], history: History) -> None:
    content = io.BytesIO()  # torch.save into a file tells of a full disk as of an enforced condition
    torch.save(state, content)
    partial.mkdir()
    write_bytes(partial / "state.pt", content.getbuffer())
    write_json(partial / "history.json", history.to_json())
    write_json(partial / "manifest.json", {name: _fingerprint(partial / name) for name in _FILES})


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest sound checkpoint. Raises RecordError where one cannot be read, which is no proof of damage."""
    return next((path for path in reversed(_checkpoints(folder)) if _problem(path) is None), None)


def saved_history(folder: Path) -> History:
    """The epochs that a trial would resume after. Raises RecordError."""
    path = newest_checkpoint(folder)
    return TrialFolder(path).history() if path else History()


def tidy_checkpoints(folder: Path) -> list[str]:
    """Before a session: delete the damaged checkpoints newer than the newest sound one, then prune.

    Returns a line for each deleted one, to be shown. No other process may be writing. Raises RecordError, and then
    has deleted nothing that it could not read.
    """
    problems = []
    for path in reversed(_checkpoints(folder)):
        problem = _problem(path)
        if problem is None:
            break
        problems.append(f"{path}: {problem}: deleted; the epochs since the checkpoint before are trained again")
        _delete(path)
    prune_checkpoints(folder)
    return problems


def load_checkpoint(path: Path) -> tuple[dict[str, Any], History]:
    """The state, on the CPU, and the history."""
    state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    return state, TrialFolder(path).history()


def prune_checkpoints(folder: Path) -> None:
    """Delete all but the newest KEPT, and what an interrupted writer left: this process's own may be at work."""
    own = f".{os.getpid()}.partial"
    left = [path for path in folder.glob(".checkpoint_*.partial") if not path.name.endswith(own)]
    for path in [*_checkpoints(folder)[:-KEPT], *left]:
        shutil.rmtree(path, ignore_errors=True)


def _delete(path: Path) -> None:
    """Also what is no folder, or a link to one."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _checkpoints(folder: Path) -> list[Path]:
    found = {path: match for path in folder.glob("checkpoint_*") if (match := _NAME.match(path.name))}
    return sorted(found, key=lambda path: int(found[path][1]))


def _problem(path: Path) -> str | None:
    """What is wrong with a checkpoint. Raises RecordError where the system does not let it be read: that may pass."""
    try:
        manifest = read_json(path / "manifest.json")
        damaged = [name for name in _FILES if manifest.get(name) != _fingerprint(path / name)]
    except (RecordError, OSError, AttributeError) as error:
        cause = error.__cause__ if isinstance(error, RecordError) else error
        if isinstance(cause, OSError) and cause.errno not in _NO_SUCH_FILE:
            raise RecordError(f"{path}: cannot be read ({cause.strerror})") from error
        return f"cannot be read ({error})"
    return f"{damaged[0]} is damaged (size or CRC-32 differ)" if damaged else None


def _fingerprint(path: Path) -> dict[str, int]:
    crc = 0
    with open_file(path) as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return {"bytes": path.stat().st_size, "crc32": crc}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
