"""A sweep on Ray: Tune schedules the trials, each a TorchTrainer. Only the rooms named ray_* import Ray.

The trials' folders, not Ray's own files, say what is done: a sweep resumes by running its unfinished trials under a new
Tuner, which first hears again of the epochs that are there, so that Tune's logs and TensorBoard are complete too.
"""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Read by Ray when it is imported, and by the processes that it starts.
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # reports are polled this often; 2 s would hold up short epochs
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # or the dashboard's Train page stays empty
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own makes Ctrl-C look like success
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # or a thread's question, as Ray is shut down, starts another one
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # its TensorBoard's tags and steps; the others are named below
    # A trial has several processes that hardly compute; Ray warns at thrice this number, by default the CPUs'.
    "RAY_worker_maximum_startup_concurrency": str(max(16, os.cpu_count() or 1)),
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for each other starve the trials beside them
}
for _key, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_key, _value)

import ray  # noqa: E402
import ray.train  # noqa: E402
import ray.train.torch  # noqa: E402
import ray.tune  # noqa: E402
import torch  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray.train._internal.session import get_session  # noqa: E402
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback  # noqa: E402
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback  # noqa: E402
from ray.tune.progress_reporter import TrialProgressCallback  # noqa: E402
from rich.console import Console  # noqa: E402

from raycifar.config.sweep import TrialSpec  # noqa: E402
from raycifar.execution import gpu_sharing, interruption  # noqa: E402
from raycifar.execution.placement import DRIVER_CPUS, Machine, PlacementError, Plan  # noqa: E402
from raycifar.execution.watchdog import Watchdog  # noqa: E402
from raycifar.program import program  # noqa: E402
from raycifar.storage.checkpoints import (  # noqa: E402
    KEPT,
    checkpoint_epoch,
    checkpoint_name,
    prune_checkpoints,
    saved_history,
    tidy_checkpoints,
)
from raycifar.storage.files import RecordError  # noqa: E402
from raycifar.storage.folders import SweepFolder, TrialFolder  # noqa: E402
from raycifar.storage.records import EpochRecord  # noqa: E402
from raycifar.tracking.progress import Progress  # noqa: E402
from raycifar.tracking.prometheus import Gauges  # noqa: E402
from raycifar.training.trial import HOPELESS, Assets, Caller, Place, run_trial, trial_error  # noqa: E402
from raycifar.training.workers import from_first  # noqa: E402

# Tests schedule GPUs that are not there and compute on the CPU. Without this a worker that should have a GPU and
# finds none fails instead.
LOGICAL_GPUS = "RAYCIFAR_TEST_LOGICAL_GPUS"
WORKER_FAILURES = 2  # restarts of a trial's workers, then of its driver, before the trial counts as failed
DRIVER_FAILURES = 1
MINUTES_FOR_ROOM = 24 * 60  # a trial whose node is gone waits for room on the others; Train asks once a minute
ASK_SECONDS = 10.0  # Ray is asked so often whether it lives, and has so long to answer
MOST_UNANSWERED = 6  # times in a row
START_SECONDS = 300.0  # at most, for Ray to start: it waits for its first workers without a limit of its own
SLOW_START_SECONDS = 300.0  # a trial whose workers are not up by then is worth a line
HEARD = "epochs_heard_of"  # by Tune: a key of a trial's config beside "trial" and "job"
OBJECT_STORE_BYTES = 200 * 2**20  # only small messages go through it


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ray sees, and where it can be looked at."""

    machine: Machine
    dashboard: str | None


@contextmanager
def cluster(address: str | None = None, verbose: bool = False) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at `address`; leave it at the end. Raises PlacementError.

    `verbose` shows what Ray and the workers log; Ray's warnings about the machine are always shown. Where this process
    is on a cluster already, that one is used, and left only after an interruption: nothing else ends what runs there.
    """
    own = not ray.is_initialized()
    dashboard = _connect(address, verbose) if own else None
    try:
        yield Cluster(_machine(), dashboard)
    finally:
        if own:
            _shut_down()


def _shut_down() -> None:
    with interruption.ends_within(interruption.LEAVE_SECONDS):  # Ray waits for threads of its own without a limit
        ray.shutdown()


def _machine() -> Machine:
    resources = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    to_a_gpu = [node.get("CPU", 0) / node["GPU"] for node in nodes if node.get("GPU")]
    return Machine(
        gpus=int(resources.get("GPU", 0)),
        cpus=int(resources.get("CPU", 0)),
        node_cpus=min(int(node["CPU"]) for node in nodes if node.get("CPU")),
        memory=resources.get("memory", math.inf),
        gpu_cpus=int(min(to_a_gpu, default=0) * resources.get("GPU", 0)),
    )


