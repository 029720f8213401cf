"""Training images a second: this engine beside plain PyTorch, Lightning and Keras, and beside what the device can do.

Every contender trains VGG16 with a 512->10 head from ImageNet weights on the same CIFAR-10 images, in a process of its
own with the same number of threads; they take turns of one short epoch. A peer's first step of an epoch is not timed,
for its loader starts then; all of ours are. Each must lower its training loss, or the exit status is 1.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import SupportsFloat

import torch
from safetensors.torch import load_file

from benchmarks import ceiling, peers
from benchmarks.common import Measured, Table, count, measured, parser, publish, refuse, surroundings
from benchmarks.turns import Contender, ContenderError, Figures, Turn, rounds
from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Split
from raycifar.devices import cpu_count
from raycifar.execution.options import Options
from raycifar.execution.runners import fetch_assets
from raycifar.networks.cost import flops_an_image
from raycifar.networks.registry import build_network
from raycifar.storage.asset_cache import AssetError
from raycifar.training.loop import TrainState, fit
from raycifar.training.precision import resolve_precision
from raycifar.training.trial import Assets

OURS, CEILING, PROFILE = "raycifar", "ceiling", "profile"
VALIDATED = 10  # images: fit() validates every epoch, outside of what is timed
TRIAL = TrialSpec.model_validate(
    {
        "name": OURS,
        "arm": OURS,
        "seed": 1,
        "epochs": 100_000,
        "model": {"weights": "imagenet"},
        "augmentation": {"crop": peers.CROP, "flip": "random"},
        "optimizer": {"lr": peers.LR, "momentum": peers.MOMENTUM, "weight_decay": peers.WEIGHT_DECAY},
    }
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What every contender's process is told."""

    steps: int  # a turn
    batch_size: int
    threads: int
    loader_workers: int  # of a DataLoader; 0: the training process loads
    assets: Assets

    def work(self) -> peers.Work:
        """Raises ValueError where the ImageNet weights' file is not among the assets."""
        if self.assets.imagenet is None:
            raise ValueError("the contenders start from ImageNet weights")
        torch.set_num_threads(self.threads)
        tensors, images = load_file(self.assets.data), self.steps * self.batch_size
        train = Split(tensors["train_images"][:images].clone(), tensors["train_labels"][:images].clone())
        trunk = load_file(self.assets.imagenet)
        return peers.Work(train.to(_device()), trunk, self.batch_size, _device(), self.threads, self.loader_workers)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Stopwatch:
    """Times a peer's steps, all of a turn but the first."""

    def __init__(self, turn: Turn, setting: Setting) -> None:
        self._turn, self._steps, self._batch_size = turn, setting.steps, setting.batch_size
        self._done, self._start = 0, 0.0

    def __call__(self, epoch_loss: SupportsFloat) -> None:
        """After every step, with the mean loss of the epoch so far; reading it at both ends waits for a GPU."""
        self._done += 1
        if self._done == 1:
            float(epoch_loss)
            self._start = time.perf_counter()
        elif self._done == self._steps:
            loss = float(epoch_loss)
            seconds = time.perf_counter() - self._start
            self._done = 0
            self._turn.end({"rate": (self._steps - 1) * self._batch_size / seconds, "loss": loss})


def peer(name: str, setting: Setting, turn: Turn) -> None:
    peers.PEERS[name](setting.work(), Stopwatch(turn, setting))


def ours(setting: Setting, turn: Turn) -> None:
    for record in fit(*_fit_arguments(setting)):
        turn.end({"rate": record.images_per_second, "loss": record.train_loss})


def profiled(setting: Setting, turn: Turn) -> None:
    epochs = fit(*_fit_arguments(setting))
    while True:
        turn.end(ceiling.profile(lambda: next(epochs), _device()))


def measure_ceiling(setting: Setting, turn: Turn) -> None:
    """What the device can do, and the step alone."""
    state, train, _, spec = _fit_arguments(setting)
    batch = Split(train.images[: setting.batch_size], train.labels[: setting.batch_size])
    precision = resolve_precision(spec.precision, state.device)
    step = ceiling.step_alone(state.model, batch, spec, precision)
    while True:
        rate = ceiling.rate(step, len(batch), ceiling.REPEATS, state.device)
        turn.end({"step": rate} | ceiling.ceilings(setting.batch_size, precision, state.device))


