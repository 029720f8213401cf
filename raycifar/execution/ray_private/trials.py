"""Private names of Ray around trials: how Train runs one, and how Tune hears of it."""

import contextlib
import time
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
import ray.train.torch
from ray.train._internal.session import get_session
from ray.train.torch.config import _set_torch_distributed_env_vars as set_ranks
from ray.train.torch.config import _TorchBackend as TorchBackend
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback
from ray.tune.progress_reporter import TrialProgressCallback

__all__ = [
    "CHECKPOINT_PATH_KEY",  # where the report of a checkpoint has its path
    "QuietTrainer",
    "TorchBackend",  # how Ray brings the workers of a trial together
    "TrialProgressCallback",  # Tune prints a table of its own unless another of this class is there
    "TuneReportCallback",
    "set_ranks",  # of a worker, in the variables that libraries read
    "wait_until_tune_has_read",
]


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
