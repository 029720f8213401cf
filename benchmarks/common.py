"""What every benchmark says beside its figures: the machine, versions, n, median and spread; as a table and as JSON."""

import argparse
import importlib.metadata
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from raycifar.devices import cpu_count, hardware, versions
from raycifar.execution.agreement import commit

PEERS = ("lightning", "keras", "tensorflow", "tensorflow-cpu")


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure, measured n times in interleaved rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """The median, and in brackets the smallest and the largest."""
        return f"{shown(self.median)} ({shown(min(self.values))} to {shown(max(self.values))})"

    def over(self, other: "Measured") -> "Measured":
        """The ratio, round by round: what slows a whole round down cancels."""
        return Measured(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def beside(self, ours: "Measured") -> "Cell":
        """How many times as much `ours` is; nothing beside itself."""
        return "" if ours is self else ours.over(self)

    def times(self, factor: float) -> "Measured":
        return Measured(tuple(factor * value for value in self.values))

    def to_json(self) -> dict[str, Any]:
        figures = {"median": self.median, "min": min(self.values), "max": max(self.values)}
        return {**figures, "n": len(self.values), "values": list(self.values)}


Cell = str | int | float | Measured


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names a row, the others hold its figures; units stand in the columns' names."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @property
    def caption(self) -> str:
        """The note, and how often the figures were measured."""
        numbers = sorted({len(cell.values) for row in self.rows for cell in row if isinstance(cell, Measured)})
        spread = f"Medians of n = {' or '.join(map(str, numbers))}, in brackets the smallest and the largest."
        return " ".join(part for part in (self.note, spread if numbers else "") if part)


def shown(value: float) -> str:
    """Three significant digits, thousands separated."""
    if abs(value) < 1e-9 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def measured(values: Iterable[float]) -> Measured:
    return Measured(tuple(values))


def parser(module: str, description: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """The options that all benchmarks share; no `--rounds` for one that measures once."""
    made = argparse.ArgumentParser(f"python -m benchmarks.{module}", description=description, allow_abbrev=False)
    if rounds:
        made.add_argument("--rounds", type=count, default=rounds, help="n of every figure (default: %(default)s)")
    made.add_argument("--json", type=_new_file, metavar="FILE", help="write every value there, too")
    made.add_argument("--markdown", action="store_true", help="print the tables as docs/benchmarks.md holds them")
    return made


def count(text: str) -> int:
    """An argparse type: a whole number from 1 up."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 up")
    return int(text)


def _new_file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a file in a folder that is there")
    return path


def surroundings() -> dict[str, Any]:
    """The machine and the versions; `load` is what other processes took when the benchmark began."""
    peers = {name: version for name in PEERS if (version := _version(name))}
    return {
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "machine": hardware(),
        "cores": cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "commit": commit() or "unknown",
        "versions": versions() | peers,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def publish(args: argparse.Namespace, where: dict[str, Any], tables: Sequence[Table]) -> None:
    """Print the tables; with --json write them, each value of every round included."""
    if args.markdown:
        print(markdown(where, tables))
    else:
        _print(where, tables)
    if args.json:
        held = [{name: getattr(table, name) for name in ("title", "columns", "rows", "caption")} for table in tables]
        text = json.dumps(where | {"tables": held}, indent=1, default=Measured.to_json)
        args.json.write_text(text + "\n")


def _heading(where: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    load = f"load {where['load']} at the start"
    return f"{where['machine']}, {load}, {where['at']}, commit {where['commit']}; {packages}."


def _print(where: dict[str, Any], tables: Sequence[Table]) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(_heading(where))
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, caption=table.caption)
        for i, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if i else "left")
        for row in table.rows:
            drawn.add_row(*map(_cell, row))
        console.print(drawn)


def _cell(cell: Cell) -> str:
    return shown(cell) if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def markdown(where: dict[str, Any], tables: Sequence[Table]) -> str:
    """As a section of docs/benchmarks.md; figures are medians, in brackets the smallest and the largest of n."""
    return "\n\n".join([f"`{where['command']}`\n\n{_heading(where)}", *map(markdown_table, tables)])


def markdown_table(table: Table) -> str:
    lines = [f"**{table.title}**", ""] if table.title else []
    lines += [_line(table.columns), _line(["---", *["---:"] * (len(table.columns) - 1)])]
    lines += [_line([_cell(cell) for cell in row]) for row in table.rows]
    return "\n".join(lines) + (f"\n\n{table.caption}" if table.caption else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def refuse(module: str, problem: object) -> int:
    """One line for what cannot be measured, and the exit status."""
    print(f"benchmarks.{module}: {problem}", file=sys.stderr)
    return 2
