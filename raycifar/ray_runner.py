"""A sweep on Ray: Tune schedules the trials, each a TorchTrainer. The only room that imports Ray.

The trials' folders, not Ray's own files, say what is done: a sweep resumes by running its unfinished trials under a new
Tuner, which first hears again of the epochs that are there, so that Tune's logs and TensorBoard are complete too.
"""

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported, and by the processes that it starts.
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # reports are polled this often; 2 s would hold up short epochs
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # or the dashboard's Train page stays empty
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own makes Ctrl-C look like success
    "RAY_AIR_NEW_OUTPUT": "0",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for each other starve the trials beside them
}
for _key, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_key, _value)

import ray  # noqa: E402
import ray.train  # noqa: E402
import ray.train.torch  # noqa: E402
import ray.tune  # noqa: E402
import torch  # noqa: E402
from ray.tune.integration.ray_train import TuneReportCallback  # noqa: E402

from raycifar.checkpoints import KEPT, prune_checkpoints, saved_history, tidy_checkpoints  # noqa: E402
from raycifar.placement import DRIVER_CPUS, Machine, PlacementError, Plan  # noqa: E402
from raycifar.progress import Progress  # noqa: E402
from raycifar.records import EpochRecord, SweepFolder, TrialFolder  # noqa: E402
from raycifar.spec import TrialSpec  # noqa: E402
from raycifar.training import NonFiniteLossError  # noqa: E402
from raycifar.trial import Assets, Place, run_trial, trial_error  # noqa: E402

# Tests schedule GPUs that are not there and compute on the CPU. Without this a worker that should have a GPU and
# finds none fails instead.
LOGICAL_GPUS = "RAYCIFAR_TEST_LOGICAL_GPUS"
WORKER_FAILURES = 2  # restarts of a trial's workers, then of its driver, before the trial counts as failed
DRIVER_FAILURES = 1
OBJECT_STORE_BYTES = 200 * 2**20  # only small messages go through it


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ray sees, and where it can be looked at."""

    machine: Machine
    dashboard: str | None


@contextmanager
def cluster(address: str | None = None) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at `address`; leave it at the end. Raises PlacementError.

    Where this process is on a cluster already, that one is used and left as it is.
    """
    own = not ray.is_initialized()
    dashboard = _connect(address) if own else None
    try:
        yield Cluster(_machine(), dashboard)
    finally:
        if own:
            ray.shutdown()


def _machine() -> Machine:
    resources = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Machine(
        gpus=int(resources.get("GPU", 0)),
        cpus=int(resources.get("CPU", 0)),
        node_cpus=min(int(node["CPU"]) for node in nodes if node.get("CPU")),
        memory=resources.get("memory", math.inf),
    )


def gpus_can_compute() -> bool:
    """Whether this machine's PyTorch can use the GPUs that Ray schedules, or a test wants them logical."""
    return torch.cuda.is_available() or _logical()


def _connect(address: str | None) -> str | None:
    """The dashboard's address, once Ray runs."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    start = {} if address else {"object_store_memory": OBJECT_STORE_BYTES}
    try:
        context = ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=True,
            **start,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"to the Ray cluster at {address}" if address else "to a Ray of its own on this machine"
        reason = " ".join(str(error).split())[:300]
        raise PlacementError(
            f"cannot connect {where}: {reason}; try `ray status`, or --local to do without Ray"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would end the call without a word
    return f"http://{context.dashboard_url}" if context.dashboard_url else None


@dataclass(frozen=True, slots=True)
class Job:
    """What a trial's driver and workers need to know besides the trial: plain values, for it travels as JSON."""

    folder: str  # the sweep's, absolute: trials run in a folder of Ray's
    cifar10: str
    imagenet: str | None
    workers: int
    gpus_per_worker: float
    cpus_per_worker: float
    threads: int


def run_on_ray(
    trials: Sequence[TrialSpec], folder: SweepFolder, assets: Assets, plan: Plan, progress: Progress
) -> None:
    """Run the trials, longest first. Returns when each has finished or failed for good; their folders say which.

    Raises KeyboardInterrupt after Ctrl-C; Ray must be running.
    """
    job = Job(
        folder=str(folder.path),
        cifar10=str(assets.cifar10),
        imagenet=str(assets.imagenet) if assets.imagenet else None,
        workers=plan.workers,
        gpus_per_worker=plan.gpus_per_worker,
        cpus_per_worker=plan.cpus_per_worker,
        threads=plan.threads,
    )
    for trial in trials:
        _forget_earlier_runs(folder.trial(trial.name), progress)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(drive_trial, {"CPU": DRIVER_CPUS}),
        param_space={"trial": ray.tune.grid_search([t.model_dump(mode="json") for t in trials]), "job": asdict(job)},
        tune_config=ray.tune.TuneConfig(
            max_concurrent_trials=plan.at_once,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=ray.tune.RunConfig(
            name=folder.path.name,
            storage_path=str(folder.path.parent),
            failure_config=ray.tune.FailureConfig(max_failures=DRIVER_FAILURES),
            callbacks=[_ShowProgress(progress, folder)],
            verbose=0,
        ),
    )
    try:
        results = tuner.fit()
    except KeyboardInterrupt:
        ray.shutdown()  # the folder's lock may go only once nobody writes there
        raise
    for result in results:
        if result.error is not None:
            _record_error(result, folder)


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"]["name"])


