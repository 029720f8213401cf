"""Run a sweep: read its file, fetch what it needs, train and test every trial. The same command again resumes."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from raycifar.spec import SweepSpec

EXAMPLES = """examples:
  python run_sweep.py --gpus 4                       sweeps/vgg.toml on four GPUs
  python run_sweep.py sweeps/quick.toml              minutes, on a laptop
  python run_sweep.py sweeps/vgg.toml --dry-run      the plan, and nothing started
  python run_sweep.py --only transfer-1 --set epochs=5 --name short

exit status: 0 every trial finished, 1 some did not, 2 bad input, 130 interrupted (the same command resumes)"""
INTERRUPTED, BAD_INPUT = 130, 2


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "run_sweep.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("sweep", nargs="?", default="sweeps/vgg.toml", help="sweep file (default: %(default)s)")
    add("--gpus", type=count(0), metavar="N", help="GPUs to use (default: all there are; 0: the CPU)")
    add("--trials-per-gpu", type=count(1), default=1, metavar="K", help="trials that share a GPU (default: 1)")
    add("--workers-per-trial", type=count(1), default=1, metavar="W", help="workers, each on a GPU (default: 1)")
    add("--name", help="of the results' folder (default: the sweep's name)")
    add("--storage", default="~/ray_results", help="folder that holds it (default: %(default)s)")
    add("--only", action="append", default=[], metavar="TRIAL", help="run this trial, or arm, alone; repeatable")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; repeatable")
    add("--local", action="store_true", help="in this process, one trial at a time, without Ray")
    add("--address", help="of a running Ray cluster (default: start Ray on this machine)")
    add("--fresh", action="store_true", help="move earlier results of this name aside and start over")
    add("--dry-run", action="store_true", help="show the plan and start nothing")
    add("--data", type=Path, metavar="DIR", help="a folder cifar-10-batches-py")
    add("--weights", type=Path, metavar="FILE", help="ImageNet VGG16 weights: safetensors, or a torchvision state dict")
    return parser.parse_args(arguments)


def count(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` up."""

    def whole(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= 100_000:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} up")
        return int(text)

    return whole


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(args)
    except KeyboardInterrupt:
        return interrupted(sys.argv)


def interrupted(command: list[str]) -> int:
    """The line that resumes, and the exit status."""
    print(f"\nInterrupted. To go on: {shlex.join(['python', *command])}", file=sys.stderr)
    return INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(args: argparse.Namespace) -> int:
    from raycifar.spec import SpecError, load_sweep

    try:
        sweep = load_sweep(args.sweep, args.set)
        path = sweep_folder(args.storage, sweep.name if args.name is None else args.name)
        sweep.only(args.only)
    except SpecError as error:
        return refuse(error)
    return _start(args, sweep, path)


def sweep_folder(storage: str, name: str) -> Path:
    """The results' folder, absolute. Raises SpecError for a name or a storage that cannot be one."""
    from raycifar.spec import SpecError, check_name

    check_name(name, "--name")
    if not storage or "://" in storage:
        raise SpecError(f"--storage {storage!r}: expected a folder that every node of the cluster sees, not an address")
    try:
        return Path(storage).expanduser().resolve() / name
    except (RuntimeError, ValueError) as error:  # the home of nobody, a loop of links, a null byte
        raise SpecError(f"--storage {storage!r}: expected a folder ({error})") from None


def _start(args: argparse.Namespace, sweep: "SweepSpec", path: Path) -> int:
    from rich.console import Console

    from raycifar.assets import AssetError
    from raycifar.overview import plan_table, results_table
    from raycifar.placement import PlacementError
    from raycifar.records import RecordError, SweepFolder
    from raycifar.sweep import Options, describe_plan, plan_only, run_sweep
    from raycifar.workspace import SweepError

    options = Options(
        gpus=args.gpus,
        trials_per_gpu=args.trials_per_gpu,
        workers_per_trial=args.workers_per_trial,
        only=tuple(args.only),
        local=args.local,
        address=args.address,
        fresh=args.fresh,
        data=args.data,
        weights=args.weights,
        source=args.sweep,
    )
    console = Console(highlight=False, markup=False, emoji=False)  # a path may hold what rich takes for markup
    called_at = time.time()
    try:
        if args.dry_run:
            plan, gpus = plan_only(sweep, options)
            console.print(plan_table(sweep, plan, path), describe_plan(plan, gpus), sep="\n")
            return 0
        finished = run_sweep(sweep, path, options, console)
    except (AssetError, PlacementError, RecordError, SweepError) as error:
        return refuse(error)
    except KeyboardInterrupt:
        calls = SweepFolder(path).invocations()
        begun = bool(calls) and calls[-1].started_at >= called_at
        return interrupted([a for a in sys.argv if not (begun and a == "--fresh")])  # again, it would start over
    console.print(results_table(sweep.only(args.only).trials, SweepFolder(path)))
    console.print(f"Next: python analyze.py {shlex.quote(str(path))}", soft_wrap=True)
    return 0 if finished else 1


def refuse(error: Exception) -> int:
    """One line for bad input, and its exit status."""
    print(f"run_sweep.py: {error}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
