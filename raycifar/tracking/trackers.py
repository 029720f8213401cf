"""`--log`: which experiment trackers there are, and what each needs before anything starts."""

from collections.abc import Sequence
from importlib.util import find_spec

from raycifar.errors import InputError
from raycifar.program import program
from raycifar.tracking.listener import Tracked, Tracker
from raycifar.tracking.mlflow import MLflow
from raycifar.tracking.wandb import WandB

TRACKERS: dict[str, type[Tracker]] = {tracker.name: tracker for tracker in (MLflow, WandB)}


class TrackerError(InputError):
    """A tracker cannot be used; the message names it and the remedy."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises TrackerError for one that is not installed, or that could not log what was asked for."""
    for name in names:
        if missing := [package for package in TRACKERS[name].packages if find_spec(package) is None]:
            remedy = f"python -m {program().install(name)}"
            raise TrackerError(f"--log {name}: {' and '.join(missing)} not installed: {remedy}")
        if problem := TRACKERS[name].problem():
            raise TrackerError(f"--log {name}: {problem}")


def written_by(names: Sequence[str]) -> list[str]:
    """The files and folders that the trackers open in the results' folder by their names."""
    return [name for tracker in names for name in TRACKERS[tracker].beside()]


def chosen_trackers(names: Sequence[str], tracked: Tracked) -> list[Tracker]:
    """Those that `--log` names, ready to listen."""
    return [TRACKERS[name](tracked) for name in names]
