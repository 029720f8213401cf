"""What a training step of each arm of a sweep file takes, and what its optimizer and batch norm add to it.

Beside each arm as it is: with plain SGD, and on a GPU with Muon's Triton kernels, and with PyTorch's own batch norm,
pooling and ReLU. All are made in one process and take turns of some steps, the same batch every time; a GPU's steps
have been recorded by then.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from unittest.mock import patch

import torch

from benchmarks.common import Measured, Table, count, measured, parser, publish, refuse, surroundings
from raycifar.config.names import SpecError
from raycifar.config.sweep import TrialSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.data.splits import load_training
from raycifar.devices import cpu_count
from raycifar.execution.options import Options
from raycifar.execution.runners import fetch_assets
from raycifar.networks import fused_norm
from raycifar.networks.cost import flops_an_image
from raycifar.storage.asset_cache import AssetError
from raycifar.training import muon
from raycifar.training.loop import TrainState, step_of
from raycifar.training.precision import resolve_precision
from raycifar.training.step import steps_before_recording
from raycifar.training.trial import Assets, Place, network, set_up_torch

SGD, NORM, FUSED = ", SGD", ", PyTorch's batch norm", ", Muon's kernels"


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    where = surroundings()
    try:
        arms = list({trial.arm: trial for trial in load_sweep(args.sweep).trials}.values())
        assets = fetch_assets(arms, Options())
    except (AssetError, SpecError) as error:
        return refuse("recipes", error)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = recipes_table(arms, measure(arms, assets, device, args.rounds, args.steps), device, args.steps)
    publish(args, where, [table])
    return 0


def measure(
    arms: Sequence[TrialSpec], assets: Assets, device: torch.device, rounds: int, steps: int
) -> dict[str, Measured]:
    """Milliseconds a step of every variant, in rounds after one that warms up."""
    running = {name: run for arm in arms for name, run in _variants(arm, assets, device)}
    for run in running.values():
        run(_warm(device))
    turns = [{name: 1000 * run(steps) / steps for name, run in running.items()} for _ in range(rounds)]
    return {name: measured(turn[name] for turn in turns) for name in running}


def _warm(device: torch.device) -> int:
    """Steps that are not timed: on a GPU until the step is recorded, and has been replayed once; elsewhere one."""
    return steps_before_recording(device) + 2


def _variants(arm: TrialSpec, assets: Assets, device: torch.device) -> Iterator[tuple[str, Callable[[int], float]]]:
    yield arm.arm, _run(arm, assets, device)
    if arm.optimizer.name != "sgd":
        sgd = arm.optimizer.model_copy(update={"name": "sgd"})
        yield arm.arm + SGD, _run(arm.model_copy(update={"optimizer": sgd}), assets, device)
    if arm.optimizer.name == "muon" and device.type == "cuda":
        run = _run(arm, assets, device)
        with patch.object(muon, "FUSED", True):
            run(_warm(device))  # recorded as it is now
        yield arm.arm + FUSED, run
    if arm.model.batch_norm and device.type == "cuda":
        run = _run(arm, assets, device)
        with patch.object(fused_norm, "works", lambda *_: False):
            run(_warm(device))  # recorded as it is now
        yield arm.arm + NORM, run


def _run(spec: TrialSpec, assets: Assets, device: torch.device) -> Callable[[int], float]:
    """Seconds that so many steps take, on the first images."""
    set_up_torch(spec, Place(str(device), cpu_count(), ""))
    train = load_training(assets.data, spec.data, device).train
    index = torch.arange(min(spec.batch_size, len(train)), device=device)
    state = TrainState(network(spec, assets, train), spec, device)
    step = step_of(state, train, spec)
    step.network.train()

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            sums = step(index, 1, 1e-4)
        sums.tolist()  # a GPU has done them
        return time.perf_counter() - start

    return run


def recipes_table(arms: Sequence[TrialSpec], found: dict[str, Measured], device: torch.device, steps: int) -> Table:
    flops = {arm.arm: arm.batch_size * flops_an_image(arm)[1] for arm in arms}
    rows = []
    for name, milliseconds in found.items():
        arm = name.partition(",")[0]
        rate = measured(1e-9 * flops[arm] / value for value in milliseconds.values) if name == arm else ""
        rows.append((name, milliseconds, milliseconds.beside(found[arm]), rate))
    precision = resolve_precision(arms[0].precision, device)
    note = f"Turns of {steps} steps, in {precision}; the third column is the arm's step over this one."
    return Table("Steps", ("", "ms a step", "arm over it", "TFLOP/s"), rows, note)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("recipes", (__doc__ or "").partition("\n\n")[0], rounds=5)
    made.add_argument("sweep", nargs="?", default="sweeps/vgg.toml", help="sweep file (default: %(default)s)")
    made.add_argument("--steps", type=count, default=20, help="of a turn (default: %(default)s)")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
