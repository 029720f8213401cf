"""What Ray and the runner cost: the same four tiny trials as bare loops, with --local, and through Ray.

The bare loops are `fit` and a test, without files and reports, in as many processes with as many threads as Ray or
--local would use. What the product did is read from what it writes (`history.json`, `summary.json`,
`invocations.json`); imports, `ray.init` and `ray.shutdown` are timed by themselves. No round warms up.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import Cell, Measured, Table, count, measured, parser, publish, refuse, surroundings
from benchmarks.processes import Peak, watched
from raycifar.config.names import SpecError
from raycifar.config.sweep import TrialSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.data.splits import load_splits
from raycifar.devices import cpu_count
from raycifar.execution.options import Options
from raycifar.execution.placement import make_plan
from raycifar.execution.plan import this_machine
from raycifar.execution.runners import fetch_assets
from raycifar.networks.registry import build_network
from raycifar.storage.asset_cache import AssetError
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import Session, TrialSummary
from raycifar.training.evaluation import predict
from raycifar.training.loop import TrainState, fit
from raycifar.training.precision import resolve_precision
from raycifar.training.trial import Assets

ROOT = Path(__file__).parent.parent
SWEEP = ROOT / "sweeps" / "quick.toml"
BESIDE = "--local, side by side"
OVER = {  # a way: the ways whose work its own is divided by, bare and --local
    "through Ray": ("bare, as Ray", BESIDE),
    "--local": ("bare, one at a time", ""),
    BESIDE: ("bare, as Ray", ""),
}
PROBE = """
import json, time
marks = [time.perf_counter()]
import torch
marks.append(time.perf_counter())
import raycifar.execution.ray_cluster, raycifar.execution.ray_sweep, raycifar.execution.sweep
marks.append(time.perf_counter())
with raycifar.execution.ray_cluster.cluster():
    marks.append(time.perf_counter())
    time.sleep(5)
    marks.append(time.perf_counter())
marks.append(time.perf_counter())
print(json.dumps([after - before for before, after in zip(marks, marks[1:])]))
"""
PROBED = ("import torch", "import Ray and the rest", "ray.init", "", "ray.shutdown")


@dataclass(frozen=True, slots=True)
class Run:
    """One sweep by one of the ways. Times in seconds; of all its trials together where it says sum."""

    wall: float
    first_step: float  # from the start of the command
    work: float  # sum, from each trial's first step to the end of its test: all but starting
    peak: Peak
    parts: dict[str, float] = field(default_factory=dict)  # sums, by what they went on


def bare(trials: Sequence[TrialSpec], assets: Assets, at_once: int) -> Run:
    """The trials, longest first, in `at_once` processes, without the runner."""
    started = time.time()
    threads = max(1, cpu_count() // at_once)
    with watched() as peak, ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        spans = list(pool.map(partial(bare_trial, assets=assets, threads=threads), trials))
    first = min(began for began, _ in spans) - started
    return Run(time.time() - started, first, sum(ended - began for began, ended in spans), peak)


def bare_trial(spec: TrialSpec, assets: Assets, threads: int) -> tuple[float, float]:
    """The loop that someone would write: Unix seconds of its first step and of the end of its test."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = TrainState(build_network(spec.model, spec.data.facts, spec.seed, assets.imagenet), spec, device)
    data = load_splits(assets.data, spec.data, device)
    began = time.time()
    for _ in fit(state, data.train, data.val, spec):
        pass
    for mirrored in (False, True):
        predict(state.evaluated, data.test, resolve_precision(spec.precision, device), mirrored)
    return began, time.time()


def through_runner(options: Sequence[str], cores: Sequence[int] = ()) -> Run:
    """run_sweep.py with these options, into a folder that is thrown away. Raises CalledProcessError.

    `cores`: those that it may use; none named: all.
    """
    with tempfile.TemporaryDirectory() as storage, watched() as peak:
        started = time.time()
        on_cores = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
        command = [sys.executable, "run_sweep.py", str(SWEEP), "--storage", storage, "--name", "tiny", *options]
        subprocess.run([*on_cores, *command], cwd=ROOT, check=True, capture_output=True, text=True)
        return read_run(SweepFolder(Path(storage) / "tiny"), started, time.time(), peak)


