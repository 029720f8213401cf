"""A sweep's folder -> tables, figures and a report, there under analysis/. Starts neither torch nor Ray.

python analyze.py ~/ray_results/vgg
"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from raycifar.report import Report


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write a sweep's tables, figures and report. Works on a running sweep too.",
        epilog="example: python analyze.py ~/ray_results/vgg",
    )
    parser.add_argument("folder", type=Path, help="the folder that run_sweep.py wrote: <storage>/<name>")
    parser.add_argument("--out", type=Path, help="where to write (default: <folder>/analysis)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 with a report written, 2 for bad input."""
    options = parse_arguments(arguments)
    return analyze(options.folder.expanduser(), options.out)


def analyze(folder: Path, out: Path | None) -> int:
    """Read, write, and print the summary; heavy libraries are imported only once the folder is known to be there."""
    from raycifar.records import SweepFolder
    from raycifar.traces import ResultsError, read_sweep

    try:
        read_sweep(SweepFolder(folder))  # what is wrong shows before pandas and matplotlib have been loaded
        from raycifar.results import read_results

        results = read_results(folder)
    except (ResultsError, OSError) as error:
        print(f"analyze.py: {error}", file=sys.stderr)
        return 2
    out = out.expanduser() if out else folder / "analysis"
    from rich.console import Console

    from raycifar.report import write_report

    try:
        report = write_report(results, out)
    except OSError as error:
        line = f"{out}: cannot be written to ({error}); name another folder with --out DIR"
        print(f"analyze.py: {line}", file=sys.stderr)
        return 2
    with suppress(SystemExit):  # rich's, with status 1, when the reader of the summary, such as `head`, has seen enough
        show(report, out, Console(highlight=False, markup=False))
    return 0


def show(report: "Report", out: Path, console: "Console") -> None:
    """The report's summary in a terminal."""
    from rich.table import Table
    from rich.text import Text

    from raycifar.results import LEAK

    console.print(Text(report.title, "bold"))
    console.print(Text(report.answer))
    for caution in report.cautions:
        console.print(Text(f"! {caution}", "yellow"))
    for trial, error in report.failures:
        console.print(Text(f"! {trial} failed: {error}", "red"))
    for table in report.tables:
        if not table.brief or not table.rows:
            continue
        title = table.title + (f" — {LEAK}" if table.leak else "")
        grid = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
        for i in table.brief:
            grid.add_column(table.columns[i], justify="left" if i < table.names else "right", overflow="fold")
        for row in table.rows:
            grid.add_row(*(Text(row[i]) for i in table.brief))
        console.print()
        console.print(grid)
    console.print()
    console.print(Text(f"report: {out / 'report.html'}", no_wrap=True), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
