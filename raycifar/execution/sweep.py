"""A sweep from its spec to its folder: what is done already, what may run, on what; then Ray, or this process."""

import contextlib
import gc
import math
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from rich.console import Console

from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.data.cifar10 import fetch_cifar10
from raycifar.execution import interruption
from raycifar.execution.placement import Machine, PlacementError, Plan, make_plan, most_to_share
from raycifar.execution.workspace import Call, all_finished, check_folder, opened
from raycifar.networks.cost import largest_step
from raycifar.networks.weights import fetch_vgg16
from raycifar.storage.checkpoints import prune_checkpoints, saved_history, tidy_checkpoints
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.records import EpochRecord
from raycifar.tracking.json_lines import JsonLines
from raycifar.tracking.progress import Listener, Progress
from raycifar.tracking.tensorboard import TensorBoard
from raycifar.training.precision import PrecisionError, require_native
from raycifar.training.trial import Assets, Caller, Place, device_name, run_trial, versions

if TYPE_CHECKING:
    from raycifar.execution.ray_sweep import Cluster


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a sweep; the defaults are the command line's."""

    gpus: int | None = None  # None: all there are; 0: CPUs
    trials_per_gpu: int | Literal["auto"] = 1  # "auto": measured before the sweep starts
    workers_per_trial: int = 1
    only: tuple[str, ...] = ()  # trials or arms; empty: all
    local: bool = False  # in this process, without Ray
    address: str | None = None  # of a Ray cluster; None: one of its own
    hang_seconds: float = 1800.0  # without a training step, before a worker is started again; not with --local
    fresh: bool = False  # move earlier results of this name aside
    data: Path | None = None
    weights: Path | None = None
    source: str = ""  # the sweep file's name, for the record
    log: tuple[str, ...] = ()  # experiment trackers beside TensorBoard: "mlflow", "wandb"
    verbose: bool = False  # show what Ray and the workers log
    events: JsonLines | None = None
    command: tuple[str, ...] = ()  # the words of the command line, for the record; empty: a call from Python

    @property
    def known_sharing(self) -> int:
        """As far as it is known before anything has been measured."""
        return 1 if self.trials_per_gpu == "auto" else self.trials_per_gpu

    @property
    def listeners(self) -> list[Listener]:
        return [self.events] if self.events else []


def run_sweep(sweep: SweepSpec, path: Path, options: Options, console: Console) -> bool:
    """Run the sweep's unfinished trials in the folder `path`; True when every chosen trial has finished.

    Raises workspace.SweepError, PlacementError, SpecError, AssetError or RecordError before anything starts.
    """
    folder = SweepFolder(path)
    chosen = sweep.only(options.only)
    check_folder(sweep, folder, options.fresh)
    unfinished = [t for t in chosen.trials if options.fresh or not _is_done(folder.trial(t.name), options)]
    if not unfinished:
        _tell_finished(chosen, folder, options.listeners)
        console.print(f"Nothing to do: all {len(chosen.trials)} trials in {path} have finished.", soft_wrap=True)
        return True
    runner = _local if options.local else _on_ray
    runner(sweep, chosen, unfinished, folder, options, console)
    return all_finished(chosen, folder)


def _is_done(trial: TrialFolder, options: Options) -> bool:
    """Tested, and known to Tune: where this process was killed just then, Tune's file may lack epochs."""
    return trial.summary() is not None and (options.local or not trial.is_ahead_of_tune())


def _tell_finished(chosen: SweepSpec, folder: SweepFolder, listeners: Sequence[Listener]) -> None:
    for trial in chosen.trials:
        if summary := folder.trial(trial.name).summary():
            for listener in listeners:
                listener.summary(trial.name, summary)


def tell_plan(options: Options, path: Path, plan: Plan, gpus: int, names: Sequence[str] = ()) -> None:
    """To a script that listens; `names` stand for the plan's trials where these are not called what they run as."""
    if options.events:
        names, runner = names or [trial.name for trial in plan.order], "local" if options.local else "ray"
        options.events.plan(path, names, runner, gpus, plan.at_once)


def plan_only(sweep: SweepSpec, options: Options) -> tuple[Plan, int]:
    """The plan for all chosen trials on `options.gpus` GPUs, there or not, and their number. Raises PlacementError."""
    return plan_trials(sweep.only(options.only).trials, options)


