"""The plan of vgg.toml on 1 to 8 GPUs, predicted from measured epoch times, and the planner at a thousand GPUs.

Epochs are timed on this machine's GPU or, where there is none, on all of its cores, which then stand for a GPU. On CPUs
the four trials also run, their epochs cut in proportion: one after the other with all threads, and side by side with a
share of them each. So a measured makespan stands beside the predicted one, and `placement.py`'s choice beside both.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.arrangements import FOR_EVER, Costs, Short, measure_costs, measure_makespan
from benchmarks.common import Cell, Measured, Table, count, measured, parser, publish, refuse, surroundings
from benchmarks.turns import ContenderError
from raycifar.config.sweep import TrialSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.devices import cpu_count, hardware
from raycifar.execution.options import Options
from raycifar.execution.placement import (
    CPU_FLOPS,
    CPU_SCALING,
    Machine,
    finish_times,
    idle_share,
    least_makespan,
    make_plan,
    makespan,
)
from raycifar.execution.plan import this_machine
from raycifar.execution.runners import fetch_assets
from raycifar.networks.cost import flops_an_image, work
from raycifar.storage.asset_cache import AssetError

SWEEP = Path(__file__).parent.parent / "sweeps" / "vgg.toml"
GPUS = (1, 2, 4, 8)
CUT = 15  # the trials that run have a 15th of their epochs, and a batch of images in each
MANY_TRIALS, MANY_GPUS = 10_000, 1_024
Arms = dict[str, list[Costs]]  # by round


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    where = surroundings()
    trials = load_sweep(SWEEP).trials
    try:
        assets = fetch_assets(trials, Options())
    except AssetError as error:
        return refuse("scaling", error)
    shorts = [Short(trial, round(trial.epochs / CUT), args.images, args.threads, assets) for trial in trials]
    arms = {short.trial.arm: short for short in shorts}
    cuda = torch.cuda.is_available()
    ways = (1,) if cuda else tuple(dict.fromkeys([1, min(args.threads, len(trials))]))
    try:
        costs = measure_costs({arm: replace(short, epochs=FOR_EVER) for arm, short in arms.items()}, ways, args.rounds)
    except ContenderError as error:
        return refuse("scaling", error)
    tables = [predicted_table(trials, costs[1])]
    if len(ways) > 1:
        runs = {n: measured(measure_makespan(in_order(shorts), n) for _ in range(args.rounds)) for n in ways}
        tables += [arrangements_table(in_order(shorts), costs, runs), constants_table(arms, costs)]
    publish(args, where, [*tables, planner_table(trials, args.rounds)])
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("scaling", (__doc__ or "").partition("\n\n")[0], rounds=3)
    made.add_argument("--images", type=count, default=256, help="of a measured epoch (default: %(default)s)")
    made.add_argument("--threads", type=count, default=cpu_count(), help="to use in all (default: %(default)s)")
    return made.parse_args(arguments)


def in_order(shorts: Sequence[Short]) -> list[Short]:
    """Longest first, as the plan has them."""
    order = [trial.name for trial in make_plan([short.trial for short in shorts], this_machine(0)).order]
    return sorted(shorts, key=lambda short: order.index(short.trial.name))


def predicted_table(trials: Sequence[TrialSpec], arms: Arms) -> Table:
    """Makespan, bound and idle share of the sweep on 1, 2, 4 and 8 GPUs like the one that was measured."""
    rows = []
    for gpus in GPUS:
        plan = make_plan(trials, Machine(gpus, 4 * gpus, 4 * gpus, math.inf))
        rounds = [
            [costs.of(trial) for trial, costs in zip(plan.order, each, strict=True)]
            for each in _by_trial(plan.order, arms)
        ]
        hours = measured(makespan(seconds, gpus) / 3600 for seconds in rounds)
        least = measured(least_makespan(seconds, gpus) / 3600 for seconds in rounds)
        idle = measured(100 * idle_share(seconds, gpus) for seconds in rounds)
        rows.append((str(gpus), hours, least, idle))
    device = "one of this GPU" if torch.cuda.is_available() else f"{hardware()} in place of each; not measured on a GPU"
    columns = ("GPUs", "makespan, h", "least possible, h", "GPUs idle, %")
    return Table("vgg.toml, predicted from epoch times", columns, rows, f"A slot is {device}.")


def _by_trial(order: Sequence[TrialSpec], arms: Arms) -> list[list[Costs]]:
    """Every round's costs, for each trial those of its arm."""
    return [list(each) for each in zip(*(arms[trial.arm] for trial in order), strict=True)]


