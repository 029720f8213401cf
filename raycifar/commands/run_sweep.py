"""Run a sweep: read its file, fetch what it needs, train and test every trial. The same command again resumes."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raycifar.commands.parser import Parser, complete
from raycifar.execution import interruption
from raycifar.tracking.json_lines import JsonLines

if TYPE_CHECKING:
    from rich.console import Console

    from raycifar.config.sweep import SweepSpec
    from raycifar.execution.options import Options
    from raycifar.search.spec import SearchSpec
    from raycifar.storage.records import Invocation

EXAMPLES = """examples:
  python run_sweep.py --gpus 4                       sweeps/vgg.toml on four GPUs
  python run_sweep.py sweeps/quick.toml              minutes, on a laptop
  python run_sweep.py sweeps/vgg.toml --dry-run      the plan, and nothing started
  python run_sweep.py --only transfer-1 --set epochs=5 --name short
  python run_sweep.py --log mlflow                   TensorBoard's files, and mlflow.db beside them
  python run_sweep.py --json > events.jsonl          events for a script; the table stays on the terminal
  python run_sweep.py sweeps/search.toml             draw settings, keep the best; needs the extra `search`

exit status: 0 every trial finished, 1 some did not, 2 bad input, 130 interrupted (the same command resumes)"""
HANG = "start a worker again that has made no training step for so long (default: %(default)s; not with --local)"
INTERRUPTED, BAD_INPUT = 130, 2


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        "run_sweep.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("sweep", nargs="?", default="sweeps/vgg.toml", help="sweep file (default: %(default)s)")
    add("--gpus", type=count(0), metavar="N", help="GPUs to use (default: all there are; 0: the CPU)")
    add("--trials-per-gpu", type=sharing, default=1, metavar="K", help="trials that share a GPU, or auto (default: 1)")
    add("--workers-per-trial", type=count(1), default=1, metavar="W", help="workers, each on a GPU (default: 1)")
    add("--name", help="of the results' folder (default: the sweep's name)")
    add("--storage", default="~/ray_results", help="folder that holds it (default: %(default)s)")
    add("--only", action="append", default=[], metavar="TRIAL", help="run this trial, or arm, alone; repeatable")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting; repeatable")
    add("--local", action="store_true", help="in this process, one trial at a time, without Ray")
    add("--address", help="of a running Ray cluster (default: start Ray on this machine)")
    add("--hang-timeout", type=count(1), default=1800, metavar="SECONDS", help=HANG)
    add("--fresh", action="store_true", help="move earlier results of this name aside and start over")
    add("--dry-run", action="store_true", help="show the plan and start nothing")
    add("--data", type=Path, metavar="DIR", help="a folder cifar-10-batches-py")
    add("--weights", type=Path, metavar="FILE", help="ImageNet VGG16 weights: safetensors, or a torchvision state dict")
    add("--log", action="append", default=[], choices=("mlflow", "wandb"), help="a tracker too; repeatable")
    add("--json", action="store_true", help="events as JSON lines on standard output, all else on standard error")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="no progress: errors, and at the end the results")
    loudness.add_argument("--verbose", action="store_true", help="what Ray and the workers log, too")
    complete(parser)
    return parser.parse_args(arguments)


def count(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` up."""

    def whole(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= 100_000:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} up")
        return int(text)

    return whole


def sharing(text: str) -> int | Literal["auto"]:
    """An argparse type: a whole number from 1 up, or "auto"."""
    return "auto" if text == "auto" else count(1)(text)


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    interruption.heed_signals()
    if not args.json:
        return _status(args)
    events = JsonLines(sys.stdout)
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints its warnings, too
        status = _status(args, events)
    events.end(status)
    return status


def _status(args: argparse.Namespace, events: JsonLines | None = None) -> int:
    try:
        return _run(args, events)
    except KeyboardInterrupt:
        return interrupted(sys.argv)


def interrupted(command: list[str]) -> int:
    """The line that resumes, and the exit status."""
    print(f"\nInterrupted. To go on: {again(command)}", file=sys.stderr)
    return INTERRUPTED


def again(command: list[str]) -> str:
    return shlex.join(["python", *command])


def begun_command() -> list[str]:
    """What goes on with a sweep that this command has begun: with --fresh it would start over."""
    return [argument for argument in sys.argv if argument != "--fresh"]


