"""What would run where: the plan of a call, made before anything starts, and how it and its results are shown."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich import box
from rich.table import Table
from rich.text import Text

from raycifar.config.architectures import ARCHITECTURES
from raycifar.config.data import Data
from raycifar.config.names import listed
from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.devices import cpu_count, gpu_count, logical_gpus, memory_bytes
from raycifar.execution.options import Options
from raycifar.execution.placement import Machine, PlacementError, Plan, idle_share, image_room, make_plan, makespan
from raycifar.execution.standing import NEW, Standing
from raycifar.networks.cost import work
from raycifar.storage.folders import SweepFolder
from raycifar.training.precision import PrecisionError, require_native


def plan_trials(trials: Sequence[TrialSpec], options: Options) -> tuple[Plan, int]:
    """The plan for the trials on `options.gpus` GPUs, there or not, and their number. Raises PlacementError."""
    gpus = torch.cuda.device_count() if options.gpus is None else options.gpus
    check_options(options)
    if options.address and options.gpus is None:
        raise PlacementError("--dry-run asks no cluster for its GPUs: type --gpus N too, or leave out --address")
    if options.local:
        return local_plan(trials, min(gpus, 1)), min(gpus, 1)
    return plan_on(trials, this_machine(gpus), options), gpus


def plan_on(trials: Sequence[TrialSpec], machine: Machine, options: Options) -> Plan:
    """As far as it is known before anything has been measured. Raises PlacementError."""
    if not machine.gpus:
        check_sharing(options)
    return make_plan(trials, machine, options.known_sharing, options.workers_per_trial)


def local_plan(trials: Sequence[TrialSpec], gpus: int) -> Plan:
    """One trial at a time, with all cores. Raises PlacementError."""
    check_precision(trials, gpus)
    machine = this_machine(gpus)
    plan = replace(make_plan(trials, machine), at_once=1, threads=cpu_count())
    return plan if gpus else replace(plan, image_bytes=image_room(machine, 1))


def check_options(options: Options) -> None:
    """Raises PlacementError for options of which one leaves another without effect, on whatever machine."""
    if options.local:
        check_local(options)
    if options.gpus == 0:
        check_sharing(options)
    if options.weights_as_they_are and not options.names_weights:
        raise PlacementError("--weights-as-they-are is about the file that --weights names: name it, or leave it out")
    if options.workers_per_trial > 1 and options.trials_per_gpu != 1:
        raise PlacementError(
            "--trials-per-gpu and --workers-per-trial exclude each other: share GPUs, or use several a trial"
        )


def check_sharing(options: Options) -> None:
    """Raises PlacementError for trials that are to share a GPU where this runs on CPUs."""
    if options.trials_per_gpu == "auto":
        raise PlacementError("--trials-per-gpu auto measures GPUs, and this runs on CPUs: leave it out")
    if options.trials_per_gpu > 1:
        raise PlacementError(
            f"--trials-per-gpu {options.trials_per_gpu} needs a GPU, and this runs on CPUs: leave it out"
        )


def check_local(options: Options) -> None:
    """Raises PlacementError for what --local cannot do."""
    if options.workers_per_trial > 1 or options.trials_per_gpu != 1 or options.address:
        raise PlacementError(
            "--local runs one trial at a time with one worker, without Ray: "
            "leave out --workers-per-trial, --trials-per-gpu and --address, or leave out --local"
        )
    if options.hang_seconds != Options().hang_seconds or options.verbose:
        raise PlacementError(
            "--local has no workers that are watched, and no Ray whose log --verbose would show: "
            "leave out --hang-timeout and --verbose, or leave out --local"
        )
    if options.gpus is not None and options.gpus > 1:
        raise PlacementError(
            f"--local --gpus {options.gpus}: one GPU at most: type --gpus 1, or 0 for the CPU, or leave out --local"
        )


def check_precision(trials: Sequence[TrialSpec], gpus: int) -> None:
    """Raises PlacementError where a trial asks for bf16 and this machine has to emulate it."""
    device = torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")
    try:
        for trial in trials:
            require_native(trial, device)
    except PrecisionError as error:
        raise PlacementError(str(error)) from error


def asked_gpus(asked: int | None, available: int, who: str) -> int:
    """The number of GPUs to use: all, unless some are asked for. Raises PlacementError for more than there are."""
    if asked is None:
        return available
    if asked > available:
        instead = f"--gpus {available}" if available else "--gpus 0 to run on the CPU"
        raise PlacementError(f"--gpus {asked}: {who} {available} GPUs: type {instead}, or leave --gpus out")
    return asked


def check_usable(gpus: int, who: str) -> None:
    """Raises PlacementError for GPUs of this machine that this PyTorch cannot use, unless a test wants them logical."""
    if gpus and not (torch.cuda.is_available() or logical_gpus()):
        raise PlacementError(
            f"{who} {gpus} GPUs, but PyTorch {torch.__version__} cannot use them: "
            "install a CUDA build of it, or type --gpus 0 to run on the CPU"
        )


def check_gpus(options: Options) -> None:
    """Raises PlacementError for GPUs that a Ray of its own would not find here, or not use: its start takes long."""
    ray = sys.modules.get("ray")
    started = ray is not None and ray.is_initialized()  # by the caller, perhaps with GPUs that are not there
    if not (options.local or options.address or started or logical_gpus()):
        check_usable(asked_gpus(options.gpus, gpu_count(), "this machine has"), "this machine has")


def describe_plan(plan: Plan, gpus: int) -> str:
    """One line: how many trials, how many at once, on what."""
    trials = f"{len(plan.order)} trial{'s' * (len(plan.order) != 1)}, {plan.at_once} at once"
    workers = f", {plan.workers} workers each" if plan.workers > 1 else ""
    if plan.uses_gpu:
        return f"{trials}{workers}, on {gpus} GPU{'s' * (gpus != 1)}"
    return f"{trials}{workers}, on the CPU, {plan.threads} thread{'s' * (plan.threads != 1)} a worker"


def describe_data(data: Data) -> list[str]:
    """What was read where the images are the user's own, and how it was cut, in lines."""
    if not data.is_prepared:
        return []
    facts = data.facts
    if not facts.digest:
        counts = f"{facts.train_images:,} training and {facts.test_images:,} test images"
        return [f"{facts.title}: not fetched yet; as published {len(facts.classes)} classes, {counts}"]
    val = f", {sum(facts.val):,} validation" if facts.val else ""
    counts = f"{facts.train_images:,} training{val} and {facts.test_images:,} test images"
    size, groups = f"{facts.side} x {facts.side} pixels", f"; {facts.groups:,} groups, 0 groups in two splits"
    lines = [
        f"{facts.title}: {len(facts.classes)} classes, {counts}, {size}, digest {facts.digest[:16]}",
        f"{facts.title}: {facts.made}; 0 images in two splits{groups * facts.grouped}",
    ]
    if facts.near:
        lines.append(f"{facts.title}: {facts.near:,} test images are nearly equal to a training image")
    if facts.skipped or facts.dropped:
        lines.append(f"{facts.title}: {facts.skipped:,} unreadable files skipped, {facts.dropped:,} copies dropped")
    return lines


