"""`--log`: which experiment trackers there are, and what each needs before anything starts."""

import functools
import logging
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar, cast

from raycifar.errors import InputError
from raycifar.program import program
from raycifar.storage.folders import SweepFolder

Method = TypeVar("Method", bound=Callable[..., Any])

PACKAGES = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}


class TrackerError(InputError):
    """A tracker cannot be used; the message names it and the remedy."""


def check_trackers(names: Sequence[str], local: bool) -> None:
    """Raises TrackerError for one that is not installed, or that could not log what was asked for."""
    for name in names:
        if missing := [package for package in PACKAGES[name] if find_spec(package) is None]:
            raise TrackerError(
                f"--log {name}: {' and '.join(missing)} not installed: python -m {program().install(name)}"
            )
        if local:
            raise TrackerError(f"--log {name}: goes through Ray's callbacks: leave out --local, or --log {name}")
    if "wandb" in names and wandb_mode() == "online" and not _logged_in():
        raise TrackerError("--log wandb: WANDB_MODE=online without a login: `wandb login`, or WANDB_MODE=offline")


def _logged_in() -> bool:
    import wandb

    return bool(wandb.api.api_key)  # from WANDB_API_KEY, or the file that `wandb login` writes


def ends_no_sweep(method: Method) -> Method:
    """Of a tracker: its first error is told, and ends the tracker (a server that is down), not the training."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "given_up", False):
            return None
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.given_up = True
            logging.getLogger(__name__).warning("%s: logs no more: %s", type(self).__name__, error)

    return cast(Method, call)


def wandb_mode() -> str:
    return os.environ.get("WANDB_MODE", "offline")


def run_id(folder: SweepFolder, trial: str) -> str:
    """The same for all sessions of a trial, and another for the same trial of a sweep that starts over."""
    record = folder.record()
    return f"{folder.path.name}-{trial}-{record.created_at if record else 0:.0f}"
