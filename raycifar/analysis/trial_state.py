"""What a sweep left on disk, read and checked: its record, its calls, its trials and how each of them stands.

Reads JSON only: no torch, no Ray, no pickle. Needs no right to write, and works while the sweep runs.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import lock_descriptor
from pydantic import ValidationError

from raycifar.config.datasets import Facts
from raycifar.config.names import SpecError, check_name
from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.errors import InputError
from raycifar.program import program
from raycifar.storage.files import RecordError, open_file
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.records import History, Invocation, SweepRecord, TrialError, TrialSummary
from raycifar.texts import printable

STATUSES = ("finished", "running", "waiting", "interrupted", "failed", "unreadable", "not started")

Interval = tuple[float, float]


class ResultsError(InputError):
    """The folder holds no sweep that can be analysed; the message names the place, the value and the remedy."""


@dataclass(slots=True)
class TrialTrace:
    """One trial as it lies on disk. `problems` holds one line for each of its files that cannot be read."""

    spec: TrialSpec
    folder: TrialFolder
    history: History = field(default_factory=History)
    summary: TrialSummary | None = None
    error: TrialError | None = None
    problems: list[str] = field(default_factory=list)

    def times(self) -> Iterator[float]:
        """Every moment, in Unix seconds, at which the trial left a trace."""
        yield from (epoch.finished_at for epoch in self.history.epochs)
        for session in self.history.sessions:
            yield session.started_at
            yield session.ended_at
        if self.summary:
            yield self.summary.finished_at
        if self.error:
            yield self.error.at

    def status(self, running_since: float | None) -> str:
        """One of STATUSES; `running_since` is when the call that now runs began, None where none does.

        While a call runs, a trial that has left no trace since it began waits, however it ended before.
        """
        if self.problems:
            return "unreadable"
        if self.summary:
            return "finished"
        if running_since is not None and not any(at >= running_since for at in self.times()):
            return "waiting"
        if self.error:
            return "failed"
        if running_since is not None:
            return "running"
        return "interrupted" if self.folder.path.is_dir() else "not started"


def read_sweep(folder: SweepFolder) -> tuple[SweepRecord, SweepSpec]:
    """What sweep.json says. Raises ResultsError where there is no such folder, no sweep in it, or a broken one."""
    path = folder.path
    if not os.path.exists(path):  # a Path's own raises OSError for a name too long
        raise ResultsError(f"{path}: no such folder; give the one that {program().run} wrote{_nearby(path.parent)}")
    if not path.is_dir():
        raise ResultsError(f"{path}: a file, not a folder; give the sweep's folder{_nearby(path.parent)}")
    try:
        record = folder.record()
        if record is None:
            raise ResultsError(_no_sweep(path))
        check_name(record.name, f"{path / 'sweep.json'}: name")
        spec = SweepSpec.model_validate(record.spec)
        return record, spec.with_facts(_facts(record, spec))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("spec", *first["loc"]))
        why = f"{path / 'sweep.json'}: {key}: {first['msg']}"
    except LookupError:
        why = f"{path / 'sweep.json'}: it says nothing of the data set that was read (facts)"
    except (RecordError, SpecError, OSError) as error:
        why = str(error)
    raise ResultsError(f"{why}; restore the file, or run the sweep again under another --name")


def _facts(record: SweepRecord, spec: SweepSpec) -> Facts:
    """What is known of the data set; in records of an earlier version only which one it is."""
    facts = Facts.model_validate(record.facts) if record.facts else spec.data.facts
    return facts.model_copy(update={"digest": record.data})


def _no_sweep(path: Path) -> str:
    names = {child.name for child in path.iterdir()}
    if (path.parent / "sweep.json").is_file():
        return f"{path}: a folder in a sweep's; give the sweep's own, {path.parent}"
    if not names:
        return f"{path}: an empty folder; give the one that {program().run} wrote{_nearby(path.parent)}"
    if "search.json" in names:
        has_ended = "best.toml" in names
        remedy = (
            f"{program().run} {path / 'best.toml'} makes the sweep of its best" if has_ended else "it has not ended"
        )
        return f"{path}: a search, not a sweep: its samples are not tested; {remedy}"
    if any(name.startswith("experiment_state") or name == "tuner.pkl" for name in names):
        return (
            f"{path}: a Ray Tune experiment that {program().run} did not write (no sweep.json); give a sweep's folder"
        )
    return f"{path}: no sweep.json in it; give the folder that {program().run} wrote{_nearby(path)}"


def _nearby(parent: Path) -> str:
    """Up to three sweeps that lie there."""
    try:
        sweeps = sorted(str(record.parent) for record in parent.glob("*/sweep.json"))
    except OSError:
        return ""
    return f", for example {', '.join(sweeps[:3])}" if sweeps else ""


def read_invocations(folder: SweepFolder) -> tuple[list[Invocation], list[str]]:
    """Every call of run_sweep.py, earliest first, and what could not be read."""
    try:
        calls = folder.invocations()
    except (RecordError, OSError) as error:
        return [], [str(error)]
    return sorted(calls, key=lambda call: call.started_at), []


def read_notes(folder: SweepFolder) -> tuple[list[str], list[str]]:
    """The paragraphs of the sweep's notes, each one printable line, and what could not be read."""
    try:
        paragraphs = folder.notes()
    except RecordError as error:
        return [], [str(error)]
    return [printable(" ".join(paragraph.split())) for paragraph in paragraphs], []


