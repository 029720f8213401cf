"""`--list-models` and `--list-data`: a line for each name, on standard output, to be counted and searched."""

import os
import sys
from collections.abc import Iterator, Sequence

from raycifar.program import program


def list_models(part: str) -> int:
    """Print the networks whose names have this part; the exit status is 0 where there are some."""
    from raycifar.networks.libraries.listing import listed_networks

    rows = list(listed_networks(part))
    if not any(row[0].startswith("timm/") for row in rows) and not _has_timm():
        print('timm\'s networks are listed once it is installed: pip install "raycifar[timm]"', file=sys.stderr)
    return _listed(rows, f"--list-models {part}: no network")


def list_data(part: str) -> int:
    """As list_models, for the data sets that `data.name` may name."""
    from raycifar.data.listing import listed_data

    return _listed(list(listed_data(part)), f"--list-data {part}: no data set")


def _listed(rows: Sequence[Sequence[str]], none: str) -> int:
    try:
        for line in _aligned(rows):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not rows:
        print(f"{program().run}: {none} has that in its name", file=sys.stderr)
    return 0 if rows else 2


def _has_timm() -> bool:
    from importlib.util import find_spec

    return find_spec("timm") is not None


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each row, columns below each other, those between the first and the last to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *between, last in rows:
        numbers = [f"{cell:>{width}}" for cell, width in zip(between, widths[1:-1], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *numbers, last])
