"""The tables of what a sweep cost: seconds, GPU-seconds and energy, and how busy each device was."""

import math
from typing import Any, NamedTuple

import pandas as pd

from raycifar.analysis.device_use import DeviceUse, device_uses
from raycifar.analysis.results import Results, dicts, leaks
from raycifar.analysis.tables.table import Cell, Column, Table, count, figure, lacking, word
from raycifar.analysis.wording import NONE, TRAINING_TIME, is_number, kilojoules, percent, seconds, whole

ENERGY = (
    "Energy is what the GPUs' own counters say of a trial's epochs; a GPU that trials share counts in full for each."
)
PHASES = {"train": "training steps", "val": "validation", "checkpoint": "checkpoints", "test": "test"}

Trial = dict[str, Any]  # a row of Results.trials


class Group(NamedTuple):
    """Trials whose times are added up."""

    name: str
    trials: pd.DataFrame
    wall_seconds: float = math.nan  # of the sweep alone


def time_totals(results: Results) -> Table:
    """Combined and mean training time by arm, of all trials, and the wall clock, which is none of them."""
    begun = results.trials[results.trials["epochs_run"] > 0]
    rest = begun[begun["status"] != "finished"]
    groups = [Group(arm, trials) for arm, trials in results.finished_by_arm()]
    groups += [Group("not finished, so far", rest)] if len(rest) else []
    groups += [Group("the sweep", begun, results.wall_seconds)]
    columns: list[Column[Group]] = [
        Column("arm", lambda g: word(g.name), is_name=True, in_terminal=True),
        Column("trials", lambda g: Cell(str(len(g.trials)), (len(g.trials),)), in_terminal=True),
        Column("mean training time, s", _mean_time, in_terminal=True),
        Column("combined training time, s", lambda g: figure(g.trials["own_seconds"].sum(), seconds), in_terminal=True),
        Column("start-up, s", lambda g: figure(g.trials["startup_seconds"].sum(), seconds)),
        Column("GPU-seconds", _gpu_total, in_terminal=True, parts=("", "trials")),
        Column("wall clock, s", lambda g: figure(g.wall_seconds, seconds), in_terminal=True),
    ]
    if has_energy := bool(begun["energy_joules"].notna().any()):
        columns.append(Column("energy, kJ", _energy))
    notes = [
        f"Training time: {TRAINING_TIME}. Combined: the sum over trials. The wall clock is how long run_sweep.py ran, "
        "pauses between its calls not counted.",
        *_gpu_note(results),
        ENERGY if has_energy else "Energy: no device reported it.",
        *results.time_notes,
    ]
    return Table.of("time", "Combined time and wall clock", groups, columns, notes=notes, leak=leaks(results.trials))


def _gpu_note(results: Results) -> list[str]:
    kinds = set(results.sessions["device_kind"])
    if kinds == {"cpu"}:
        return ["The trials ran on the CPU: there are no GPU-seconds."]
    if "cuda" in kinds:
        return [
            "GPU-seconds are training time times GPUs; a GPU that trials share counts in full for each. "
            "The table of devices counts every GPU once."
        ]
    return []


def _mean_time(group: Group) -> Cell:
    """Of one arm: the mean of different arms says nothing."""
    one = group.trials["arm"].nunique() == 1
    return figure(group.trials["own_seconds"].mean(), seconds) if one else lacking(NONE)


def _gpu_total(group: Group) -> Cell:
    """GPU-seconds, and of how many trials where not all have some."""
    measured, trials = group.trials["gpu_seconds"], group.trials
    kinds = " then ".join(trials["device_kind"].dropna().unique())
    total, known = float(measured.sum(min_count=1)), int(measured.notna().sum())
    some = f" ({known} of {len(trials)} trials)" if 0 < known < len(trials) else ""
    return Cell(_gpu_text(total, kinds) + some, (seconds.plain(total), known))


def _gpu_text(value: float, kinds: str) -> str:
    return "none (CPU)" if kinds == "cpu" else seconds(value)


def _energy(group: Group) -> Cell:
    """A sum that left out a trial would look too small."""
    joules = group.trials["energy_joules"].sum(skipna=False) if len(group.trials) else math.nan
    return figure(joules, kilojoules) if is_number(joules) else lacking("not reported")


def time_by_trial(results: Results) -> Table:
    """Where each trial's time went."""
    columns: list[Column[Trial]] = [
        Column("trial", lambda t: word(t["trial"]), is_name=True, in_terminal=True),
        Column("device", lambda t: word(f"{t['device']} ({t['devices']})"), is_name=True),
        Column("sessions", lambda t: figure(t["sessions"], whole)),
        Column("start-up, s", lambda t: figure(t["startup_seconds"], seconds), in_terminal=True),
        *(_phase(key, name) for key, name in PHASES.items()),
        Column("training time, s", lambda t: figure(t["own_seconds"], seconds), in_terminal=True),
        Column("GPU-seconds", _gpu_seconds),
    ]
    notes = [
        f"Training time: {TRAINING_TIME}. A session is one uninterrupted run of a trial: a trial with several was "
        "interrupted and resumed.",
        *results.time_notes,
    ]
    begun = [trial for trial in dicts(results.trials) if trial["sessions"]]
    return Table.of("time-by-trial", "Time by trial", begun, columns, notes=notes, leak=leaks(results.trials))


def _phase(key: str, name: str) -> Column[Trial]:
    return Column(f"{name}, s", lambda t: figure(t[f"{key}_seconds"], seconds), in_terminal=key == "train")


def _gpu_seconds(trial: Trial) -> Cell:
    return Cell(_gpu_text(trial["gpu_seconds"], trial["device_kind"]), (seconds.plain(trial["gpu_seconds"]),))


def device_use(results: Results) -> Table:
    """How long each device held a trial, and the share of the sweep's wall clock in which it held none."""
    uses = device_uses(results)
    columns: list[Column[DeviceUse]] = [
        Column("device", lambda d: word(d.device), is_name=True),
        Column("kind", lambda d: word(d.kind), is_name=True),
        Column("sessions", lambda d: count(d.sessions)),
        Column("busy, s", lambda d: figure(d.busy_seconds, seconds)),
        Column("idle share of the wall clock, %", lambda d: figure(d.idle_share, percent)),
    ]
    notes = [
        "Busy: from a trial's start-up to its end, counted once however many trials share the device. Idle: the rest "
        "of the time that run_sweep.py ran. Busy does not mean fully used.",
        *_unused(results, uses),
        *results.time_notes,
    ]
    notes = notes if uses else ["No trial has begun."]
    return Table.of("devices", "How busy the devices were", uses, columns, notes=notes, leak=leaks(results.trials))


def _unused(results: Results, uses: list[DeviceUse]) -> list[str]:
    """GPUs of the sweep that are not in the table."""
    offered = max((call.gpus for call in results.invocations), default=0)
    used = len([use for use in uses if use.device != "all" and not use.device.endswith(":cpu")])
    if not offered > used > 0:
        return []
    return [f"{offered - used} of the {offered} GPUs held no trial at all and are not in this table."]
