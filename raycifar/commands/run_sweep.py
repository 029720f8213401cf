"""The command that runs sweeps: `raycifar run`, and run_sweep.py in a checkout."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from raycifar.commands.listing import list_data, list_models
from raycifar.commands.next_steps import interrupted
from raycifar.commands.parser import replace_what_cannot_be_printed
from raycifar.commands.run_options import parse_arguments, sweep_options
from raycifar.config.stock_sweeps import sweep_file
from raycifar.execution import interruption
from raycifar.program import program
from raycifar.tracking.json_lines import JsonLines

if TYPE_CHECKING:
    from rich.console import Console

    from raycifar.config.sweep import SweepSpec
    from raycifar.execution.options import Options
    from raycifar.search.spec import SearchSpec
    from raycifar.storage.records import Invocation

    Action = Callable[[Path, Options, Console], int]

BAD_INPUT = 2


def main(arguments: list[str] | None = None) -> int:
    replace_what_cannot_be_printed()
    args = parse_arguments(arguments)
    if args.list_models is not None:
        return list_models(args.list_models)
    if args.list_data is not None:
        return _listed_data(args.list_data)
    interruption.heed_signals()
    if not args.json:
        return interruption.end(_status(args))
    events = JsonLines(sys.stdout)
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints its warnings, too
        status = _status(args, events)
    events.end(status)
    return interruption.end(status)


def _listed_data(part: str) -> int:
    from raycifar.storage.asset_cache import AssetError

    try:
        return list_data(part)
    except AssetError as error:
        return refuse(error)


def _status(args: argparse.Namespace, events: JsonLines | None = None) -> int:
    try:
        return _run(args, events)
    except KeyboardInterrupt:
        return interrupted(begun=False)


def _run(args: argparse.Namespace, events: JsonLines | None) -> int:
    from raycifar.config.names import SpecError

    try:
        path, action = _chosen(args)
    except SpecError as error:
        return refuse(error)
    return _answered(args, path, action, events)


def _chosen(args: argparse.Namespace) -> tuple[Path, "Action"]:
    """The results' folder, and what is to be done there. Raises SpecError."""
    from raycifar.config.sweep_file import load_sweep
    from raycifar.execution.workspace import sweep_folder
    from raycifar.search.spec import load_search

    file = sweep_file(args.sweep)
    if search := load_search(file, args.set):
        path = sweep_folder(args.storage, search.name if args.name is None else args.name)
        return path, partial(_search, search, args)
    sweep = load_sweep(file, args.set)
    path = sweep_folder(args.storage, sweep.name if args.name is None else args.name)
    sweep.only(args.only)
    return path, partial(_sweep, sweep, args)


def _sweep(sweep: "SweepSpec", args: argparse.Namespace, path: Path, options: "Options", console: "Console") -> int:
    from raycifar.commands import actions

    if args.dry_run:
        return actions.show_sweep_plan(sweep, path, options, console)
    return actions.run_sweep(sweep, path, options, console, args.quiet)


def _search(search: "SearchSpec", args: argparse.Namespace, path: Path, options: "Options", console: "Console") -> int:
    from raycifar.commands import actions

    if args.dry_run:
        return actions.show_search_plan(search, path, options, console)
    return actions.sample_settings(search, path, options, console, args.quiet)


def _answered(args: argparse.Namespace, path: Path, action: "Action", events: JsonLines | None) -> int:
    """The exit status, also of what the action raises for bad input and of an interruption."""
    from raycifar.config.names import SpecError
    from raycifar.execution.agreement import SweepError
    from raycifar.execution.placement import PlacementError
    from raycifar.storage.asset_cache import AssetError
    from raycifar.storage.files import RecordError
    from raycifar.tracking.trackers import TrackerError
    from raycifar.user_code import CodeError

    before = _last_call(path)
    try:
        return _start(args, path, action, events)
    except RecordError as error:
        return refuse(f"{error}; restore the file, or choose another --name, or start over with --fresh")
    except (AssetError, CodeError, PlacementError, SpecError, SweepError, TrackerError) as error:
        return refuse(error)
    except KeyboardInterrupt:
        return interrupted(begun=_last_call(path) != before)


def _start(args: argparse.Namespace, path: Path, action: "Action", events: JsonLines | None) -> int:
    from rich.console import Console

    from raycifar.execution.ray_address import check_answering
    from raycifar.tracking.trackers import check_trackers

    options = sweep_options(args, events)
    check_trackers(options.log)
    if options.address and not (options.local or args.dry_run):
        check_answering(options.address)  # before PyTorch and Ray are imported, which takes long on a busy machine
    # A path may hold what rich takes for markup.
    return action(path, options, Console(highlight=False, markup=False, emoji=False))


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
    print(f"{program().run}: {error}", file=sys.stderr)
    return BAD_INPUT