def arrangements_table(shorts: Sequence[Short], costs: dict[int, Arms], runs: dict[int, Measured]) -> Table:
    """The sweep one trial after the other, and side by side: as it ran, as predicted, and at full size."""
    trials = [short.trial for short in shorts]
    chosen = make_plan(trials, this_machine(0)).at_once
    rows = []
    for n, measured_seconds in runs.items():
        rounds = _by_trial(trials, costs[n])
        short = [[cost.of_short(s) for s, cost in zip(shorts, each, strict=True)] for each in rounds]
        full = [[cost.of(t) for t, cost in zip(trials, each, strict=True)] for each in rounds]
        choice = "chosen" if n == chosen else ""
        predicted = measured(makespan(seconds, n) for seconds in short)
        hours = measured(makespan(seconds, n) / 3600 for seconds in full)
        rows.append((f"{n} at once", measured_seconds, predicted, measured_seconds.over(predicted), hours, choice))
    columns = ("", "cut short, s", "predicted, s", "measured / predicted", "vgg.toml, predicted, h", "by placement.py")
    note = f"Cut short: {', '.join(f'{s.trial.name} {s.epochs} x {s.images} images' for s in shorts)}."
    return Table("On CPU cores: one after the other, or side by side", columns, rows, note)


def constants_table(arms: dict[str, Short], costs: dict[int, Arms]) -> Table:
    """What the choice between the two rests on, measured, beside the constants in placement.py."""
    alone, beside = min(costs), max(costs)
    threads = next(iter(arms.values())).threads
    rows: list[tuple[Cell, ...]] = []
    for arm, short in arms.items():
        one = measured(1 / cost.train for cost in costs[alone][arm])
        each = measured(1 / cost.train for cost in costs[beside][arm])
        flops = flops_an_image(short.trial)[1]
        share = threads / max(1, threads // beside)
        scaling = measured(math.log(ratio) / math.log(share) for ratio in one.over(each).values)
        a_thread = each.times(flops / max(1, threads // beside) ** CPU_SCALING)
        rows.append((arm, one, each.times(beside), each.times(beside).over(one), a_thread.times(1e-12), scaling))
    rows.append(("placement.py", "", "", share / share**CPU_SCALING, CPU_FLOPS / 1e12, CPU_SCALING))
    columns = (
        "",
        f"images/s, one of {threads} threads",
        f"images/s, {beside} side by side",
        "side by side / one",
        "TFLOP/s a thread",
        "speed-up exponent",
    )
    return Table("The constants of the choice", columns, rows)


def planner_table(trials: Sequence[TrialSpec], rounds: int) -> Table:
    """The planner alone: seconds, and how far its makespan is from a bound that nothing beats."""
    epochs = [15 + 7919 * i % 111 for i in range(MANY_TRIALS)]  # 15 to 125, as if drawn
    many = [trials[i % len(trials)].model_copy(update={"epochs": n}) for i, n in enumerate(epochs)]
    machine = Machine(MANY_GPUS, 16 * MANY_GPUS, 16, math.inf)
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        plan = make_plan(many, machine)
        ends = finish_times([work(trial) for trial in plan.order], MANY_GPUS)
        taken.append(time.perf_counter() - start)
    gap = 100 * (max(ends) / least_makespan([work(trial) for trial in many], MANY_GPUS) - 1)
    rows = [(f"{MANY_TRIALS:,} trials on {MANY_GPUS:,} GPUs", measured(taken), gap)]
    return Table("The planner", ("", "s", "makespan above the bound, %"), rows, "The makespan is the same every time.")


if __name__ == "__main__":
    sys.exit(main())
