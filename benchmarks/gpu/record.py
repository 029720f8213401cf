"""What has been measured so far, on which machine: one JSON file, written anew after every part."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raycifar.errors import InputError
from raycifar.storage.files import RecordError, read_json, write_json

DONE, FAILED, OUT_OF_TIME = "done", "failed", "out of time"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a part's newest try ended. Only one that is done has a result: what its command wrote with `--json`."""

    state: str
    seconds: float
    tries: int = 1
    result: dict[str, Any] | None = None
    said: str = ""  # the end of its output, where it is not done


@dataclass(slots=True)
class Record:
    """The outcomes of parts by name, in `path`."""

    path: Path
    machine: str
    device: str
    parts: dict[str, Outcome] = field(default_factory=dict)

    def is_done(self, name: str) -> bool:
        return name in self.parts and self.parts[name].state == DONE

    def add(self, name: str, outcome: Outcome) -> None:
        """Keep the outcome of one more try, on disk, too."""
        self.parts[name] = outcome
        outcomes = {name: asdict(outcome) for name, outcome in self.parts.items()}
        write_json(self.path, {"machine": self.machine, "device": self.device, "parts": outcomes})

    def tries(self, name: str) -> int:
        return self.parts[name].tries if name in self.parts else 0


def opened(path: Path, machine: str, device: str) -> Record:
    """The record in the file, or a new one. Raises InputError where it is another machine's, RecordError."""
    try:
        held = read_json(path)
    except FileNotFoundError:
        return Record(path, machine, device)
    try:
        parts = {name: Outcome(**outcome) for name, outcome in held["parts"].items()}
        before = held["machine"]
    except (TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path}: not a record of measurements ({error!r})") from error
    if before != machine:
        raise InputError(f"{path}: measured on {before}, and this is {machine}: name another --folder")
    return Record(path, machine, device, parts)


def result_in(path: Path) -> dict[str, Any] | None:
    """What a part's command wrote; None where that is nothing, or no whole file."""
    try:
        held = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) and held.get("tables") else None