def _run(args: argparse.Namespace, events: JsonLines | None) -> int:
    from raycifar.config.names import SpecError
    from raycifar.config.sweep_file import load_sweep
    from raycifar.execution.workspace import sweep_folder
    from raycifar.search.spec import load_search

    try:
        if search := load_search(args.sweep, args.set):
            path = sweep_folder(args.storage, search.name if args.name is None else args.name)
            return _start(args, path, partial(_search, search, args.quiet), events)
        sweep = load_sweep(args.sweep, args.set)
        path = sweep_folder(args.storage, sweep.name if args.name is None else args.name)
        sweep.only(args.only)
    except SpecError as error:
        return refuse(error)
    return _start(args, path, partial(_sweep, sweep, args.quiet), events)


Act = Callable[[Path, "Options", bool, "Console"], int]


def _start(args: argparse.Namespace, path: Path, act: Act, events: JsonLines | None) -> int:
    """Call `act` with the folder, the options, whether only to plan, and the terminal; answer for what it raises."""
    from rich.console import Console

    from raycifar.execution.options import Options
    from raycifar.execution.placement import PlacementError
    from raycifar.execution.workspace import SweepError, is_there
    from raycifar.storage.asset_cache import AssetError
    from raycifar.storage.files import RecordError
    from raycifar.tracking.trackers import TrackerError, check_trackers

    options = Options(
        gpus=args.gpus,
        trials_per_gpu=args.trials_per_gpu,
        workers_per_trial=args.workers_per_trial,
        only=tuple(args.only),
        local=args.local,
        address=args.address,
        hang_seconds=args.hang_timeout,
        fresh=args.fresh,
        data=args.data,
        weights=args.weights,
        source=args.sweep,
        log=tuple(dict.fromkeys(args.log)),
        verbose=args.verbose,
        events=events,
    )
    console = Console(highlight=False, markup=False, emoji=False)  # a path may hold what rich takes for markup
    before = _last_call(path)
    try:
        check_trackers(options.log)
        if args.dry_run:  # a call that runs asks itself
            is_there(path)
        return act(path, options, args.dry_run, console)
    except RecordError as error:
        return refuse(f"{error}; restore the file, or choose another --name, or start over with --fresh")
    except (AssetError, PlacementError, SweepError, TrackerError) as error:
        return refuse(error)
    except KeyboardInterrupt:
        begun = _last_call(path) != before
        return interrupted(begun_command() if begun else sys.argv)


def _sweep(sweep: "SweepSpec", quiet: bool, path: Path, options: "Options", dry_run: bool, console: "Console") -> int:
    from rich.console import Console

    from raycifar.execution.overview import plan_table, results_table
    from raycifar.execution.plan import describe_plan, tell_plan
    from raycifar.execution.sweep import plan_only, run_sweep
    from raycifar.storage.folders import SweepFolder

    if dry_run:
        plan, gpus = plan_only(sweep, options)
        console.print(plan_table(sweep, plan, path), describe_plan(plan, gpus), sep="\n")
        tell_plan(options, path, plan, gpus)
        return 0
    finished = run_sweep(sweep, path, options, Console(quiet=True) if quiet else console)
    console.print(results_table(sweep.only(options.only).trials, SweepFolder(path)))
    if not finished:
        console.print(f"To go on with what is not done: {again(begun_command())}", soft_wrap=True)
    console.print(f"Next: python analyze.py {shlex.quote(str(path))}", soft_wrap=True)
    return 0 if finished else 1


def _search(spec: "SearchSpec", quiet: bool, path: Path, options: "Options", dry_run: bool, console: "Console") -> int:
    from rich.console import Console

    from raycifar.execution.plan import describe_plan, tell_plan
    from raycifar.search.records import SearchFolder, sample_name
    from raycifar.search.search import plan_search, run_search
    from raycifar.search.tables import budget, samples_table, space_table

    if dry_run:
        plan, gpus = plan_search(spec, options)
        console.print(space_table(spec, path), budget(spec), describe_plan(plan, gpus), sep="\n")
        tell_plan(options, path, plan, gpus, [sample_name(number) for number in range(1, spec.samples + 1)])
        return 0
    finished = run_search(spec, path, options, Console(quiet=True) if quiet else console)
    folder = SearchFolder(path)
    console.print(samples_table(spec, folder))
    if folder.best.exists():
        console.print(f"Next: python run_sweep.py {shlex.quote(str(folder.best))}", soft_wrap=True)
    return 0 if finished else 1


def _last_call(path: Path) -> "Invocation | None":
    from raycifar.storage.files import RecordError
    from raycifar.storage.folders import SweepFolder

    try:
        calls = SweepFolder(path).invocations()
    except RecordError:
        return None
    return calls[-1] if calls else None


def refuse(error: Exception | str) -> int:
    """One line for bad input, and its exit status."""
    print(f"run_sweep.py: {error}", file=sys.stderr)
    return BAD_INPUT
