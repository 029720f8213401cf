"""What runs in Ray's processes: a trial's driver under Tune, its workers under Train, a sample of a search."""

import contextlib
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
import ray.train
import ray.train.torch
import ray.tune
import torch

from raycifar.config.sweep import TrialSpec
from raycifar.devices import logical_gpus
from raycifar.execution import shared_code
from raycifar.execution.ray_meeting import Meeting
from raycifar.execution.ray_private.trials import (
    CHECKPOINT_PATH_KEY,
    QuietTrainer,
    tells_tune,
    wait_until_tune_has_read,
)
from raycifar.execution.session import Job
from raycifar.execution.watchdog import Watchdog
from raycifar.storage.beneath import delete
from raycifar.storage.checkpoints import KEPT, checkpoint_epoch, checkpoint_name, prune_checkpoints, saved_history
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.records import EpochRecord
from raycifar.training.failures import HOPELESS, trial_error
from raycifar.training.trial import Caller, Place, run_trial
from raycifar.training.workers import from_first
from raycifar.user_code import CodeError

WORKER_FAILURES = 2  # restarts of a trial's workers before the trial counts as failed
MINUTES_FOR_ROOM = 24 * 60  # a trial whose node is gone waits for room on the others; Train asks once a minute
HEARD = "epochs_heard_of"  # by Tune: a key of a trial's config beside "trial" and "job"


def drive_trial(config: dict[str, Any]) -> None:
    """A Tune trial: reports the epochs that are there and Tune does not know, then has a TorchTrainer run the rest."""
    spec, job = TrialSpec.model_validate(config["trial"]), Job(**config["job"])
    trial = SweepFolder(Path(job.folder)).trial(spec.name)
    trial.clear_error()
    tested = trial.summary() is not None
    saved = trial.history().epochs if tested else saved_history(trial.path).epochs
    for record in saved[config.get(HEARD, 0) :]:
        ray.tune.report(_metrics(record))
    if tested:
        return
    delete(trial.files / "checkpoint_manager_snapshot.json")
    try:
        _trainer(spec, job, config, len(saved)).fit()
    except ray.train.TrainingFailedError as error:
        # The workers' restarts are used up; Tune's own restart is for a driver that was killed.
        with contextlib.suppress(OSError):  # on a full disk
            trial.write_error(trial_error(error))
    prune_checkpoints(trial.path)
    wait_until_tune_has_read()


def _trainer(spec: TrialSpec, job: Job, config: dict[str, Any], saved: int) -> QuietTrainer:
    """For the epochs after the `saved` ones."""
    nccl = job.gpus_per_worker and not logical_gpus()
    return QuietTrainer(
        train_in_worker,
        train_loop_config={**config, HEARD: saved},
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers, use_gpu=job.gpus_per_worker > 0, resources_per_worker=job.resources
        ),
        torch_config=Meeting(backend="nccl" if nccl else "gloo"),
        run_config=ray.train.RunConfig(
            storage_path=job.folder,
            name=spec.name,
            callbacks=[_TellTune(max(config.get(HEARD, 0), saved))],
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT),
            failure_config=ray.train.FailureConfig(
                max_failures=WORKER_FAILURES, controller_failure_limit=MINUTES_FOR_ROOM
            ),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )


class _TellTune(ray.train.UserCallback):  # type: ignore[misc]
    """Tells Tune of every epoch once, also where one is trained again because its checkpoint was not yet written."""

    def __init__(self, heard: int) -> None:
        self._heard, self._tell = heard, tells_tune()  # the last epoch that Tune knows of

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if metrics[0]["epoch"] > self._heard:
            saved = {CHECKPOINT_PATH_KEY: checkpoint.path} if checkpoint else {}
            self._tell(metrics[0] | saved)
            self._heard = metrics[0]["epoch"]


def train_in_worker(config: dict[str, Any]) -> None:
    """One worker of a trial. What would go wrong again, such as a loss that is not finite, is not tried again."""
    spec, job = TrialSpec.model_validate(config["trial"]), Job(**config["job"])
    folder = Path(job.folder) / spec.name
    trial = TrialFolder(folder)
    if from_first(_failed_for_good(trial)):
        return
    place = here(job, ray.train.torch.get_device)
    watchdog = Watchdog(folder, place.label, job.hang_seconds)
    try:
        job.allow_code()
        caller = Caller(partial(_report, watchdog), epochs_heard(config), watchdog.alive)
        run_trial(spec, folder, job.assets, place, caller)
    except HOPELESS as error:
        logging.getLogger(__name__).error("%s: %s", spec.name, error)
        if isinstance(error, CodeError):  # perhaps from before the trial, which writes down the others
            with contextlib.suppress(OSError):
                trial.write_error(trial_error(error))
        if job.workers > 1:
            raise  # or the others would wait for this one; started again, they see that it is of no use
    finally:
        watchdog.close()
        shared_code.forget()


def only_gpu() -> str:
    """What PyTorch calls a process's GPU where Ray shows it no other."""
    return "cuda:0"


def here(job: Job, gpu: Callable[[], object] = only_gpu) -> Place:
    """Where this process of Ray's runs; `gpu` says what PyTorch calls its GPU."""
    host = socket.gethostname()
    if not job.gpus_per_worker:
        return Place("cpu", job.threads, f"{host}:cpu", image_bytes=job.image_bytes)
    number = ",".join(str(gpu) for gpu in ray.get_runtime_context().get_accelerator_ids()["GPU"])
    if torch.cuda.is_available():
        return Place(str(gpu()), job.threads, f"{host}:{number}", sharing=int(1 / job.gpus_per_worker))
    if logical_gpus():
        return Place("cpu", job.threads, f"{host}:{number}")
    raise RuntimeError(
        f"Ray gave GPU {number}, but this PyTorch cannot use it ({torch.__version__}): install a CUDA build"
    )


def _failed_for_good(trial: TrialFolder) -> bool:
    error = trial.error()
    return error is not None and error.kind in {kind.__name__ for kind in HOPELESS}


def epochs_heard(config: dict[str, Any]) -> int:
    """The last epoch that Tune knows of: from the driver, or from workers that were here before."""
    newest, replayed = ray.train.get_checkpoint(), int(config[HEARD])
    return max(replayed, checkpoint_epoch(Path(newest.path))) if newest else replayed


def _report(watchdog: Watchdog, record: EpochRecord, checkpoint: Path | None) -> None:
    """The checkpoint lies in the trial's folder already: Ray takes charge of it without copying."""
    watchdog.pause()  # a report waits for the other workers and for Ray
    ray.train.report(
        _metrics(record),
        checkpoint=ray.train.Checkpoint.from_directory(checkpoint) if checkpoint else None,
        checkpoint_dir_name=checkpoint.name if checkpoint else checkpoint_name(record.epoch),
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
    )
    watchdog.resume()


def _metrics(record: EpochRecord) -> dict[str, Any]:
    """Tune's own counter would start again with every driver, and TensorBoard's steps with it."""
    return {**record.to_json(), "training_iteration": record.epoch}
