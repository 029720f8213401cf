"""A trial's checkpoints on disk: each is complete or absent, and its files are verified before they are used.

`checkpoint_000012/` holds the TrainState after epoch 12 (`state.pt`, bytes to this module), the trial's history so far
(`history.json`), and a `manifest.json` with both files' sizes and CRC-32, which is written last. The folder is written
under another name and renamed.
"""

import contextlib
import errno
import os
import secrets
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from raycifar.storage.beneath import Beneath, beneath, delete, names_in, new_folder, rename, written
from raycifar.storage.files import RecordError, open_file, read_json, write_json
from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import History
from raycifar.storage.written import CHECKPOINT, PARTIAL

KEPT = 2  # the latest, and the one before in case the latest is damaged

_FILES = ("state.pt", "history.json")
# Errors that will come up again whenever the checkpoint is read, and so prove it damaged: no such file, no folder, no
# regular file, too large.
_DAMAGED = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO}


def checkpoint_name(epoch: int) -> str:
    """The name of the folder that holds the checkpoint after `epoch`."""
    return f"checkpoint_{epoch:06d}"


def checkpoint_epoch(path: Path) -> int:
    """The epoch in a checkpoint's name. Raises ValueError for any other name."""
    if match := CHECKPOINT.fullmatch(path.name):
        return int(match[1])
    raise ValueError(f"{path}: not a checkpoint's name")


def write_checkpoint(folder: Path, write_state: Callable[[BinaryIO], object], history: History) -> Path:
    """Write the checkpoint of the history's last epoch into the trial's folder; returns its path.

    `write_state` gets the file that becomes `state.pt`.

    Raises OSError where the disk is full or cannot be written to; earlier checkpoints are left as they are.
    """
    trial = beneath(folder)
    final = checkpoint_name(history.epochs[-1].epoch)
    partial = trial / f".{final}.{secrets.token_hex(8)}{_own()}"
    try:
        _write_files(partial, write_state, history)
        delete(trial / final)  # a damaged one of the same epoch
        rename(partial, final)
    except BaseException:  # a full disk, Ctrl-C: a partial folder would take up room
        with contextlib.suppress(OSError):
            delete(partial)
        raise
    return folder / final


def _write_files(partial: Beneath, write_state: Callable[[BinaryIO], object], history: History) -> None:
    new_folder(partial)
    with written(partial / "state.pt") as file:
        write_state(file)
    write_json(partial / "history.json", history.to_json())
    write_json(partial / "manifest.json", {name: _fingerprint(partial.path / name) for name in _FILES})


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest sound checkpoint, None where there is none.

    Raises RecordError where the system does not let one be read: that may pass, and is no proof of damage.
    """
    return next((path for path in reversed(_checkpoints(folder)) if _problem(path) is None), None)


def saved_history(folder: Path) -> History:
    """The history in the newest sound checkpoint: a trial would resume after its last epoch. Raises RecordError."""
    path = newest_checkpoint(folder)
    return TrialFolder(path).history() if path else History()


def tidy_checkpoints(folder: Path) -> list[str]:
    """Delete the damaged checkpoints that are newer than the newest sound one, then prune; before a session begins.

    Returns a line to be shown for each damaged one. No other process may be writing. Raises RecordError where one
    cannot be read; that one is not deleted.
    """
    problems = []
    for path in reversed(_checkpoints(folder)):
        problem = _problem(path)
        if problem is None:
            break
        problems.append(f"{path}: {problem}: deleted; the epochs since the checkpoint before are trained again")
        delete(beneath(folder) / path.name)
    _prune(folder, lambda _: True)
    return problems


def prune_checkpoints(folder: Path) -> None:
    """Delete all but the newest KEPT, and what interrupted writers left; this process's writer may be at work."""
    _prune(folder, lambda partial: not partial.endswith(_own()))


def _prune(folder: Path, is_left: Callable[[str], bool]) -> None:
    trial = beneath(folder)
    leftovers = [name for name in names_in(trial) if PARTIAL.fullmatch(name) and is_left(name)]
    for name in [*(path.name for path in _checkpoints(folder)[:-KEPT]), *leftovers]:
        with contextlib.suppress(OSError):
            delete(trial / name)


def _own() -> str:
    """How the names end of the folders that this process is writing."""
    return f".{os.getpid()}.partial"


def _checkpoints(folder: Path) -> list[Path]:
    """The folder's checkpoints, sound or not, in the order of their epochs."""
    try:
        named = [folder / name for name in names_in(beneath(folder)) if CHECKPOINT.fullmatch(name)]
    except OSError as error:
        raise RecordError(f"{folder}: {error.strerror}") from error
    return sorted(named, key=checkpoint_epoch)


def _problem(path: Path) -> str | None:
    """What is wrong with a checkpoint. Raises RecordError where the system does not let it be read: that may pass."""
    try:
        manifest = read_json(path / "manifest.json")
        damaged = [name for name in _FILES if manifest.get(name) != _fingerprint(path / name)]
    except (RecordError, OSError, AttributeError) as error:
        cause = error.__cause__ if isinstance(error, RecordError) else error
        if isinstance(cause, OSError) and cause.errno not in _DAMAGED:
            raise RecordError(f"{path}: cannot be read ({cause.strerror})") from error
        return f"cannot be read ({error})"
    return f"{damaged[0]} is damaged (size or CRC-32 differ)" if damaged else None


def _fingerprint(path: Path) -> dict[str, int]:
    crc = 0
    with open_file(path) as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return {"bytes": path.stat().st_size, "crc32": crc}
