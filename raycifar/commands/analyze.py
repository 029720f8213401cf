"""The command that analyses sweeps: `raycifar analyze`, and analyze.py in a checkout.

It writes tables, figures and a report under a sweep's folder, in analysis/, or sets several sweeps side by side.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from raycifar.commands.parser import Parser, complete, examples, replace_what_cannot_be_printed
from raycifar.program import program

if TYPE_CHECKING:
    from raycifar.analysis.report.pages import Report
    from raycifar.analysis.results import Results

DESCRIPTION = "Write a sweep's tables, figures and report, or compare sweeps. Works on running ones too."
EXAMPLES = (
    ("~/ray_results/vgg", "the report, also while the sweep runs"),
    ("~/ray_results/vgg --watch", "again whenever an epoch has ended, until all have"),
    ("~/ray_results/vgg ~/ray_results/other", "side by side, with differences and intervals"),
    ("~/ray_results/vgg --export", "the best network as safetensors and ONNX"),
)
STATUS = "exit status: 0 all written, 2 bad input or a missing tool, 130 interrupted"
INTERRUPTED, BAD_INPUT = 130, 2
MOST_SWEEPS = 26  # each has a letter
WATCH_SECONDS = 10.0  # between two looks at a running sweep; what has not moved on is not written again


def make_parser() -> Parser:
    shown = examples(program().line(program().analyze), EXAMPLES)
    parser = Parser(program().analyze, description=DESCRIPTION, epilog=f"{shown}\n\n{STATUS}")
    add, alone = parser.add_argument, parser.add_mutually_exclusive_group()
    add("folders", nargs="+", type=folder, metavar="FOLDER", help="a sweep's results folder: <storage>/<name>")
    add("--out", type=folder, metavar="DIR", help="write here (default: analysis/, or analysis/export/TRIAL)")
    add("--format", action="append", default=[], choices=["pdf", "parquet"], help="write this too; repeatable")
    alone.add_argument("--watch", action="store_true", help="write again as the sweep moves on, until it has ended")
    alone.add_argument("--export", action="store_true", help="export the best network, or the one of a trial's folder")
    return parser


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    complete(make_parser)
    parser = make_parser()
    options = parser.parse_args(arguments)
    if mistake := _mistake(options):
        parser.error(mistake)
    return options


def _mistake(options: argparse.Namespace) -> str:
    """What is wrong with options that are right one by one, or ""."""
    folders = {os.path.realpath(path) for path in options.folders}  # a Path's resolve() raises for a loop of links
    if len(options.folders) > 1 and (options.watch or options.export):
        return "--watch and --export take one folder"
    if len(folders) < len(options.folders) or len(folders) > MOST_SWEEPS:
        return f"{len(options.folders)} folders: name each sweep once, and at most {MOST_SWEEPS} to compare"
    if options.export and options.format:
        return "--format is of the report, which --export does not write"
    return ""


def folder(text: str) -> Path:
    """An argparse type: a path, its ~ resolved."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # the home of nobody
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def main(arguments: list[str] | None = None) -> int:
    replace_what_cannot_be_printed()
    options = parse_arguments(arguments)
    from raycifar.analysis.trial_state import ResultsError

    try:
        return export(options) if options.export else analyze(options)
    except (ResultsError, OSError) as error:
        return refuse(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def analyze(options: argparse.Namespace) -> int:
    """Read, write, and print the summary; heavy libraries are imported only once the folders are known to be there."""
    from raycifar.analysis.trial_state import read_sweep
    from raycifar.storage.folders import SweepFolder

    for path in options.folders:
        read_sweep(SweepFolder(path))  # what is wrong shows before pandas and matplotlib have been loaded
    from rich.console import Console

    from raycifar.analysis.report.formats import FormatError, check_formats
    from raycifar.analysis.report.terminal import show

    out, console = options.out or analysis_folder(options.folders), Console(highlight=False, markup=False)
    try:
        check_formats(options.format)
        for sweeps in readings(options.folders, options.watch):
            report = write(sweeps, out, options.format)
            if options.watch:
                console.clear()
            with suppress(SystemExit):  # rich's, with status 1, when the reader, such as `head`, has seen enough
                show(report, out, console, tables=1 if options.watch else None)
            if options.watch and any(results.running for results in sweeps):
                at = time.strftime("%H:%M:%S")
                console.print(f"as of {at}; written again when an epoch has ended; Ctrl-C ends", style="dim")
    except FormatError as error:
        return refuse(error)
    return 0


def analysis_folder(paths: list[Path]) -> Path:
    """In the first sweep's folder, of its own for every comparison."""
    analysis = paths[0] / "analysis"
    names = [path.resolve().name for path in paths[1:]]
    return analysis / "-".join(["beside", *names]) if names else analysis


def readings(paths: list[Path], watch: bool) -> Iterator[list["Results"]]:
    """The sweeps as they stand; while watched, again whenever they have moved on, and a last time once they end."""
    from raycifar.analysis.results import read_results

    before = None
    while True:
        sweeps = [read_results(path) for path in paths]
        running = any(results.running for results in sweeps)
        now = running, *(results.trials[["status", "epochs_run"]].to_numpy().tolist() for results in sweeps)
        if now != before:
            yield sweeps
        if not (watch and running):
            return
        before = now
        time.sleep(WATCH_SECONDS)


def write(sweeps: list["Results"], out: Path, formats: list[str]) -> "Report":
    """The report of one sweep, or of several side by side. Raises FormatError."""
    from raycifar.analysis.report.formats import FormatError, write_formats
    from raycifar.analysis.report.report import write_report
    from raycifar.analysis.report.side_by_side import joined_tables, write_comparison
    from raycifar.storage.beneath import Beneath

    try:
        if len(sweeps) == 1:
            report = write_report(sweeps[0], out)
            tables = {"epochs": sweeps[0].epochs, "trials": sweeps[0].trials}
        else:
            report, tables = write_comparison(sweeps, out), joined_tables(sweeps)
        write_formats(tables, Beneath.of(out, *(results.path for results in sweeps)), formats)
    except OSError as error:
        raise FormatError(f"{out}: cannot be written to ({error}); name another folder with --out DIR") from None
    return report


def export(options: argparse.Namespace) -> int:
    """Write the best network; the only part of the analysis that needs PyTorch, so a room of its own imports it."""
    from raycifar.export import ExportError, export_model

    try:
        for path in export_model(options.folders[0], options.out):
            print(path)
    except ExportError as error:
        return refuse(error)
    return 0


def refuse(error: object) -> int:
    """One line for bad input, and its exit status."""
    print(f"{program().analyze}: {error}", file=sys.stderr)
    return BAD_INPUT