def side_by_side(options: Sequence[str], trials: Sequence[TrialSpec], at_once: int) -> Run:
    """As many calls with --local as trials run at once on Ray, with their share of cores and trials each.

    The peaks are those of all calls together. Raises CalledProcessError.
    """
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // at_once

    def call(number: int) -> Run:
        chosen = [part for trial in trials[number::at_once] for part in ("--only", trial.name)]
        return through_runner(["--local", *options, *chosen], cores[number * each : (number + 1) * each])

    with ThreadPoolExecutor(at_once) as pool:
        runs = list(pool.map(call, range(at_once)))
    return Run(
        max(run.wall for run in runs),
        min(run.first_step for run in runs),
        sum(run.work for run in runs),
        max((run.peak for run in runs), key=lambda peak: peak.memory),
    )


def read_run(folder: SweepFolder, started: float, ended: float, peak: Peak) -> Run:
    """The run of a finished sweep that was started and had ended at these Unix seconds."""
    (call,) = folder.invocations()
    names = [trial["name"] for trial in folder.record().spec["trials"]]  # type: ignore[union-attr]
    summaries = [summary for name in names if (summary := folder.trial(name).summary())]
    sessions = [session for name in names for session in folder.trial(name).history().sessions]
    began = [session.started_at + session.startup_seconds for session in sessions]
    busy = sum(session.ended_at - session.started_at for session in sessions)
    slots = call.trials_at_once * ((call.ended_at or ended) - call.started_at)
    parts = {
        "before the sweep (imports, ray.init, plan)": call.started_at - started,
        "slots empty: processes start and end": slots - busy,
        "a worker's start: data, weights, model": sum(s.startup_seconds for s in sessions),
        "training": sum(s.train_seconds for s in summaries),
        "validation": sum(s.val_seconds for s in summaries),
        "checkpoints and reports": sum(s.checkpoint_seconds for s in summaries),
        "test": sum(s.test_seconds for s in summaries),
        "files and the rest of a worker's time": busy - _told(sessions, summaries),
        "after the sweep (ray.shutdown)": ended - (call.ended_at or ended),
    }
    work = sum(session.ended_at for session in sessions) - sum(began)
    return Run(ended - started, min(began) - started, work, peak, parts)


def _told(sessions: Sequence[Session], summaries: Sequence[TrialSummary]) -> float:
    started = sum(session.startup_seconds for session in sessions)
    return started + sum(s.train_seconds + s.val_seconds + s.checkpoint_seconds + s.test_seconds for s in summaries)


