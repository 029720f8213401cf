"""Every private name of Ray that the product uses, with the reason. Read in Ray 2.60.

A Ray that has one of them elsewhere makes tests/execution/test_ray_private.py say so.
"""

import contextlib
import os
import time
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
import ray.train.torch
from ray._private import ray_constants
from ray.train._internal.session import get_session
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback
from ray.tune.progress_reporter import TrialProgressCallback

__all__ = [
    "CHECKPOINT_PATH_KEY",  # where the report of a checkpoint has its path
    "QuietTrainer",
    "TrialProgressCallback",  # Tune prints a table of its own unless another of this class is there
    "TuneReportCallback",
    "choose_interfaces",
    "start_helpers",
    "wait_until_tune_has_read",
]


def choose_interfaces(address: str | None) -> None:
    """A Ray of our own listens on loopback alone: it does so where it is told that it has one node, as on Windows.

    ray.init replaces a loopback address that it is given; this process has read the variable already.
    """
    ray_constants.ENABLE_RAY_CLUSTER = bool(address)
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = str(int(bool(address)))


def start_helpers() -> None:
    """Start the actors that Train would have each first trial wait for, one after the other; nothing waits for them.

    Whoever needs one takes the one that is there, or, in a Ray that has them elsewhere, makes it as before.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
            get_or_create_autoscaling_coordinator,
        )
        from ray.train.v2._internal.state.state_actor import get_or_create_state_actor

        get_or_create_autoscaling_coordinator()
        get_or_create_state_actor()


class QuietTrainer(ray.train.torch.TorchTrainer):  # type: ignore[misc]
    """A TorchTrainer without the actor that serves Ray Data's shards: there are none, and its start takes seconds."""

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ != "DatasetsCallback"]


def wait_until_tune_has_read() -> None:
    """In a Tune trial: let Tune take in the last report before the trial ends.

    Ray 2.60 puts both into a queue of one from which Tune's thread reads: if the end is there first, when that thread
    passes the report on, it waits for itself, for ever. So a None goes behind the report, which that thread drops: once
    it has come for the None, it has passed the report on.
    """
    reports = get_session()._inter_actor_queue
    with contextlib.suppress(ray.exceptions.RayError):
        if reports is not None:
            reports.put(None)
            while not reports.empty():
                time.sleep(0.1)