def tell_plan(options: Options, path: Path, plan: Plan, gpus: int, names: Sequence[str] = ()) -> None:
    """To a script that listens; `names` stand for the plan's trials where these are not called what they run as."""
    if options.events:
        names, runner = names or [trial.name for trial in plan.order], "local" if options.local else "ray"
        options.events.plan(path, names, runner, gpus, plan.at_once)


def this_machine(gpus: int) -> Machine:
    """This machine with `gpus` GPUs, there or not."""
    return Machine(gpus, cpu_count(), cpu_count(), memory_bytes())


def plan_table(
    sweep: SweepSpec, plan: Plan, path: Path, states: Mapping[str, Standing] | None = None, estimate: str = ""
) -> Table:
    """The trials in the order in which they would start, with their work, after those that are done.

    `states` says how each trial stands; without any there is no such column. `estimate` is a line about the time.
    """
    states = states or {}
    done = [trial for trial in sweep.trials if states.get(trial.name, NEW).is_done]
    order = [*done, *(trial for trial in plan.order if trial not in done)]
    unit = flop_unit(sum(map(work, order)))
    title = Text(f"{sweep.name} -> {path}", "table.title")  # Text, for a path may hold what rich takes for markup
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in (
        "trial",
        *(["state"] if states else []),
        "from",
        "seed",
        "epochs",
        "images",
        "validation",
        unit.name,
    ):
        words = column in ("state", "from", "validation")  # a narrow terminal may break them; no name and no number
        left = words or column == "trial"
        width = len(column) if words else None
        table.add_column(column, justify="left" if left else "right", no_wrap=not words, min_width=width)
    for trial in order:
        name, *rest = _planned(trial, unit)
        table.add_row(name, *([states.get(trial.name, NEW).words] if states else []), *rest)
    if left_over := [work(trial) * states.get(trial.name, NEW).left for trial in plan.order]:
        load = _load(left_over, plan.at_once) + _estimated(plan.order)
        table.caption = "\n".join([load, *([estimate] if estimate else [])])
    return table


