"""A sweep's folder: whether a sweep may use it, who works on it now, and what was called on it."""

import contextlib
import itertools
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from raycifar.config.names import SpecError, check_name
from raycifar.config.sweep import SweepSpec
from raycifar.errors import InputError
from raycifar.execution.agreement import Call, SweepError, common_facts
from raycifar.storage.beneath import sweep_leftovers
from raycifar.storage.folders import SweepFolder
from raycifar.storage.foreign import refuse_foreign
from raycifar.storage.records import Invocation, SweepRecord
from raycifar.storage.written import LEFTOVER, LEFTOVER_EARLIER
from raycifar.texts import without_secrets


def sweep_folder(storage: str, name: str) -> Path:
    """The results' folder, absolute. Raises SpecError for a name or a storage that cannot be one."""
    check_name(name, "--name")
    if not storage or "://" in storage:
        raise SpecError(f"--storage {storage!r}: expected a folder that every node of the cluster sees, not an address")
    try:
        path = Path(storage).expanduser().resolve() / name
        str(path).encode()  # Ray, and a terminal, take only what is Unicode
        return path
    except (RuntimeError, ValueError) as error:  # the home of nobody, a loop of links, a null byte, no UTF-8
        raise SpecError(f"--storage {storage!r}: expected a folder ({error})") from None


def check_folder(
    sweep: SweepSpec, folder: SweepFolder, fresh: bool = False, by_trackers: Sequence[str] = (), to_look: bool = False
) -> None:
    """Refuse another sweep's folder or, unless it is only `to_look`, one in use. Raises SweepError, RecordError."""
    if check_place(folder, "sweep.json", to_look) and not fresh and folder.record():
        _refuse_another_sweep(sweep, folder)
        _refuse_what_is_no_folder(folder.trial(trial.name).path for trial in sweep.trials)
        refuse_foreign(folder.files, (trial.name for trial in sweep.trials), by_trackers)


def check_place(folder: SweepFolder, record: str, to_look: bool = False) -> bool:
    """Whether the folder exists. Raises SweepError where another call uses it, or it holds files but no such record.

    Where it is only `to_look`, another call may use it, and its lock is not touched.
    """
    if not is_there(folder.path):
        return False
    if os.path.lexists(folder.lock) and not to_look:
        _locked(folder).release()
    # A call that was killed at once leaves its lock, and perhaps a part of the record.
    left = re.compile(f"{re.escape(folder.lock.name)}|{LEFTOVER.pattern}|{LEFTOVER_EARLIER.pattern}")
    if not os.path.lexists(folder.path / record) and any(
        not left.fullmatch(path.name) for path in folder.path.iterdir()
    ):
        raise SweepError(f"{folder.path}: holds something else (no {record}): choose another --name or --storage")
    return True


def _refuse_what_is_no_folder(trials: Iterable[Path]) -> None:
    for path in trials:
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            what = " and is a link" if path.is_symlink() else ""
            raise SweepError(f"{path}: expected a trial's own folder{what}: move it away, or choose another --name")


def is_there(path: Path) -> bool:
    """Whether the folder exists. Raises SweepError where it does not and cannot be made."""
    try:
        nearest = next(there for there in (path, *path.parents) if there.exists())
    except OSError as error:
        raise SweepError(f"{path}: cannot be made ({error.strerror}): choose another --storage") from None
    if not nearest.is_dir():
        raise SweepError(f"{nearest}: is a file: choose another --name or --storage")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise SweepError(f"{path}: {nearest} may not be written: choose another --storage")
    return nearest == path


def _recorded(record: SweepRecord, path: Path) -> SweepSpec:
    try:
        return SweepSpec.model_validate(record.spec)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise SweepError(
            f"{path / 'sweep.json'}: this version does not understand {key or 'its spec'} there: "
            "choose another --name, or start over with --fresh (the old results are moved aside)"
        ) from None


def _refuse_another_sweep(now: SweepSpec, folder: SweepFolder) -> None:
    """Trials may be added; a trial that has results must have the settings that gave them."""
    record, path = folder.record(), folder.path
    known = {trial.name: trial.fingerprint() for trial in now.trials}
    for trial in _recorded(record, path).trials if record else ():
        if known.get(trial.name) != trial.fingerprint():
            other, missing = "has other settings in this sweep than", "is not in this sweep, but"
            raise SweepError(
                f"{path}: trial {trial.name!r} {other if trial.name in known else missing} in the results there: "
                "keep both with --name OTHER, or start over with --fresh (the old results are moved aside)"
            )


