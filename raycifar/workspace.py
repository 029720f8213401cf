"""A sweep's folder: whether a sweep may use it, who works on it now, and what was called on it."""

import contextlib
import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from raycifar.records import Invocation, SweepFolder, SweepRecord
from raycifar.spec import SweepSpec


class SweepError(Exception):
    """The sweep cannot start in this folder; the message names place, value and remedy."""


@dataclass(frozen=True, slots=True)
class Call:
    """What goes on record about one call of run_sweep.py."""

    runner: str  # "ray" or "local"
    gpus: int
    trials_at_once: int
    source: str  # the sweep file's name
    weights: str  # the cached file of the ImageNet weights; empty where no trial reads it
    hardware: str
    versions: dict[str, str]


def check_folder(sweep: SweepSpec, folder: SweepFolder, fresh: bool = False) -> None:
    """Refuse a folder that is not this sweep's, or that another call works on. Raises SweepError."""
    if not _is_there(folder.path):
        return
    if folder.lock.exists():
        _locked(folder).release()
    names = {path.name for path in folder.path.iterdir()}
    # A call that was killed at once leaves its lock, and perhaps a part of sweep.json.
    if "sweep.json" not in names and any(n != folder.lock.name and not n.startswith(".sweep.json.") for n in names):
        raise SweepError(f"{folder.path}: holds something else (no sweep.json): choose another --name or --storage")
    if not fresh and (record := folder.record()):
        _refuse_other_numbers(_recorded(record, folder.path), sweep, folder.path)


def _is_there(path: Path) -> bool:
    """Whether the folder exists; SweepError where it neither does nor can."""
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


def _refuse_other_numbers(before: SweepSpec, now: SweepSpec, path: Path) -> None:
    """Trials may be added; those that are there must be able to give the same numbers."""
    known = {trial.name: trial.fingerprint() for trial in now.trials}
    for trial in before.trials:
        if known.get(trial.name) != trial.fingerprint():
            what = "has other settings" if trial.name in known else "is missing"
            raise SweepError(
                f"{path}: trial {trial.name!r} {what} in this sweep than in the results there: "
                "keep both with --name OTHER, or start over with --fresh (the old results are moved aside)"
            )


def _locked(folder: SweepFolder) -> FileLock:
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
    if fresh and folder.path.exists():
        _move_aside(folder)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"{folder.path}: cannot be made ({error}): choose another --storage") from None
    lock = _locked(folder)
    try:
        _describe(sweep, folder, call)
        with _on_record(folder, chosen, call):
            yield
    finally:
        lock.release()


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
    before = folder.record()
    if before and before.weights and call.weights and before.weights != call.weights:
        raise SweepError(
            f"{folder.path}: its trials started from the ImageNet weights {before.weights}, not {call.weights}: "
            "name the same --weights, or choose another --name"
        )
    folder.write_record(
        SweepRecord(
            name=folder.path.name,
            fingerprint=sweep.fingerprint(),
            spec=sweep.model_dump(mode="json"),
            source=call.source,
            created_at=before.created_at if before else time.time(),
            versions=call.versions,
            commit=commit(),
            hardware=call.hardware,
            weights=call.weights or (before.weights if before else ""),
        )
    )


@contextlib.contextmanager
def _on_record(folder: SweepFolder, chosen: SweepSpec, call: Call) -> Iterator[None]:
    earlier = folder.invocations()
    invocation = Invocation(
        command=shlex.join(["python", *sys.argv]),
        started_at=time.time(),
        gpus=call.gpus,
        trials_at_once=call.trials_at_once,
        runner=call.runner,
    )
    folder.write_invocations([*earlier, invocation])
    status = 1
    try:
        yield
        status = 0 if all_finished(chosen, folder) else 1
    except KeyboardInterrupt:
        status = 130
        raise
    finally:
        folder.write_invocations([*earlier, replace(invocation, ended_at=time.time(), exit_status=status)])


def all_finished(chosen: SweepSpec, folder: SweepFolder) -> bool:
    return all(folder.trial(trial.name).summary() is not None for trial in chosen.trials)


def commit() -> str | None:
    """The project's git commit, marked where files have changed since; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if (root / ".git").exists() else None