def _forget_earlier_runs(trial: TrialFolder, progress: Progress) -> None:
    """Ray's own notes of an earlier session would contradict the checkpoints; ours say all that is worth keeping."""
    trial.path.mkdir(exist_ok=True)
    stale = ["result.json", "progress.csv", "checkpoint_manager_snapshot.json", "error.txt", "error.pkl"]
    for path in [*(trial.path / name for name in stale), *trial.path.glob("events.out.tfevents.*")]:
        path.unlink(missing_ok=True)
    for problem in tidy_checkpoints(trial.path):
        progress.console.print(problem, style="yellow")


def _record_error(result: ray.tune.Result, folder: SweepFolder) -> None:
    """A killed process could not write why it ended; Ray knows."""
    trial = folder.trial(result.config["trial"]["name"])
    if trial.summary() is None:
        trial.write_error(trial_error(result.error))


def drive_trial(config: dict[str, Any]) -> None:
    """A Tune trial: replays the epochs that are there, then has a TorchTrainer run the rest."""
    spec, job = TrialSpec.model_validate(config["trial"]), Job(**config["job"])
    trial = SweepFolder(Path(job.folder)).trial(spec.name)
    (trial.path / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
    for record in saved_history(trial.path).epochs:
        ray.tune.report(record.to_json())
    trainer = ray.train.torch.TorchTrainer(
        train_in_worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers,
            use_gpu=job.gpus_per_worker > 0,
            resources_per_worker=_worker_resources(job),
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if job.gpus_per_worker and not _logical() else "gloo"),
        run_config=ray.train.RunConfig(
            storage_path=job.folder,
            name=spec.name,
            callbacks=[TuneReportCallback()],
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT),
            failure_config=ray.train.FailureConfig(max_failures=WORKER_FAILURES, controller_failure_limit=10),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        # The workers' restarts are used up; Tune's own restart is for a driver that was killed.
        trial.write_error(trial_error(error))
    prune_checkpoints(trial.path)


def _worker_resources(job: Job) -> dict[str, float]:
    return {"CPU": job.cpus_per_worker} | ({"GPU": job.gpus_per_worker} if job.gpus_per_worker else {})


def _logical() -> bool:
    return bool(os.environ.get(LOGICAL_GPUS))


def train_in_worker(config: dict[str, Any]) -> None:
    """One worker of a trial. A loss that is not finite would be so again: it ends the trial without a retry."""
    spec, job = TrialSpec.model_validate(config["trial"]), Job(**config["job"])
    folder = Path(job.folder) / spec.name
    assets = Assets(Path(job.cifar10), Path(job.imagenet) if job.imagenet else None)
    try:
        run_trial(spec, folder, assets, _place(job), _report)
    except NonFiniteLossError as error:
        logging.getLogger(__name__).error("%s: %s", spec.name, error)


def _place(job: Job) -> Place:
    host = socket.gethostname()
    if not job.gpus_per_worker:
        return Place("cpu", job.threads, f"{host}:cpu")
    gpu = ",".join(str(gpu) for gpu in ray.get_runtime_context().get_accelerator_ids()["GPU"])
    if torch.cuda.is_available():
        return Place(str(ray.train.torch.get_device()), job.threads, f"{host}:{gpu}")
    if _logical():
        return Place("cpu", job.threads, f"{host}:{gpu}")
    raise RuntimeError(
        f"Ray gave GPU {gpu}, but this PyTorch cannot use it ({torch.__version__}): install a CUDA build"
    )


def _report(record: EpochRecord, checkpoint: Path | None) -> None:
    """The checkpoint lies in the trial's folder already: Ray takes charge of it without copying."""
    ray.train.report(
        record.to_json(),
        checkpoint=ray.train.Checkpoint.from_directory(checkpoint) if checkpoint else None,
        checkpoint_dir_name=checkpoint.name if checkpoint else f"checkpoint_{record.epoch:06d}",
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
    )


class _ShowProgress(ray.tune.Callback):  # type: ignore[misc]
    """Tells the terminal what Tune hears."""

    def __init__(self, progress: Progress, folder: SweepFolder) -> None:
        self._progress, self._folder = progress, folder
        self._shown: dict[str, int] = {}  # the last epoch of each trial that the terminal knows

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks, but a terminal cannot be saved, and no Tuner is ever restored from there."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        history = saved_history(self._folder.trial(_trial_name(trial)).path)
        self._shown[_trial_name(trial)] = len(history.epochs)
        self._progress.state(_trial_name(trial), "resumed" if history.epochs else "starting")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record, name = EpochRecord.from_json(result), _trial_name(trial)
        if record.epoch > self._shown[name]:
            self._shown[name] = record.epoch
            self._progress.epoch(name, record)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        folder = self._folder.trial(_trial_name(trial))
        if summary := folder.summary():
            self._progress.summary(_trial_name(trial), summary)
        elif error := folder.error():
            self._progress.state(_trial_name(trial), "failed", error.message)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.state(_trial_name(trial), "failed", "see its error.json")