def gpus_can_compute() -> bool:
    """Whether this machine's PyTorch can use the GPUs that Ray schedules, or a test wants them logical."""
    return torch.cuda.is_available() or _logical()


def _connect(address: str | None, verbose: bool) -> str | None:
    """The dashboard's address, once Ray runs."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    start = {} if address else {"object_store_memory": OBJECT_STORE_BYTES}
    _choose_interfaces(address)
    try:
        with interruption.ends_within(START_SECONDS):
            context = ray.init(
                address=address or "local",
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
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


def _choose_interfaces(address: str | None) -> None:
    """A Ray of our own listens on loopback alone: it does so where it is told that it has one node, as on Windows.

    ray.init replaces a loopback address that it is given; this process has read the variable already.
    """
    ray_constants.ENABLE_RAY_CLUSTER = bool(address)
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = str(int(bool(address)))


def best_sharing(trial: TrialSpec, assets: Assets, most: int, console: Console) -> int:
    """How many trials like this one should share a GPU, measured on one GPU of the cluster. Raises PlacementError."""
    try:
        found = ray.get(_measure_sharing.remote(trial, assets.cifar10, most))
    except ray.exceptions.RayTaskError as error:
        raise PlacementError(
            f"--trials-per-gpu auto: trial {trial.name!r} could not be measured: {error.cause}: give a number instead"
        ) from error
    console.print(gpu_sharing.described(found), soft_wrap=True)
    return gpu_sharing.best_sharing(found)


@ray.remote(num_cpus=0, num_gpus=1, max_retries=0)
def _measure_sharing(trial: TrialSpec, cifar10: Path, most: int) -> list[gpu_sharing.Shared]:
    device = "cpu" if _logical() else "cuda:0"  # Ray shows the process no other GPU
    return gpu_sharing.measure_sharing(trial, cifar10, most, device)


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
    hang_seconds: float


def run_on_ray(
    folder: SweepFolder, assets: Assets, plan: Plan, progress: Progress, hang_seconds: float, log: Sequence[str] = ()
) -> None:
    """Run the plan's trials in order. Returns when each has finished or failed for good; their folders say which.

    A worker that makes no training step for `hang_seconds` is killed and started again. Raises KeyboardInterrupt
    after Ctrl-C or SIGTERM; Ray must be running.
    """
    _start_helpers()
    trials = plan.order
    job = Job(
        folder=str(folder.path),
        cifar10=str(assets.cifar10),
        imagenet=str(assets.imagenet) if assets.imagenet else None,
        workers=plan.workers,
        gpus_per_worker=plan.gpus_per_worker,
        cpus_per_worker=plan.cpus_per_worker,
        threads=plan.threads,
        hang_seconds=hang_seconds,
    )
    progress.listeners.append(gauges := Gauges(folder.path.name))
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
            callbacks=[
                JsonLoggerCallback(),
                CSVLoggerCallback(),
                *(_tracker(name, folder) for name in log),
                _ShowProgress(progress, folder, gauges),
            ],
            verbose=0,
        ),
    )
    run_to_the_end(tuner, folder)


def _start_helpers() -> None:
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


def run_to_the_end(tuner: ray.tune.Tuner, folder: SweepFolder) -> None:
    """Run the Tuner, and write down what Ray alone knows of trials that were killed. Raises KeyboardInterrupt."""
    try:
        with _ray_watched():
            results = tuner.fit()
    except BaseException:
        _shut_down()  # the folder's lock may go only once nobody writes there
        raise
    for result in results:
        if result.error is not None:
            _record_error(result, folder)


def _tracker(name: str, folder: SweepFolder) -> ray.tune.Callback:
    if name == "mlflow":
        from raycifar.tracking.mlflow import MLflow  # imports MLflow, an optional package

        return MLflow(folder)
    from raycifar.tracking.wandb import WandB

    return WandB(folder)


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"]["name"])


def _forget_earlier_runs(trial: TrialFolder, progress: Progress) -> None:
    """Ray's own notes of an earlier session would contradict the checkpoints; ours say all that is worth keeping."""
    trial.path.mkdir(exist_ok=True)
    stale = ["result.json", "progress.csv", "error.txt", "error.pkl"]
    if trial.summary() is None:  # else only Tune is told again
        stale.append("checkpoint_manager_snapshot.json")
    for name in stale:
        (trial.path / name).unlink(missing_ok=True)
    for problem in tidy_checkpoints(trial.path):
        progress.console.print(problem, style="yellow")


def _record_error(result: ray.tune.Result, folder: SweepFolder) -> None:
    """A killed process could not write why it ended; Ray knows."""
    trial = folder.trial(Path(result.path).name)  # its settings are not there where nothing was reported
    if trial.summary() is None:
        with contextlib.suppress(OSError):  # on a full disk, the terminal has said it
            trial.write_error(trial_error(result.error))


