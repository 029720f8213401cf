"""A training step's launches and memory traffic on paper, beside what was measured; no GPU is needed.

Every operation of the step of a sweep file's first arm, from its code (launches.py). On paper a kernel takes as long as
its bytes take at the memory's rate or its operations at the matrix rate, whichever is longer, and never less than a
launch. Bytes are the fewest: each input read once, each output written once, nothing found in a cache.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec

from benchmarks.common import Cell, Table, parser, publish, refuse, surroundings
from benchmarks.launches import NORM_KERNELS, Launch, launches
from raycifar.config.names import SpecError
from raycifar.config.sweep import TrialSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.networks.cost import flops_an_image

MEMORY, MATRIX = 3.35e12, 790e12  # bytes/s of an H100 (its data sheet), FLOP/s of a large bf16 product (an H200's)
LEAST = 2e-6  # s of a kernel in a CUDA graph: an assumption, not measured here
AIM = 0.8e-3  # s a step
MEASURED = {"SGD": 1.576, "Muon": 2.413}  # ms a step, one NVIDIA H100, batch 128, n = 3 (LOG.md, 2026-11-26)
PASSES = ("_foreach", "addcmul", "gather", "move")


def _casts(launch: Launch, phase: str) -> bool:
    return launch.phase == phase and launch.name == "aten::_to_copy"


def _passes(launch: Launch) -> bool:
    """Over all numbers of the kernels, as lists of tensors or as matrices."""
    of_matrices = _casts(launch, "optimizer") and launch.dimensions == 2
    return of_matrices or any(part in launch.name for part in PASSES)


# Rows of a step's table, in order; the first that fits a launch counts it. Measured: µs on an H100 (LOG.md,
# 2026-11-26), by torch.profiler, casts and passes with Muon.
ROWS: dict[str, tuple[Callable[[Launch], bool], float | None]] = {
    "input: order, crop, mirror, normalise": (lambda launch: launch.phase == "input", None),
    "convolutions": (lambda launch: launch.name.startswith("aten::convolution"), 810),
    "batch norm, pooling, ReLU": (lambda launch: launch.name in NORM_KERNELS, 341),
    "casts of weights and gradients": (lambda launch: _casts(launch, "network"), 122),
    "head, loss, right answers": (lambda launch: launch.phase == "network", None),
    "SGD": (lambda launch: launch.name.startswith("aten::_fused_sgd"), 104),
    "Muon: passes over the kernels": (_passes, None),
    "Muon: matrix products": (lambda launch: launch.flops > 0, None),
    "Muon: small operations": (lambda launch: True, None),
}


def least_seconds(launch: Launch) -> float:
    return max(launch.bytes / MEMORY, launch.flops / MATRIX)


def with_launches(launch: Launch) -> float:
    return max(least_seconds(launch), launch.launches * LEAST)


def row_of(launch: Launch) -> str:
    return next(name for name, (fits, _) in ROWS.items() if fits(launch))


def step_table(title: str, found: Sequence[Launch], as_measured: bool = True) -> Table:
    """By part of the step; the last row is all of it. `as_measured`: the figures of the H100 are of this step."""
    parts = {name: [launch for launch in found if row_of(launch) == name] for name in ROWS}
    rows = [(name, *_sums(part), _measured(name, part) if as_measured else "") for name, part in parts.items() if part]
    columns = ("", "launches", "MB", "GFLOP", "least, µs", "with launches, µs", "measured, µs")
    return Table(title, columns, [*rows, ("all", *_sums(found), "")])


def _sums(part: Sequence[Launch]) -> tuple[Cell, ...]:
    return (
        sum(launch.launches for launch in part),
        sum(launch.bytes for launch in part) / 1e6,
        sum(launch.flops for launch in part) / 1e9,
        *_seconds(part),
    )


def _seconds(part: Sequence[Launch]) -> tuple[float, float]:
    """Microseconds on paper, without and with the time of a launch."""
    return 1e6 * sum(map(least_seconds, part)), 1e6 * sum(map(with_launches, part))


def _measured(name: str, part: Sequence[Launch]) -> Cell:
    """SGD was measured where it moves all kernels."""
    measured = ROWS[name][1]
    whole = name != "SGD" or sum(launch.bytes for launch in part) > 1e8
    return measured if measured is not None and whole else ""


def gap_table(steps: Iterable[tuple[str, Sequence[Launch], Cell]], trial: TrialSpec) -> Table:
    """On paper and measured, beside the aim."""
    rows = [
        (name, sum(one.launches for one in found), *(1e-3 * cell for cell in _seconds(found)), measured)
        for name, found, measured in steps
    ]
    flops, tera = trial.batch_size * flops_an_image(trial)[1], f"{MATRIX / 1e12:.0f} TFLOP/s"
    share, third = 100 * flops / AIM / MATRIX, 1e3 * flops / (0.3 * MATRIX)
    note = f"{1e3 * AIM} ms is {share:.0f} % of {tera}; 30 % of it is {third:.2f} ms."
    return Table("The step", ("", "launches", "least, ms", "with launches, ms", "measured, ms"), rows, note)


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    if find_spec("triton") is None:
        return refuse("traffic", "not installed: triton, which has no wheel for every platform: use Linux")
    where = surroundings()
    try:
        trial = load_sweep(args.sweep).trials[0]
    except SpecError as error:
        return refuse("traffic", error)
    sgd = trial.model_copy(update={"optimizer": trial.optimizer.model_copy(update={"name": "sgd"})})
    muon = trial.model_copy(update={"optimizer": trial.optimizer.model_copy(update={"name": "muon"})})
    found = {"SGD": launches(sgd), "Muon": launches(muon), "Muon, muon.FUSED": launches(muon, fused=True)}
    tables = [step_table(f"A step with {name}", each, name in MEASURED) for name, each in found.items()]
    gaps = gap_table([(name, each, MEASURED.get(name, "not run on a GPU")) for name, each in found.items()], sgd)
    publish(args, where, [gaps, *tables])
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("traffic", (__doc__ or "").partition("\n\n")[0])
    made.add_argument("sweep", nargs="?", default="sweeps/vgg.toml", help="sweep file (default: %(default)s)")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
