"""A sweep on Ray: Tune schedules the trials, each a TorchTrainer.

The trials' folders, not Ray's own files, say what is done: a sweep resumes by running its unfinished trials under a new
Tuner, which first hears again of the epochs that are there, so that Tune's logs are complete too.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
import ray.tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from rich.console import Console

from raycifar.config.sweep import TrialSpec
from raycifar.devices import logical_gpus
from raycifar.execution import gpu_sharing
from raycifar.execution.options import Options
from raycifar.execution.placement import DRIVER_CPUS, Machine, PlacementError, Plan, make_plan, most_to_share
from raycifar.execution.plan import asked_gpus, check_precision, check_usable, plan_on
from raycifar.execution.ray_cluster import Cluster, cluster, shut_down, watched
from raycifar.execution.ray_nodes import check_nodes
from raycifar.execution.ray_private.trials import inherited_environment, start_helpers
from raycifar.execution.ray_progress import TellBus, trial_name
from raycifar.execution.ray_worker import drive_trial
from raycifar.execution.session import Session
from raycifar.networks.cost import largest_step
from raycifar.storage.beneath import delete, make_folder
from raycifar.storage.checkpoints import tidy_checkpoints
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.foreign import clear_for_ray
from raycifar.tracking.listener import Bus, Listener
from raycifar.tracking.prometheus import Gauges
from raycifar.training.failures import trial_error
from raycifar.training.trial import Assets

DRIVER_FAILURES = 1  # restarts of a trial's driver before the trial counts as failed


class OnRay:
    """The Runner that is a running Ray."""

    name: str = "ray"

    def __init__(self, cluster: Cluster) -> None:
        self.dashboard = cluster.dashboard
        self._machine, self.notice = cluster.machine, cluster.notice

    def place(self, trials: Sequence[TrialSpec], options: Options) -> tuple[Plan, int]:
        gpus = asked_gpus(options.gpus, self._machine.gpus, "Ray sees")
        if not options.address:
            check_usable(gpus, "Ray sees")
            check_precision(trials, gpus)
        return plan_on(trials, self._with(gpus), options), gpus

    def _with(self, gpus: int) -> Machine:
        return replace(self._machine, gpus=gpus)

    def measured(self, plan: Plan, assets: Assets, options: Options, console: Console) -> Plan:
        if options.trials_per_gpu != "auto" or plan.workers > 1:
            return plan
        machine = self._with(asked_gpus(options.gpus, self._machine.gpus, "Ray sees"))
        most = most_to_share(plan.order, machine)
        if most == 1:
            return plan
        return make_plan(plan.order, machine, _best_sharing(largest_step(plan.order), assets, most, console))

    def listeners(self, name: str) -> list[Listener]:
        return [Gauges(name)]

    def check(self, session: Session, path: Path) -> None:
        if session.options.address:
            check_nodes(session, path)

    def run_sweep(self, session: Session, folder: SweepFolder, bus: Bus) -> None:
        if self.notice:
            bus.complain(self.notice)
        start_helpers()
        trials, tell = session.plan.order, TellBus(bus, folder)
        clear_for_ray(folder.files, [trial.name for trial in trials])
        while trials:
            for trial in trials:
                _forget_earlier_runs(folder.trial(trial.name), bus)
            self._run(trials, session, folder, tell)
            trials = tuple(trial for trial in trials if trial.name not in tell.begun)
            tell.begun.update(trial.name for trial in trials)  # as if: they are tried once more

    def _run(self, trials: Sequence[TrialSpec], session: Session, folder: SweepFolder, tell: TellBus) -> None:
        """A slot's next trial takes the driver that is there. Where that is killed in between, it never begins."""
        space = {
            "trial": ray.tune.grid_search([trial.model_dump(mode="json") for trial in trials]),
            "job": asdict(session.job(folder.path)),
        }
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(drive_trial, {"CPU": DRIVER_CPUS}),
            param_space=space,
            tune_config=tune_config(session.plan, trial_name, reuse_actors=True),
            run_config=run_config(folder, [JsonLoggerCallback(), CSVLoggerCallback(), tell]),
        )
        run_to_the_end(tuner, folder)


@contextmanager
def ray_runner(options: Options) -> Iterator[OnRay]:
    """Ray started, or joined, for the time of the `with` block. Raises PlacementError."""
    with cluster(options.address, options.verbose) as running:
        yield OnRay(running)


def tune_config(plan: Plan, name: Any, **more: Any) -> ray.tune.TuneConfig:
    """As many trials at once as planned; `name` gives a Tune trial's name, which is its folder's too."""
    return ray.tune.TuneConfig(
        max_concurrent_trials=plan.at_once, trial_name_creator=name, trial_dirname_creator=name, **more
    )


def run_config(folder: SweepFolder, callbacks: Sequence[Any]) -> ray.tune.RunConfig:
    """In the results' folder, without what Tune prints."""
    return ray.tune.RunConfig(
        name=folder.path.name,
        storage_path=str(folder.path.parent),
        failure_config=ray.tune.FailureConfig(max_failures=DRIVER_FAILURES),
        callbacks=list(callbacks),
        verbose=0,
    )


def run_to_the_end(tuner: ray.tune.Tuner, folder: SweepFolder) -> None:
    """Run the Tuner, and write down what Ray alone knows of trials that were killed. Raises KeyboardInterrupt."""
    try:
        with watched(), inherited_environment():
            results = tuner.fit()
    except BaseException:
        shut_down()  # the folder's lock may go only once nobody writes there
        raise
    for result in results:
        if result.error is not None:
            _record_error(result, folder)


def _record_error(result: ray.tune.Result, folder: SweepFolder) -> None:
    """A killed process could not write why it ended; Ray knows."""
    trial = folder.trial(Path(result.path).name)  # its settings are not there where nothing was reported
    if trial.summary() is None:
        with contextlib.suppress(OSError):  # on a full disk, the terminal has said it
            trial.write_error(trial_error(as_exception(result.error)))


def as_exception(error: object) -> BaseException:
    """What Tune has of a trial's error: the exception, or its text alone where that could not be brought here."""
    return error if isinstance(error, BaseException) else RuntimeError(str(error))


def _forget_earlier_runs(trial: TrialFolder, bus: Bus) -> None:
    """Ray's own notes of an earlier session would contradict the checkpoints; ours say all that is worth keeping."""
    make_folder(trial.files)
    stale = ["result.json", "progress.csv", "error.txt", "error.pkl"]
    if trial.summary() is None:  # else only Tune is told again
        stale.append("checkpoint_manager_snapshot.json")
    for name in stale:
        delete(trial.files / name)
    for problem in tidy_checkpoints(trial.path):
        bus.complain(problem)


def _best_sharing(trial: TrialSpec, assets: Assets, most: int, console: Console) -> int:
    """How many trials like this one should share a GPU, measured on one GPU of the cluster. Raises PlacementError."""
    try:
        found = ray.get(_measure_sharing.remote(trial, assets.data, most))
    except ray.exceptions.RayTaskError as error:
        raise PlacementError(
            f"--trials-per-gpu auto: trial {trial.name!r} could not be measured: {error.cause}: give a number instead"
        ) from error
    console.print(gpu_sharing.described(found), soft_wrap=True)
    return gpu_sharing.best_sharing(found)


@ray.remote(num_cpus=0, num_gpus=1, max_retries=0)
def _measure_sharing(trial: TrialSpec, data: Path, most: int) -> list[gpu_sharing.Shared]:
    device = "cpu" if logical_gpus() else "cuda:0"  # Ray shows the process no other GPU
    return gpu_sharing.measure_sharing(trial, data, most, device)