def _estimated(trials: Sequence[TrialSpec]) -> str:
    """What is no arithmetic of the network's own: a step counted as three forward passes, on CPUs at VGG's rate."""
    names = dict.fromkeys(trial.model.called for trial in trials if trial.model.called not in ARCHITECTURES)
    return f"; estimated: {listed(list(names))}" if names else ""


def _load(flops: Sequence[float], at_once: int) -> str:
    unit = flop_unit(sum(flops))
    total = f"{unit.write(sum(flops))} {unit.name} in all"
    if at_once == 1:
        return total
    idle = 100 * idle_share(flops, at_once)
    return f"{total}, {unit.write(makespan(flops, at_once))} on the busiest of {at_once} slots; idle: {idle:.0f} %"


@dataclass(frozen=True, slots=True)
class FlopUnit:
    """A unit of floating-point operations, and how a number of them is written in it."""

    name: str
    flops: float

    def write(self, flops: float) -> str:
        """To a tenth; below a PFLOP to three significant digits."""
        amount = flops / self.flops
        return f"{amount:.1f}" if self.name == "PFLOP" else f"{amount:#.3g}".removesuffix(".")


def flop_unit(flops: float) -> FlopUnit:
    """PFLOP, or a smaller unit for less than one."""
    units = [FlopUnit("PFLOP", 1e15), FlopUnit("TFLOP", 1e12), FlopUnit("GFLOP", 1e9)]
    return next((unit for unit in units if flops >= 0.9995 * unit.flops), units[-1])


def _planned(trial: TrialSpec, unit: FlopUnit) -> Sequence[str]:
    train, val, _ = trial.data.images
    weights = trial.model.weights + (", bn" if trial.model.batch_norm else "")
    seen = trial.model.sees(trial.data.facts.side)
    weights += f", {seen} px" if seen > trial.data.facts.side else ""
    validation = f"{val:,} held out" if trial.data.validation == "holdout" else "the training images"
    return (
        trial.name,
        weights,
        str(trial.seed),
        str(trial.epochs),
        f"{train:,}",
        validation,
        f"{work(trial) / unit.flops:.2f}",
    )


def results_table(trials: Sequence[TrialSpec], folder: SweepFolder) -> Table:
    """How each trial ended."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("trial", "state", "epochs", "best val", "test", "test, flips", "seconds"):
        table.add_column(column, justify="left" if column in ("trial", "state") else "right")
    for trial in trials:
        table.add_row(trial.name, *_result(trial, folder))
    return table


def _result(trial: TrialSpec, folder: SweepFolder) -> Sequence[str | Text]:
    files = folder.trial(trial.name)
    if summary := files.summary():
        seconds = summary.train_seconds + summary.val_seconds + summary.checkpoint_seconds + summary.test_seconds
        figures = (summary.best_val_accuracy, summary.test_accuracy, summary.test_accuracy_flip)
        shown = ("–" if figure is None else f"{100 * figure:.2f} %" for figure in figures)
        return ("done", str(summary.epochs_run), *shown, f"{seconds:.1f}")
    epochs = f"{len(files.history().epochs)} of {trial.epochs}"
    if error := files.error():
        return (Text(f"failed: {error.kind}: {' '.join(error.message.split())}"), epochs)
    return ("not finished", epochs)
