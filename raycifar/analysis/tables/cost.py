"""The report's tables of what a sweep cost: seconds, GPU-seconds and energy, and how busy each device was."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from raycifar.analysis.results import Results, leaks
from raycifar.analysis.tables.accuracy import NONE, Table, by_arm, dicts, percent, seconds, whole
from raycifar.analysis.trial_state import Interval

ENERGY = (
    "Energy is what the GPUs' own counters say of a trial's epochs; a GPU that trials share counts in full for each."
)


def time_totals(results: Results) -> Table:
    """Combined and mean own time by arm, all trials, and the wall clock, which is none of them."""
    columns = ["arm", "trials", "mean own s", "combined own s", "start-up s", "GPU-seconds", "wall clock s"]
    begun = results.trials[results.trials["epochs_run"] > 0]
    rest = begun[begun["status"] != "finished"]
    groups = list(by_arm(results))
    groups += [("not finished, so far", rest)] if len(rest) else []
    groups += [("the sweep", begun)]
    rows = [_total(name, trials) for name, trials in groups]
    rows[-1][-1] = seconds(results.wall_seconds)
    measured = begun["energy_joules"].notna().any()
    if measured:
        columns.append("energy, kJ")
        rows = [[*row, _energy(trials)] for row, (_, trials) in zip(rows, groups, strict=True)]
    notes = [
        "Own time is training, validation, checkpointing and test, without start-up. Combined is its sum over trials. "
        "The wall clock is how long run_sweep.py ran, pauses between its calls not counted.",
    ]
    kinds = set(results.sessions["device_kind"])
    if kinds == {"cpu"}:
        notes.append("The trials ran on the CPU: there are no GPU-seconds.")
    elif "cuda" in kinds:
        notes.append(
            "GPU-seconds are own time times GPUs; a GPU that trials share counts in full for each. "
            "The table of devices counts every GPU once."
        )
    notes.append(ENERGY if measured else "Energy: no device reported it.")
    return Table(
        "time", "Combined time and wall clock", columns, rows, 1, (0, 1, 2, 3, 5, 6), notes, leaks(results.trials)
    )


def _total(name: str, trials: pd.DataFrame) -> list[str]:
    own = trials["own_seconds"]
    kinds = " then ".join(trials["device_kind"].dropna().unique())
    gpu = _gpu(trials["gpu_seconds"].sum(min_count=1), kinds)
    if 0 < (there := int(trials["gpu_seconds"].notna().sum())) < len(trials):
        gpu += f" ({there} of {len(trials)} trials)"
    mean = seconds(own.mean()) if trials["arm"].nunique() == 1 else NONE
    startup = seconds(trials["startup_seconds"].sum())
    return [name, str(len(trials)), mean, seconds(own.sum()), startup, gpu, NONE]


def _gpu(value: float, kinds: Any) -> str:
    return "none (CPU)" if kinds == "cpu" else seconds(value)


def _energy(trials: pd.DataFrame) -> str:
    """A sum that left out a trial would look too small."""
    joules = trials["energy_joules"].sum(skipna=False) if len(trials) else math.nan
    return f"{joules / 1000:,.1f}" if math.isfinite(joules) else "not reported"


def time_by_trial(results: Results) -> Table:
    """Where each trial's time went."""
    columns = ["trial", "device", "sessions", "start-up s", "training s", "validation s", "checkpoints s", "test s"]
    columns += ["own s", "GPU-seconds"]
    keys = ("startup_seconds", "train_seconds", "val_seconds", "checkpoint_seconds", "test_seconds", "own_seconds")
    rows = [
        [
            *(t["trial"], f"{t['device']} ({t['devices']})", whole(t["sessions"])),
            *(seconds(t[key]) for key in keys),
            _gpu(t["gpu_seconds"], t["device_kind"]),
        ]
        for t in dicts(results.trials)
        if t["sessions"]
    ]
    notes = ["A trial with several sessions was interrupted and resumed."]
    return Table("time-by-trial", "Time by trial", columns, rows, 2, (0, 3, 4, 8), notes, leaks(results.trials))


def device_use(results: Results) -> Table:
    """How long each device held a trial, and the share of the sweep's wall clock in which it held none."""
    columns = ["device", "kind", "sessions", "busy s", "idle share of the wall clock, %"]
    held = spans_by_device(results.sessions)
    busy = {key: covered(spans, results.active) for key, spans in held.items()}
    rows = [[*key, whole(len(held[key])), seconds(busy[key]), _idle(busy[key], results, 1)] for key in sorted(held)]
    if len(rows) > 1:
        both = sum(busy.values())
        rows.append(["all", "", whole(sum(map(len, held.values()))), seconds(both), _idle(both, results, len(held))])
    notes = [
        "Busy: from a trial's start-up to its end, counted once however many trials share the device. Idle: the rest "
        "of the time that run_sweep.py ran. A busy device need not be a fully used one.",
    ]
    given = max((call.gpus for call in results.invocations), default=0)
    used = len({device for device in held if not device[0].endswith(":cpu")})
    if given > used and used:
        notes.append(f"{given - used} of the {given} GPUs held no trial at all and are not in this table.")
    notes = notes if rows else ["No trial has begun."]
    return Table("devices", "How busy the devices were", columns, rows, 2, (), notes, leaks(results.trials))


def spans_by_device(sessions: pd.DataFrame) -> dict[tuple[str, str], list[Interval]]:
    """(place, kind) of every device -> when it held a trial."""
    held = defaultdict[tuple[str, str], list[Interval]](list)
    for session in dicts(sessions):
        for device in dict.fromkeys(session["devices"]):
            held[device, session["device"]].append((session["started_at"], session["ended_at"]))
    return held


def covered(spans: Iterable[Interval], within: Sequence[Interval]) -> float:
    """Seconds of the disjoint intervals `within` that at least one of the `spans` covers."""
    pieces = sorted((max(a, start), min(b, end)) for a, b in spans for start, end in within if a < end and b > start)
    total, reached = 0.0, -math.inf
    for start, end in pieces:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _idle(busy: float, results: Results, devices: int) -> str:
    return percent(max(0.0, 1 - busy / (devices * results.wall_seconds))) if results.wall_seconds else NONE