def probe() -> tuple[dict[str, float], Peak]:
    """Seconds of imports, ray.init and ray.shutdown, and what a cluster without trials takes."""
    with watched() as peak:
        done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, check=True, capture_output=True, text=True)
    seconds = dict(zip(PROBED, json.loads(done.stdout.splitlines()[-1]), strict=True))
    return {name: value for name, value in seconds.items() if name}, peak


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    where = surroundings()
    settings = [f"data.train_images={args.images}", "data.holdout_images=50", "data.test_images=100"]
    settings += [f"epochs={args.epochs}", "batch_size=60"]
    try:
        trials = load_sweep(SWEEP, settings).trials[: args.trials]
        assets = fetch_assets(trials, Options())
    except (SpecError, AssetError) as error:
        return refuse("overhead", error)
    plan = make_plan(trials, this_machine(torch.cuda.device_count()))
    settings_only = [part for setting in settings for part in ("--set", setting)]
    options = [*settings_only, *(part for trial in trials for part in ("--only", trial.name))]
    ways: dict[str, Callable[[], Run]] = {
        "bare, as Ray": partial(bare, plan.order, assets, plan.at_once),
        "through Ray": partial(through_runner, options),
        "bare, one at a time": partial(bare, plan.order, assets, 1),
        "--local": partial(through_runner, ["--local", *options]),
    }
    if 1 < plan.at_once <= cpu_count() and not plan.gpus_per_worker:
        ways[BESIDE] = partial(side_by_side, settings_only, plan.order, plan.at_once)
    found: dict[str, list[Run]] = {way: [] for way in ways}
    probes = []
    try:
        for _ in range(args.rounds):
            probes.append(probe())
            for way, run in ways.items():
                found[way].append(run())
    except subprocess.CalledProcessError as error:
        return refuse("overhead", f"{error}: {(error.stderr or error.stdout)[-2000:]}")
    note = (
        f"{len(trials)} trials, {args.epochs} epochs of {args.images} images each; through Ray {plan.at_once} at once."
    )
    publish(args, where, [walls(found, note), parts(found), cluster(probes, found, plan.at_once)])
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("overhead", (__doc__ or "").partition("\n\n")[0], rounds=3)
    made.add_argument("--trials", type=count, default=4, help="of quick.toml, from the first (default: %(default)s)")
    made.add_argument("--images", type=count, default=120, help="that train, a multiple of 10 (default: %(default)s)")
    made.add_argument("--epochs", type=count, default=3, help="of each trial (default: %(default)s)")
    return made.parse_args(arguments)


def walls(found: dict[str, list[Run]], note: str) -> Table:
    """The ways; what the product works beside the bare loops, and through Ray beside as many calls without."""
    rows: list[tuple[Cell, ...]] = []
    for way, runs in found.items():
        wall, first, work = (_of(runs, key) for key in ("wall", "first_step", "work"))
        beside = [work.over(_of(found[other], "work")) if other in found else "" for other in OVER.get(way, ("", ""))]
        peaks = [run.peak for run in runs]
        most = (measured(p.processes for p in peaks), measured(p.memory / 1e9 for p in peaks))
        rows.append((way, wall, first, work, *beside, measured(p.cpu_seconds for p in peaks), *most))
    times = ("wall, s", "to the first step, s", "work, s", "over bare", "over --local")
    columns = ("", *times, "CPU-s", "processes", "memory, GB")
    meaning = "Work is from first step to tested, summed over them; CPU-seconds are those of all processes."
    return Table("The same four trials", columns, rows, f"{note} {meaning}")


def _of(runs: Sequence[Run], key: str) -> Measured:
    return measured(getattr(run, key) for run in runs)


def parts(found: dict[str, list[Run]]) -> Table:
    """Where each second goes, where the product tells."""
    told = [runs for runs in found.values() if runs[0].parts]
    columns = ("seconds, summed over the trials", *(way for way, runs in found.items() if runs[0].parts))
    names = list(told[0][0].parts)
    rows: list[tuple[Cell, ...]] = [
        (name, *(measured(run.parts[name] for run in runs) for runs in told)) for name in names
    ]
    return Table("Where the seconds go", columns, rows)


def cluster(probes: Sequence[tuple[dict[str, float], Peak]], found: dict[str, list[Run]], at_once: int) -> Table:
    """What Ray takes before there is a trial, and what a running trial adds."""
    rows = [(f"{name}, s", measured(seconds[name] for seconds, _ in probes)) for name in probes[0][0]]
    alone, busy = [peak for _, peak in probes], [run.peak for run in found["through Ray"]]
    rows.append(("processes of an idle cluster", measured(peak.processes for peak in alone)))
    rows.append(("memory of an idle cluster, GB", measured(peak.memory / 1e9 for peak in alone)))
    pairs = list(zip(busy, alone, strict=True))
    rows.append(("processes a running trial", measured((b.processes - a.processes) / at_once for b, a in pairs)))
    rows.append(("memory a running trial, GB", measured((b.memory - a.memory) / at_once / 1e9 for b, a in pairs)))
    return Table("Ray by itself", ("", "measured"), rows)


if __name__ == "__main__":
    sys.exit(main())