def drive_trial(config: dict[str, Any]) -> None:
    """A Tune trial: reports the epochs that are there and Tune does not know, then has a TorchTrainer run the rest."""
    spec, job = TrialSpec.model_validate(config["trial"]), Job(**config["job"])
    trial = SweepFolder(Path(job.folder)).trial(spec.name)
    trial.clear_error()
    tested = trial.summary() is not None
    there = trial.history().epochs if tested else saved_history(trial.path).epochs
    for record in there[config.get(HEARD, 0) :]:
        ray.tune.report(_metrics(record))
    if tested:
        return
    (trial.path / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
    trainer = _Trainer(
        train_in_worker,
        train_loop_config={**config, HEARD: len(there)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers,
            use_gpu=job.gpus_per_worker > 0,
            resources_per_worker=_worker_resources(job),
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if job.gpus_per_worker and not _logical() else "gloo"),
        run_config=ray.train.RunConfig(
            storage_path=job.folder,
            name=spec.name,
            callbacks=[_TellTune(max(config.get(HEARD, 0), len(there)))],
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT),
            failure_config=ray.train.FailureConfig(
                max_failures=WORKER_FAILURES, controller_failure_limit=MINUTES_FOR_ROOM
            ),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        # The workers' restarts are used up; Tune's own restart is for a driver that was killed.
        with contextlib.suppress(OSError):  # on a full disk
            trial.write_error(trial_error(error))
    prune_checkpoints(trial.path)
    _wait_until_heard()


class _Trainer(ray.train.torch.TorchTrainer):  # type: ignore[misc]
    """A TorchTrainer without the actor that serves Ray Data's shards: there are none, and its start takes seconds."""

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ != "DatasetsCallback"]


class _TellTune(TuneReportCallback):  # type: ignore[misc]
    """Tells Tune of every epoch once, also where one is trained again because its checkpoint was not yet written."""

    def __init__(self, heard: int) -> None:
        super().__init__()
        self._heard = heard  # the last epoch that Tune knows of

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if metrics[0]["epoch"] > self._heard:
            super().after_report(run_context, metrics, checkpoint)
            self._heard = metrics[0]["epoch"]


def _wait_until_heard() -> None:
    """Let Tune take in the workers' last report before this trial ends.

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


def _worker_resources(job: Job) -> dict[str, float]:
    return {"CPU": job.cpus_per_worker} | ({"GPU": job.gpus_per_worker} if job.gpus_per_worker else {})


def _logical() -> bool:
    return bool(os.environ.get(LOGICAL_GPUS))


def train_in_worker(config: dict[str, Any]) -> None:
    """One worker of a trial. What would go wrong again, such as a loss that is not finite, is not tried again."""
    spec, job = TrialSpec.model_validate(config["trial"]), Job(**config["job"])
    folder = Path(job.folder) / spec.name
    if from_first(_failed_for_good(TrialFolder(folder))):
        return
    assets = Assets(Path(job.cifar10), Path(job.imagenet) if job.imagenet else None)
    place = _place(job)
    watchdog = Watchdog(folder, place.label, job.hang_seconds)
    try:
        caller = Caller(partial(_report, watchdog), _heard(config), watchdog.alive)
        run_trial(spec, folder, assets, place, caller)
    except HOPELESS as error:
        logging.getLogger(__name__).error("%s: %s", spec.name, error)
        if job.workers > 1:
            raise  # or the others would wait for this one; started again, they see that it is of no use
    finally:
        watchdog.close()


def _failed_for_good(trial: TrialFolder) -> bool:
    error = trial.error()
    return error is not None and error.kind in {kind.__name__ for kind in HOPELESS}


def _heard(config: dict[str, Any]) -> int:
    """The last epoch that Tune knows of: from the driver, or from workers that were here before."""
    newest, replayed = ray.train.get_checkpoint(), int(config[HEARD])
    return max(replayed, checkpoint_epoch(Path(newest.path))) if newest else replayed


def _place(job: Job) -> Place:
    host = socket.gethostname()
    if not job.gpus_per_worker:
        return Place("cpu", job.threads, f"{host}:cpu")
    gpu = ",".join(str(gpu) for gpu in ray.get_runtime_context().get_accelerator_ids()["GPU"])
    if torch.cuda.is_available():
        trials = int(1 / job.gpus_per_worker)
        return Place(str(ray.train.torch.get_device()), job.threads, f"{host}:{gpu}", trials)
    if _logical():
        return Place("cpu", job.threads, f"{host}:{gpu}")
    raise RuntimeError(
        f"Ray gave GPU {gpu}, but this PyTorch cannot use it ({torch.__version__}): install a CUDA build"
    )


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


@contextmanager
def _ray_watched() -> Iterator[None]:
    """Ends this process where Ray dies: Tune would wait in calls that are deaf to Ctrl-C, or for room on no node."""
    over = threading.Event()
    watch = threading.Thread(target=_watch_ray, args=(over,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join(3)  # what follows may shut Ray down: not under a question


def _watch_ray(over: threading.Event) -> None:
    unanswered = 0  # times in a row, and no time of day: a machine that slept is no hang
    while unanswered < MOST_UNANSWERED and not over.wait(ASK_SECONDS):
        lives = _ray_lives()
        if lives is False:
            break
        unanswered = 0 if lives else unanswered + 1
    if not over.is_set():
        line = f"{program().run}: Ray died, or was killed. The same command goes on."
        print(f"\n{line}", file=sys.stderr, flush=True)
        os._exit(1)


def _ray_lives() -> bool | None:
    """Whether Ray counts this machine among its living nodes; None where it does not say so in time."""
    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            here = ray.get_runtime_context().get_node_id()
            answers.append(any(node["Alive"] and node["NodeID"] == here for node in ray.nodes()))

    if ray.is_initialized():
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(ASK_SECONDS)
    return answers[0] if answers else None


@dataclass(slots=True)
class _Start:
    """Of a trial whose workers are not up."""

    sessions: int  # that it has had before
    began_at: float  # time.monotonic()
    told: bool = False  # that it takes long


class _ShowProgress(TrialProgressCallback):  # type: ignore[misc]
    """Tells the terminal what Tune hears, in the place of Tune's own callback, which prints."""

    def __init__(self, progress: Progress, folder: SweepFolder, gauges: Gauges) -> None:
        super().__init__()
        self._progress, self._folder, self._gauges = progress, folder, gauges
        self._shown: dict[str, int] = {}  # the last epoch of each trial that the terminal knows
        self._starting: dict[str, _Start] = {}
        self._beginning: set[str] = set()  # trials whose first epoch in this session has not been heard of

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks, but a terminal cannot be saved, and no Tuner is ever restored from there."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name, folder = _trial_name(trial), self._folder.trial(_trial_name(trial))
        try:
            epochs = len(saved_history(folder.path).epochs)
        except RecordError:  # its driver meets it, too, and then that trial alone fails
            epochs = 0
        self._shown.setdefault(name, epochs)  # a driver that starts again may find epochs that Tune has not heard of
        self._starting[name] = _Start(len(folder.history().sessions), time.monotonic())
        self._beginning.add(name)
        interruption.trial_started(name)
        self._progress.state(name, "resumed" if epochs else "starting", f"after epoch {epochs}" if epochs else "")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for name in list(self._starting):
            self._find_place(name)
        self._gauges.refresh()

    def _find_place(self, name: str) -> None:
        """A trial's workers write down where they are once they begin to train."""
        if (start := self._starting.get(name)) is None:
            return
        sessions, waited = self._folder.trial(name).history().sessions, time.monotonic() - start.began_at
        if len(sessions) > start.sessions:
            del self._starting[name]
            self._progress.place(name, sessions[-1].devices)
        elif waited >= SLOW_START_SECONDS and not start.told:
            start.told = True
            self._progress.warn(name, f"no worker after {waited:.0f} s, still waiting (Ray's dashboard shows for what)")

    def _find_warnings(self, name: str) -> None:
        """A session's warnings are written down by the end of its first epoch."""
        if name in self._beginning:
            self._beginning.remove(name)
            for session in self._folder.trial(name).history().sessions[-1:]:
                for line in session.warnings:
                    self._progress.warn(name, line)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record, name = EpochRecord.from_json(result), _trial_name(trial)
        if record.epoch > self._shown[name]:
            self._find_place(name)
            self._find_warnings(name)
            self._shown[name] = record.epoch
            self._progress.epoch(name, record)
        trial.config[HEARD] = record.epoch  # for a driver that is started again
        if result.get(CHECKPOINT_PATH_KEY):
            interruption.epoch_saved(name)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        interruption.trial_ended(_trial_name(trial))
        folder = self._folder.trial(_trial_name(trial))
        self._starting.pop(_trial_name(trial), None)
        if summary := folder.summary():
            self._progress.summary(_trial_name(trial), summary)
        elif error := folder.error():
            self._progress.state(_trial_name(trial), "failed", error.message)
        else:
            self._progress.state(_trial_name(trial), "failed", "neither a result nor an error: is the disk full?")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        interruption.trial_ended(_trial_name(trial))
        self._progress.state(_trial_name(trial), "failed", "see its error.json")