def read_trial(folder: TrialFolder, spec: TrialSpec) -> TrialTrace:
    """All that can be read of a trial; what cannot becomes a problem, not an exception."""
    trace = TrialTrace(spec, folder)
    for name, read in (("history", folder.history), ("summary", folder.summary), ("error", folder.error)):
        try:
            setattr(trace, name, read())
        except RecordError as error:
            trace.problems.append(str(error))
        except Exception as error:  # of any kind: it costs this trial alone
            trace.problems.append(f"{folder.path / name}.json: {str(error) or type(error).__name__}")
    recorded, summary = len(trace.history.epochs), trace.summary
    if summary and summary.trial != spec.name:
        trace.problems.append(
            f"{folder.path / 'summary.json'}: names the trial {summary.trial!r:.80}, not {spec.name!r}"
        )
    if summary and not trace.problems and summary.epochs_run != recorded:
        path = folder.path / "history.json"
        trace.problems.append(f"{path}: {recorded} epochs, where summary.json says {summary.epochs_run}")
    return trace


def is_running(folder: SweepFolder) -> bool:
    """Whether a call of run_sweep.py holds the sweep's lock. Never creates it, and needs no right to write."""
    try:
        with open_file(folder.lock) as lock:  # and so lets go of it
            return not lock_descriptor(lock.fileno(), blocking=False)
    except OSError:
        return False


def active_intervals(
    calls: Sequence[Invocation], running: bool, now: float, recorded: Iterable[float]
) -> list[Interval]:
    """When run_sweep.py ran: the union of its `calls`, earliest first, as disjoint (start, end) in Unix seconds.

    A call without an end runs until `now` if it is the last one and `running`; otherwise it was killed, and the
    last time that a trial `recorded` before the next call stands for its end.
    """
    times, intervals = sorted(recorded), list[Interval]()
    for i, call in enumerate(calls):
        following = calls[i + 1].started_at if i + 1 < len(calls) else math.inf
        end = call.ended_at
        if end is None and running and following == math.inf:
            end = now
        if end is None:
            end = max((at for at in times if call.started_at <= at <= following), default=call.started_at)
        if intervals and call.started_at <= intervals[-1][1]:
            intervals[-1] = (intervals[-1][0], max(intervals[-1][1], end))
        else:
            intervals.append((call.started_at, max(end, call.started_at)))
    return intervals
