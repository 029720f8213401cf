"""The report's summary in a terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from raycifar.analysis.report.pages import Report
from raycifar.analysis.results import LEAK
from raycifar.analysis.tables.table import Table
from raycifar.analysis.wording import CUT_NOTE
from raycifar.texts import plain, printable

TERMINAL_ROWS = 16  # of a table


def show(report: Report, out: Path, console: Console, tables: int | None = None) -> None:
    """Print the answer, the cautions and so many of the tables, or all; last, where the report lies."""
    console.print(Text(plain(report.title), "bold"))
    for question, reply in report.plainly:
        console.print(Text.assemble((f"{plain(question)} ", "bold"), plain(reply)))
    console.print(Text(plain(report.answer)))
    if report.costs:
        console.print(Text(plain(report.costs)))
    for caution in report.cautions:
        console.print(Text(plain(f"! {caution}"), "yellow"))
    for trial, error in report.failures:
        console.print(Text(plain(f"! {trial} failed: {error}"), "red"))
    for table in report.whole_tables[:tables]:
        _show_table(table.for_terminal(), console)
    console.print()
    console.print(Text(printable(f"report: {out / 'report.html'}"), no_wrap=True), soft_wrap=True)


def _show_table(table: Table, console: Console) -> None:
    """The first rows; nothing where the table has no rows, or no columns for a terminal."""
    if not table.columns or not table.cells:
        return
    title = table.title + (f" — {LEAK}" if table.leak else "")
    grid = Grid(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        grid.add_column(column.heading, justify="left" if column.is_name else "right", overflow="fold")
    shown = table.head(TERMINAL_ROWS)
    for row in shown.rows:
        grid.add_row(*(Text(plain(cell)) for cell in row))
    console.print()
    console.print(grid)
    if len(shown.cells) < len(table.cells):
        console.print(Text(shown.notes[0], "dim"))
    if any(cell.is_cut for row in shown.cells for cell in row):
        console.print(Text(CUT_NOTE, "dim"))