@contextlib.contextmanager
def tidied(folder: SweepFolder, trials: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Take away what killed writers left, before the `with` block and, once it has ended well, after it.

    The folder is locked, and nobody writes at either time. Raises SweepError, RecordError for what leads out.
    """
    refuse_foreign(folder.files, trials())
    try:
        _sweep_up(folder, trials())
    except OSError as error:
        raise SweepError(f"{error.filename}: {error.strerror}: choose another --name") from None
    yield
    with contextlib.suppress(OSError):
        _sweep_up(folder, trials())


def _sweep_up(folder: SweepFolder, trials: Sequence[str]) -> None:
    for place in (folder.files, *(folder.files / name for name in trials)):
        sweep_leftovers(place)


def _locked(folder: SweepFolder) -> FileLock:
    if folder.lock.is_symlink() or (folder.lock.is_file() and folder.lock.stat().st_nlink > 1):
        raise SweepError(f"{folder.lock}: is a link to another file: remove it, or choose another --name")
    lock = FileLock(folder.lock)
    try:
        return lock.acquire(timeout=1).lock
    except Timeout:
        last = folder.invocations()[-1:]
        since = time.strftime(" since %H:%M:%S", time.localtime(last[0].started_at)) if last else ""
        who = f"`{last[0].command}`" if last else "another call"
        raise SweepError(f"{folder.path}: {who} works on it{since}: wait for it, or choose another --name") from None
    except OSError as error:
        raise SweepError(f"{folder.path}: cannot be written ({error}): choose another --storage") from None


@contextlib.contextmanager
def opened(sweep: SweepSpec, chosen: SweepSpec, folder: SweepFolder, call: Call, fresh: bool = False) -> Iterator[None]:
    """The folder made, locked and described, and this call on record, for the time of the `with` block.

    `chosen` are the sweep's trials that this call runs; `fresh` moves earlier results aside. Raises SweepError.
    """
    with held(folder, fresh):
        _refuse_another_sweep(sweep, folder)  # which may have begun, and ended, since check_folder
        _refuse_what_is_no_folder(folder.trial(trial.name).path for trial in sweep.trials)
        with tidied(folder, lambda: [trial.name for trial in sweep.trials]):
            _describe(sweep, folder, call)
            with on_record(folder, call, lambda: all_finished(chosen, folder)):
                yield


@contextlib.contextmanager
def held(folder: SweepFolder, fresh: bool = False) -> Iterator[None]:
    """The folder made and locked; `fresh` moves earlier results aside. Raises SweepError."""
    if fresh and folder.path.exists():
        _move_aside(folder)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"{folder.path}: cannot be made ({error}): choose another --storage") from None
    with contextlib.ExitStack() as stack:
        stack.callback(_locked(folder).release)
        yield


def _move_aside(folder: SweepFolder) -> None:
    stem = f"{folder.path.name}.before-{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))  # a second has room for several
    lock = _locked(folder)
    try:
        folder.path.rename(next(free for name in names if not (free := folder.path.with_name(name)).exists()))
    except OSError as error:
        raise SweepError(f"{folder.path}: cannot be moved aside ({error}): choose another --name") from None
    finally:
        lock.release()


def _describe(sweep: SweepSpec, folder: SweepFolder, call: Call) -> None:
    facts = common_facts(folder.path, folder.record(), call)
    folder.write_record(SweepRecord(fingerprint=sweep.fingerprint(), spec=sweep.model_dump(mode="json"), **facts))


@contextlib.contextmanager
def on_record(folder: SweepFolder, call: Call, finished: Callable[[], bool]) -> Iterator[None]:
    """This call among the folder's, for the time of the `with` block, then with its exit status."""
    earlier = folder.invocations()
    invocation = Invocation(
        command=as_recorded(call.command),
        started_at=time.time(),
        gpus=call.gpus,
        trials_at_once=call.trials_at_once,
        runner=call.runner,
    )
    folder.write_invocations([*earlier, invocation])
    status = 1
    try:
        yield
        status = 0 if finished() else 1
    except KeyboardInterrupt:
        status = 130
        raise
    except InputError:
        status = 2
        raise
    finally:
        folder.write_invocations([*earlier, replace(invocation, ended_at=time.time(), exit_status=status)])


def as_recorded(command: Sequence[str]) -> str:
    """The command as it may be typed again, without what stands for a password in an address."""
    words = without_secrets(command)
    return words[0] if len(words) == 1 else shlex.join(words)


def all_finished(chosen: SweepSpec, folder: SweepFolder) -> bool:
    return all(folder.trial(trial.name).summary() is not None for trial in chosen.trials)
