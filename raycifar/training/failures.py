"""Why a trial fails: errors that trying again would not cure, told with their remedy, and the record of an error."""

import contextlib
import errno
import time
import traceback
from pathlib import Path

import torch

from raycifar.config.sweep import TrialSpec
from raycifar.devices import full_memory, trials_that_fit
from raycifar.storage.records import TrialError
from raycifar.training.loop import NonFiniteLossError
from raycifar.training.precision import PrecisionError
from raycifar.user_code import CodeError


class GpuMemoryError(Exception):
    """The trial does not fit into its GPU, or into its share of one; the message says what to lower."""


class StorageError(Exception):
    """The trial's folder cannot be written to: a full disk, a read-only one; the message names the path."""


class OtherNetworkError(Exception):
    """The checkpoint is of a network that this version builds differently; the message names it and the remedy."""


class CheckpointError(Exception):
    """A checkpoint is whole and holds no trial's state, or says it holds more than it has; the message names it."""


# Errors that would come up again, however often the trial is tried.
HOPELESS = (
    NonFiniteLossError,
    GpuMemoryError,
    StorageError,
    PrecisionError,
    OtherNetworkError,
    CheckpointError,
    CodeError,
)
CONTEXT_BYTES = 0.5e9  # of a GPU's memory, that a process takes for CUDA itself
_NO_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def explained(error: Exception, spec: TrialSpec, folder: Path, device: str, sharing: int) -> Exception:
    """One of the HOPELESS in the error's place, where the cause is known and the user can remove it; else the error.

    `sharing`: how many trials share `device`, this one included.
    """
    if full := full_memory(error):
        reason = str(full).partition("\n")[0].partition(". ")[0]
        remedy = _less_memory(spec, torch.device(device), sharing)
        return GpuMemoryError(f"trial {spec.name!r}: {reason}: {remedy}, and give the same command again")
    if isinstance(error, OSError) and error.errno in _NO_WRITING:
        path = Path(error.filename or folder)
        if not path.is_relative_to(folder):
            return error
        is_draft = any(part.startswith(".") for part in path.relative_to(folder).parts)
        return StorageError(
            f"{folder if is_draft else path}: cannot be written ({error.strerror}): make room, or make it writable, "
            "and give the same command again; the epochs before are kept"
        )
    return error


def _less_memory(spec: TrialSpec, device: torch.device, sharing: int) -> str:
    """What makes the trial fit: a smaller batch, or fewer trials on the GPU."""
    if sharing == 1:
        return f"it has the GPU to itself: lower batch_size = {spec.batch_size}"
    fewer = sharing - 1
    with contextlib.suppress(RuntimeError):  # where no room is left for CUDA itself, it cannot be asked
        _, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES  # less than the trial needs: it failed
        fewer = min(fewer, trials_that_fit(total, reserved))
    return f"{sharing} trials share the GPU: type --trials-per-gpu {fewer}"


def trial_error(error: BaseException) -> TrialError:
    """The error as error.json records it, with the traceback and the time."""
    text = "".join(traceback.format_exception(error))
    return TrialError(kind=type(error).__name__, message=str(error), traceback=text, at=time.time())