def plan_trials(trials: Sequence[TrialSpec], options: Options) -> tuple[Plan, int]:
    """As plan_only, for any trials."""
    gpus = torch.cuda.device_count() if options.gpus is None else options.gpus
    if options.local:
        _check_local(options)
        return _local_plan(trials, min(gpus, 1)), min(gpus, 1)
    return _plan(trials, this_machine(gpus), options), gpus


def _plan(trials: Sequence[TrialSpec], there: Machine, options: Options) -> Plan:
    """As far as it is known before anything has been measured."""
    if options.trials_per_gpu == "auto" and not there.gpus:
        raise PlacementError("--trials-per-gpu auto measures GPUs, and this runs on CPUs: leave it out")
    return make_plan(trials, there, options.known_sharing, options.workers_per_trial)


def _on_ray(
    sweep: SweepSpec,
    chosen: SweepSpec,
    unfinished: Sequence[TrialSpec],
    folder: SweepFolder,
    options: Options,
    console: Console,
) -> None:
    from raycifar.execution import ray_sweep  # importing Ray takes a second that --local need not spend

    with (
        ready(unfinished, options, console) as (cluster, plan, gpus, assets),
        opened(sweep, chosen, folder, make_call(options, plan, gpus, assets), options.fresh),
    ):
        show_plan(cluster.dashboard, plan, gpus, console)
        with _progress(chosen, folder, plan, gpus, options, console) as progress:
            ray_sweep.run_on_ray(folder, assets, plan, progress, options.hang_seconds, options.log)


@contextlib.contextmanager
def ready(
    trials: Sequence[TrialSpec], options: Options, console: Console
) -> Iterator[tuple["Cluster", Plan, int, Assets]]:
    """Ray running, the trials placed on it, the GPUs to use, and the files that they read. Raises as run_sweep."""
    from raycifar.execution import ray_sweep

    with ray_sweep.cluster(options.address, options.verbose) as cluster:
        gpus = _gpus(options.gpus, cluster.machine.gpus, "Ray sees")
        if gpus and not options.address and not ray_sweep.gpus_can_compute():
            raise PlacementError(
                f"Ray sees {gpus} GPUs, but PyTorch {torch.__version__} cannot use them: "
                "install a CUDA build of it, or type --gpus 0 to run on the CPU"
            )
        if not options.address:
            check_precision(trials, gpus)
        there = replace(cluster.machine, gpus=gpus)
        plan = _plan(trials, there, options)
        assets = fetch_assets(trials, options)
        if options.trials_per_gpu == "auto" and (most := most_to_share(trials, there)) > 1 and plan.workers == 1:
            sharing = ray_sweep.best_sharing(largest_step(trials), assets, most, console)
            plan = make_plan(trials, there, sharing)
        yield cluster, plan, gpus, assets


def check_precision(trials: Sequence[TrialSpec], gpus: int) -> None:
    """Raises PlacementError where a trial asks for bf16 and this machine has to emulate it."""
    device = torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")
    try:
        for trial in trials:
            require_native(trial, device)
    except PrecisionError as error:
        raise PlacementError(str(error)) from error


def _local(
    sweep: SweepSpec,
    chosen: SweepSpec,
    unfinished: Sequence[TrialSpec],
    folder: SweepFolder,
    options: Options,
    console: Console,
) -> None:
    _check_local(options)
    gpus = min(_gpus(options.gpus, torch.cuda.device_count(), "PyTorch sees"), 1)
    plan = _local_plan(unfinished, gpus)
    assets = fetch_assets(unfinished, options)
    host = platform.node()
    place = Place("cuda:0" if gpus else "cpu", plan.threads, f"{host}:{0 if gpus else 'cpu'}")
    with opened(sweep, chosen, folder, make_call(options, plan, gpus, assets), options.fresh):
        console.print(describe_plan(plan, gpus))
        with _progress(chosen, folder, plan, gpus, options, console) as progress:
            for trial in plan.order:
                _run_locally(trial, folder, assets, place, progress)
                gc.collect()  # weights that only a reference cycle holds: 118 MB a trial, but few objects to Python


def _local_plan(trials: Sequence[TrialSpec], gpus: int) -> Plan:
    check_precision(trials, gpus)
    return replace(make_plan(trials, this_machine(gpus)), at_once=1, threads=cpu_count())


def _check_local(options: Options) -> None:
    if options.workers_per_trial > 1 or options.trials_per_gpu != 1 or options.address:
        raise PlacementError(
            "--local runs one trial at a time with one worker, without Ray: "
            "leave out --workers-per-trial, --trials-per-gpu and --address, or leave out --local"
        )
    if options.gpus is not None and options.gpus > 1:
        raise PlacementError(
            f"--local --gpus {options.gpus}: one GPU at most: type --gpus 1, or 0 for the CPU, or leave out --local"
        )