def _fit_arguments(setting: Setting) -> tuple[TrainState, Split, Split, TrialSpec]:
    train = setting.work().train
    spec = TRIAL.model_copy(update={"batch_size": setting.batch_size})
    state = TrainState(build_network(spec.model, spec.data.facts, spec.seed, setting.assets.imagenet), spec, _device())
    return state, train, Split(train.images[:VALIDATED], train.labels[:VALIDATED]), spec


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    if absent := peers.missing(args.only):
        return refuse("steps", f"not installed: {', '.join(absent)}: pip install -e '.[bench]', or choose with --only")
    where = surroundings()
    try:
        assets = fetch_assets([TRIAL], Options())
    except AssetError as error:
        return refuse("steps", error)
    setting = Setting(args.steps, args.batch_size, args.threads, args.loader_workers or 0, assets)
    try:
        if args.loader_workers is None and args.only:
            setting = _best_loader(setting)
        found = rounds(_contenders(args.only, setting), args.rounds)
        shares = rounds({PROFILE: partial(profiled, setting)}, min(args.rounds, 2))[PROFILE]
    except ContenderError as error:
        return refuse("steps", error)
    publish(args, where, [_rates(found, setting), _ceiling(found), _profile(shares)])
    return all_learnt(found)


def _contenders(names: Sequence[str], setting: Setting) -> dict[str, Contender]:
    own = {OURS: partial(ours, setting), CEILING: partial(measure_ceiling, setting)}
    return {**own, **{name: partial(peer, name, setting) for name in names}}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("steps", (__doc__ or "").partition("\n\n")[0], rounds=5)
    native = resolve_precision("auto", _device()) == "bf16"
    usual = [name for name in peers.PEERS if name not in peers.ON_REQUEST]
    default = [name for name in usual if native or name != "PyTorch-bf16"]  # emulated, a step takes minutes
    made.add_argument("--only", nargs="*", choices=peers.PEERS, default=default, help="peers (default: %(default)s)")
    made.add_argument("--steps", type=count, default=5, help="of a turn (default: %(default)s)")
    made.add_argument("--batch-size", type=count, default=128, help="(default: %(default)s)")
    made.add_argument("--threads", type=count, default=cpu_count(), help="of each (default: %(default)s)")
    made.add_argument("--loader-workers", type=int, choices=range(65), metavar="N", help="default: the best of some")
    args = made.parse_args(arguments)
    if args.steps < 2:
        made.error("--steps 1: the first step of a turn is not timed: type 2 or more")
    return args


def _best_loader(setting: Setting) -> Setting:
    """With the number of DataLoader workers that is fastest for the plain loop."""
    cores = cpu_count()
    tried = (0, 1, 2) if cores <= 4 else (cores // 4, cores // 2, cores)
    settings = [replace(setting, loader_workers=workers) for workers in tried]
    return max(settings, key=lambda one: rounds({"": partial(peer, "PyTorch", one)}, 0)[""][0]["rate"])


def all_learnt(found: dict[str, list[Figures]]) -> int:
    """The exit status: 1 where a contender's training loss did not fall."""
    idle = [name for name, turns in found.items() if name != CEILING and not turns[-1]["loss"] < turns[0]["loss"]]
    if idle:
        print(f"benchmarks.steps: the training loss did not fall: {', '.join(idle)}", file=sys.stderr)
    return 1 if idle else 0


def _column(turns: Sequence[Figures], key: str) -> Measured:
    """Without the turn that warms up."""
    return measured(turn[key] for turn in turns[1:])


def _rates(found: dict[str, list[Figures]], setting: Setting) -> Table:
    rates = {name: _column(turns, "rate") for name, turns in found.items() if name != CEILING}
    rows = [(name, rate, rate.beside(rates[OURS]), _fall(found[name])) for name, rate in rates.items()]
    note = (
        f"Batch {setting.batch_size}, {setting.steps} steps a turn, {setting.threads} threads each, "
        f"{setting.loader_workers} DataLoader workers; ours computes in {resolve_precision('auto', _device())}."
    )
    return Table("Training", ("", "images/s", "ours over it", "training loss"), rows, note)


def _fall(turns: Sequence[Figures]) -> str:
    return f"{turns[0]['loss']:.2f} to {turns[-1]['loss']:.2f}"


def _ceiling(found: dict[str, list[Figures]]) -> Table:
    flops = flops_an_image(TRIAL)[1]
    top = _column(found[CEILING], "matmul")
    rates = {
        "large matrix product": top,
        "best convolution of VGG16, forward": _column(found[CEILING], "convolution"),
        "step alone": _column(found[CEILING], "step").times(flops),
        "whole epoch": _column(found[OURS], "rate").times(flops),
    }
    rows = [(name, rate.times(1e-12), rate.over(top).times(100)) for name, rate in rates.items()]
    return Table("Share of the ceiling", ("", "TFLOP/s", "% of the matrix product"), rows)


def _profile(turns: Sequence[Figures]) -> Table:
    groups = {name: measured(100 * turn.get(name, 0.0) for turn in turns[1:]) for name in turns[-1]}
    rows = sorted(groups.items(), key=lambda item: -item[1].median)
    return Table("Where the time of an epoch goes (torch.profiler)", ("", "% of its seconds"), rows)


if __name__ == "__main__":
    sys.exit(main())
