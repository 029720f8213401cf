"""Private names of Ray around trials: how Train runs one, and how Tune hears of it."""

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
import ray.train.torch
import ray.tune
from ray.train._internal.session import get_session
from ray.train.torch.config import _set_torch_distributed_env_vars as set_ranks
from ray.train.torch.config import _TorchBackend as TorchBackend
from ray.tune.execution import class_cache
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback
from ray.tune.progress_reporter import TrialProgressCallback
from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from raycifar.execution.ray_private.alone import REPLACED, let_nobody_rest, nobody_to_meet
from raycifar.execution.ray_private.ways import OWN_RAY, RAYS_OWN_WAY, replaced

__all__ = [
    "CHECKPOINT_PATH_KEY",  # where the report of a checkpoint has its path
    "QuietTrainer",
    "TorchBackend",  # how Ray brings the workers of a trial together
    "TrialProgressCallback",  # Tune prints a table of its own unless another of this class is there
    "inherited_environment",
    "remove_groups",
    "set_ranks",  # of a worker, in the variables that libraries read
    "start_helpers",
    "tells_tune",
    "wait_until_tune_has_read",
    "workers_environment",
]

try:
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
    from ray.train.v2._internal.execution.worker_group import WorkerGroup
    from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
except ImportError:
    TrainController = FixedScalingPolicy = WorkerGroup = DefaultPlacementGroupHandle = object
OVERRIDDEN = [  # what a Ray that starts less must have; a Ray without goes its own way
    (ray.train.torch.TorchTrainer, "_initialize_and_run_controller"),
    (TrainController, "worker_group_cls"),
    (TrainController, "get_worker_group"),
    (FixedScalingPolicy, "_send_resource_request"),
    (FixedScalingPolicy, "_maybe_send_resource_request"),
    (FixedScalingPolicy, "_cancel_resource_request"),
    *REPLACED,
    (WorkerGroup, "_start_impl"),
    (WorkerGroup, "_create_placement_group"),
    (WorkerGroup, "_get_worker_runtime_env"),
    (class_cache, "DEFAULT_ENV_VARS"),
    (class_cache, "ENV_VARS_TO_PROPAGATE"),
    (DefaultPlacementGroupHandle, "shutdown"),
]
LIGHT = not os.environ.get(RAYS_OWN_WAY) and all(hasattr(owner, name) for owner, name in OVERRIDDEN)
if LIGHT:
    let_nobody_rest()


def _inherits() -> bool:
    """Whether Ray's processes are children of this one's Ray, and have its environment."""
    return LIGHT and bool(os.environ.get(OWN_RAY))


class QuietTrainer(ray.train.torch.TorchTrainer):  # type: ignore[misc]
    """A TorchTrainer without the actors that a trial can do without: the start of each takes seconds."""

    def _create_default_callbacks(self) -> list[Any]:
        """Without the actor that serves Ray Data's shards: there are none; and without the one of `remove_groups`."""
        needless = {"DatasetsCallback", "PlacementGroupCleanerCallback"} if LIGHT else {"DatasetsCallback"}
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in needless]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        """Train's controller in this process: the driver that it would be an actor of waits for it and does nothing."""
        if not LIGHT:
            return super()._initialize_and_run_controller(**parts)
        if _inherits():
            parts["scaling_policy"] = _NothingToScale(self.scaling_config)
        controller = _Controller(**parts)
        try:
            asyncio.run(controller.run())
        except BaseException:
            if group := controller.get_worker_group():
                with contextlib.suppress(Exception):
                    group.abort()
            raise
        return controller.get_result()


def workers_environment(custom_runtime_env: Any) -> Any:
    """What Ray is to set in a worker's environment, which on a Ray of our own is inherited.

    To set a variable, Ray starts a process, which then starts the worker's.
    """
    if _inherits():
        return dict(custom_runtime_env)
    return WorkerGroup._get_worker_runtime_env(custom_runtime_env)


class _Group(WorkerGroup):  # type: ignore[misc]
    """A trial's workers, whose placement group has a name by which `remove_groups` finds it."""

    def _start_impl(self, worker_group_state_builder: Any) -> None:
        alone = self._worker_group_context.num_workers == 1
        with nobody_to_meet() if alone else contextlib.nullcontext():
            super()._start_impl(worker_group_state_builder)

    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> Any:
        group = placement_group(
            bundles=[worker_group_context.resources_per_worker] * worker_group_context.num_workers,
            strategy=worker_group_context.placement_strategy,
            bundle_label_selector=worker_group_context.label_selector,
            name=f"{_of(self._train_run_context.run_config.name)}{uuid.uuid4().hex}",
        )
        return DefaultPlacementGroupHandle(group)

    _get_worker_runtime_env = staticmethod(workers_environment)


class _NothingToScale(FixedScalingPolicy):  # type: ignore[misc]
    """Without the actor that asks an autoscaler for room."""

    def _send_resource_request(self) -> None:
        pass

    _maybe_send_resource_request = _cancel_resource_request = _send_resource_request


class _Controller(TrainController):  # type: ignore[misc]
    worker_group_cls = _Group


OURS = (QuietTrainer, _Group, _NothingToScale, _Controller)  # each with methods that override those of its base


def _of(trial: str) -> str:
    """What the names of its placement groups begin with: no other sweep on the cluster has these."""
    return f"raycifar/{ray.get_runtime_context().get_job_id()}/{trial}/"


def remove_groups(trial: str) -> None:
    """Give back what the workers of a killed driver held: Ray does so when the sweep ends.

    Ray's own way is an actor for each trial that looks once a second whether Train's controller lives.
    """
    for group in placement_group_table().values():
        if group["name"].startswith(_of(trial)) and group["state"] != "REMOVED":
            with contextlib.suppress(ValueError):  # it has just gone
                remove_placement_group(get_placement_group(group["name"]))


def inherited_environment() -> contextlib.AbstractContextManager[None]:
    """As workers_environment, for a trial's driver, whose environment Tune would have set."""
    if not _inherits():
        return contextlib.nullcontext()
    return replaced(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=set())


def start_helpers() -> None:
    """Start the actors that Train would have each first trial wait for, one after the other; nothing waits for them.

    Whoever needs one takes the one that is there, or, in a Ray that has them elsewhere, makes it as before.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
            get_or_create_autoscaling_coordinator,
        )
        from ray.train.v2._internal.state.state_actor import get_or_create_state_actor

        if not _inherits():
            get_or_create_autoscaling_coordinator()
        get_or_create_state_actor()


def tells_tune() -> Callable[[dict[str, Any]], None]:
    """In a Tune trial: what tells Tune of an epoch, called where Train's controller runs.

    In this process that waits until Tune has asked for it, so no report is left when the trial ends. Elsewhere an actor
    has a queue for them, which Tune asks several times a second.
    """
    if LIGHT:
        report: Callable[[dict[str, Any]], None] = ray.tune.report
        return report
    callback = TuneReportCallback()
    return lambda metrics: callback.after_report(None, [metrics], None)


def wait_until_tune_has_read() -> None:
    """In a Tune trial whose reports take the queue: let Tune take in the last one before the trial ends.

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
