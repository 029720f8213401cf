"""What would run where: the plan of a call, made before anything starts, and how it and its results are shown."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from raycifar.config.sweep import TrialSpec
from raycifar.devices import cpu_count, memory_bytes
from raycifar.execution.options import Options
from raycifar.execution.placement import Machine, PlacementError, Plan, make_plan
from raycifar.training.precision import PrecisionError, require_native


def plan_trials(trials: Sequence[TrialSpec], options: Options) -> tuple[Plan, int]:
    """The plan for the trials on `options.gpus` GPUs, there or not, and their number. Raises PlacementError."""
    gpus = torch.cuda.device_count() if options.gpus is None else options.gpus
    if options.local:
        check_local(options)
        return local_plan(trials, min(gpus, 1)), min(gpus, 1)
    return plan_on(trials, this_machine(gpus), options), gpus


def plan_on(trials: Sequence[TrialSpec], machine: Machine, options: Options) -> Plan:
    """As far as it is known before anything has been measured. Raises PlacementError."""
    if options.trials_per_gpu == "auto" and not machine.gpus:
        raise PlacementError("--trials-per-gpu auto measures GPUs, and this runs on CPUs: leave it out")
    return make_plan(trials, machine, options.known_sharing, options.workers_per_trial)


def local_plan(trials: Sequence[TrialSpec], gpus: int) -> Plan:
    """One trial at a time, with all cores. Raises PlacementError."""
    check_precision(trials, gpus)
    return replace(make_plan(trials, this_machine(gpus)), at_once=1, threads=cpu_count())


def check_local(options: Options) -> None:
    """Raises PlacementError for what --local cannot do."""
    if options.workers_per_trial > 1 or options.trials_per_gpu != 1 or options.address:
        raise PlacementError(
            "--local runs one trial at a time with one worker, without Ray: "
            "leave out --workers-per-trial, --trials-per-gpu and --address, or leave out --local"
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


def describe_plan(plan: Plan, gpus: int) -> str:
    """One line: how many trials, how many at once, on what."""
    trials = f"{len(plan.order)} trial{'s' * (len(plan.order) != 1)}, {plan.at_once} at once"
    workers = f", {plan.workers} workers each" if plan.workers > 1 else ""
    if plan.uses_gpu:
        return f"{trials}{workers}, on {gpus} GPU{'s' * (gpus != 1)}"
    return f"{trials}{workers}, on the CPU, {plan.threads} thread{'s' * (plan.threads != 1)} a worker"


def tell_plan(options: Options, path: Path, plan: Plan, gpus: int, names: Sequence[str] = ()) -> None:
    """To a script that listens; `names` stand for the plan's trials where these are not called what they run as."""
    if options.events:
        names, runner = names or [trial.name for trial in plan.order], "local" if options.local else "ray"
        options.events.plan(path, names, runner, gpus, plan.at_once)


def this_machine(gpus: int) -> Machine:
    """This machine with `gpus` GPUs, there or not."""
    return Machine(gpus, cpu_count(), cpu_count(), memory_bytes())
