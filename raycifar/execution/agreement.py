"""What all calls on one folder agree on: the weights and the images that its trials started from."""

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from raycifar.errors import InputError
from raycifar.user_code import agreed_code


class SweepError(InputError):
    """The sweep cannot start in this folder; the message names place, value and remedy."""


@dataclass(frozen=True, slots=True)
class Call:
    """What goes on record about one call that runs a sweep."""

    runner: str  # "ray" or "local"
    gpus: int
    trials_at_once: int
    source: str  # the sweep file's name
    weights: str  # the cached file of VGG16's ImageNet weights; empty where no trial reads it
    hardware: str
    versions: dict[str, str]
    command: tuple[str, ...] = ()  # its words; a single one is Python code
    data: str = ""  # the SHA-256 of the images and labels
    facts: dict[str, Any] = field(default_factory=dict)  # what is known of them
    pretrained: dict[str, str] = field(default_factory=dict)  # as `weights`, of other networks, by name
    code: dict[str, str] = field(default_factory=dict)  # the SHA-256 of each module of the user's that may run


class Recorded(Protocol):
    """The record of a sweep or of a search."""

    @property
    def created_at(self) -> float: ...
    @property
    def weights(self) -> str: ...
    @property
    def pretrained(self) -> dict[str, str]: ...
    @property
    def data(self) -> str: ...
    @property
    def facts(self) -> dict[str, Any]: ...
    @property
    def code(self) -> dict[str, str]: ...


def weights_on_record(record: Recorded | Call | None) -> dict[str, str]:
    """The cached files of ImageNet weights that the folder's trials started from, by network."""
    if record is None:
        return {}
    return ({"vgg16": record.weights} if record.weights else {}) | record.pretrained


def agreed_weights(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The ImageNet weights of a folder's trials, by network. Raises SweepError where those on record are others."""
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            what, option = ("", "--weights") if name == "vgg16" else (f" of {name}", f"--weights for {name}")
            raise SweepError(
                f"{path}: its trials started from the ImageNet weights {before[name]}{what}, not {now[name]}: "
                f"name the same {option}, or choose another --name"
            )
    return {**before, **now}


def agreed_data(path: Path, before: Recorded | None, now: str) -> str:
    """As agreed_weights, for the SHA-256 of the images and labels. Raises SweepError."""
    if before and before.data and now and before.data != now:
        raise SweepError(
            f"{path}: its trials read {before.facts.get('title', 'CIFAR-10')} with digest {before.data[:16]}, "
            f"not {now[:16]}: choose another --name, or restore the images"
        )
    return now or (before.data if before else "")


def common_facts(path: Path, before: Recorded | None, call: Call) -> dict[str, Any]:
    """The fields that the records of sweeps and searches share; `before` is the one on disk. Raises SweepError."""
    weights = agreed_weights(path, weights_on_record(before), weights_on_record(call))
    return {
        "name": path.name,
        "source": call.source,
        "created_at": before.created_at if before else time.time(),
        "versions": call.versions,
        "commit": commit(),
        "hardware": call.hardware,
        "weights": weights.pop("vgg16", ""),
        "pretrained": weights,
        "data": agreed_data(path, before, call.data),
        "facts": call.facts,
        "code": agreed_code(path, before.code if before else {}, call.code),
    }


def commit() -> str | None:
    """The project's git commit, marked where files have changed since; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if (root / ".git").exists() else None