def _run_locally(trial: TrialSpec, folder: SweepFolder, assets: Assets, place: Place, progress: Progress) -> None:
    path = folder.trial(trial.name).path
    path.mkdir(exist_ok=True)

    def on_epoch(record: EpochRecord, saved: Path | None) -> None:
        progress.epoch(trial.name, record)
        behind.submit(prune_checkpoints, path)
        if saved:
            interruption.epoch_saved(trial.name)

    progress.state(trial.name, "starting")
    interruption.trial_started(trial.name)
    progress.place(trial.name, [place.label])
    try:
        for problem in tidy_checkpoints(path):
            progress.console.print(problem, style="yellow")
        with ThreadPoolExecutor(1, "pruning") as behind:  # while a checkpoint is written, to delete one takes 0.1 s
            caller = Caller(on_epoch, warn=lambda line: progress.warn(trial.name, line))
            summary = run_trial(trial, path, assets, place, caller)
    except Exception as error:  # this trial's alone, and in its error.json; the next may well run
        progress.state(trial.name, "failed", str(error) or type(error).__name__)
    else:
        assert summary is not None  # noqa: S101 - there is one worker
        progress.summary(trial.name, summary)
    interruption.trial_ended(trial.name)


def make_call(options: Options, plan: Plan, gpus: int, assets: Assets) -> Call:
    """What goes on record."""
    return Call(
        runner="local" if options.local else "ray",
        gpus=gpus,
        trials_at_once=plan.at_once,
        source=options.source,
        weights=assets.imagenet.name if assets.imagenet else "",
        hardware=hardware(),
        versions=versions(),
        command=options.command or (_python_call(options.source),),
    )


def _python_call(source: str) -> str:
    return f"raycifar.run_sweep({repr(source) if source else 'SweepSpec(...)'})"


def _progress(
    chosen: SweepSpec, folder: SweepFolder, plan: Plan, gpus: int, options: Options, console: Console
) -> Progress:
    histories = {trial.name: saved_history(folder.trial(trial.name).path) for trial in chosen.trials}
    progress = Progress(chosen.trials, console, histories)
    tell_plan(options, folder.path, plan, gpus)
    _tell_finished(chosen, folder, [progress, *options.listeners])
    progress.listeners += [TensorBoard(folder), *options.listeners]
    return progress


def _gpus(asked: int | None, there: int, who: str) -> int:
    if asked is None:
        return there
    if asked > there:
        instead = f"--gpus {there}" if there else "--gpus 0 to run on the CPU"
        raise PlacementError(f"--gpus {asked}: {who} {there} GPUs: type {instead}, or leave --gpus out")
    return asked


def fetch_assets(trials: Sequence[TrialSpec], options: Options) -> Assets:
    """The cached files that the trials read, ImageNet weights only where one starts from them. Raises AssetError."""
    pretrained = any(trial.model.weights == "imagenet" for trial in trials)
    return Assets(fetch_cifar10(options.data), fetch_vgg16(options.weights) if pretrained else None)


def show_plan(dashboard: str | None, plan: Plan, gpus: int, console: Console) -> None:
    """Where to look, and what will run."""
    if dashboard:
        console.print(f"Ray dashboard: {dashboard} (its token: ray get-auth-token)")
    console.print(describe_plan(plan, gpus))


def describe_plan(plan: Plan, gpus: int) -> str:
    """One line: how many trials, how many at once, on what."""
    trials = f"{len(plan.order)} trial{'s' * (len(plan.order) != 1)}, {plan.at_once} at once"
    workers = f", {plan.workers} workers each" if plan.workers > 1 else ""
    if plan.uses_gpu:
        return f"{trials}{workers}, on {gpus} GPU{'s' * (gpus != 1)}"
    return f"{trials}{workers}, on the CPU, {plan.threads} thread{'s' * (plan.threads != 1)} a worker"


def this_machine(gpus: int) -> Machine:
    """This machine with `gpus` GPUs, there or not."""
    return Machine(gpus, cpu_count(), cpu_count(), _memory())


def _memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):  # not every system tells
        return math.inf


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> str:
    """This machine in a few words: its GPUs, else its CPU cores."""
    gpus = torch.cuda.device_count()
    if gpus:
        return f"{gpus} x {device_name(torch.device('cuda:0'))}"
    return f"{cpu_count()} cores of {device_name(torch.device('cpu'))}"
