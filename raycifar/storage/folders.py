"""The folders of sweeps and trials: their paths, and the reading and writing of what lies there."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from raycifar.storage.beneath import Beneath, beneath, delete
from raycifar.storage.files import RecordError, read_file, read_json, write_json
from raycifar.storage.records import History, Invocation, JsonRecord, SweepRecord, TrialError, TrialSummary

MOST_NOTE_BYTES = 10_000  # of notes.md: a page of text, which a report can show whole

_Record = TypeVar("_Record", bound=JsonRecord)


def read_record(path: Path, record: type[_Record]) -> _Record | None:
    """The record in a file, None where there is no file. Raises RecordError."""
    try:
        return record.from_json(read_json(path))
    except FileNotFoundError:
        return None
    except (TypeError, AttributeError, ValueError) as error:
        raise RecordError(f"{path}: not a {record.__name__} ({error})") from error


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """The paths of one trial, and their reading and writing."""

    path: Path

    @property
    def files(self) -> Beneath:
        """For what is written and deleted there."""
        return beneath(self.path)

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.npz"

    @property
    def best_weights(self) -> Path:
        return self.path / "best.safetensors"

    def history(self) -> History:
        """Empty where there is no file. Raises RecordError."""
        return read_record(self.path / "history.json", History) or History()

    def summary(self) -> TrialSummary | None:
        """None before the trial has finished. Raises RecordError."""
        return read_record(self.path / "summary.json", TrialSummary)

    def error(self) -> TrialError | None:
        """None unless the last session ended in an error. Raises RecordError."""
        return read_record(self.path / "error.json", TrialError)

    def write_history(self, history: History) -> None:
        write_json(self.files / "history.json", history.to_json())

    def write_summary(self, summary: TrialSummary) -> None:
        write_json(self.files / "summary.json", summary.to_json())

    def write_error(self, error: TrialError) -> None:
        """Write the error unless there is one: of several processes that fail, the first one's error is the cause."""
        if self.error() is None:
            write_json(self.files / "error.json", error.to_json())

    def clear_error(self) -> None:
        delete(self.files / "error.json")


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """The paths of one sweep, and their reading and writing."""

    path: Path

    @property
    def files(self) -> Beneath:
        """For what is written and deleted there."""
        return Beneath(self.path)

    @property
    def lock(self) -> Path:
        return self.path / "sweep.lock"

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder((self.files / name).path)

    def record(self) -> SweepRecord | None:
        """None where there is no file. Raises RecordError."""
        return read_record(self.path / "sweep.json", SweepRecord)

    def write_record(self, record: SweepRecord) -> None:
        write_json(self.files / "sweep.json", record.to_json())

    def invocations(self) -> list[Invocation]:
        """Every call so far; none where there is no file. Raises RecordError."""
        try:
            calls = read_json(self.path / "invocations.json")
            if not isinstance(calls, list):
                raise TypeError(f"{calls!r:.60}")
            return [Invocation.from_json(i) for i in calls]
        except FileNotFoundError:
            return []
        except (TypeError, AttributeError, ValueError) as error:
            raise RecordError(f"{self.path / 'invocations.json'}: not a list of calls ({error})") from error

    def notes(self) -> list[str]:
        """The paragraphs of notes.md, each as it lies there; none where there is no file. Raises RecordError."""
        path = self.path / "notes.md"
        try:
            text = read_file(path, MOST_NOTE_BYTES).decode("utf-8-sig")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise RecordError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
        return [paragraph for paragraph in re.split(r"(?:\r?\n[ \t]*){2,}", text) if paragraph.strip()]

    def write_invocations(self, invocations: list[Invocation]) -> None:
        write_json(self.files / "invocations.json", [i.to_json() for i in invocations])
