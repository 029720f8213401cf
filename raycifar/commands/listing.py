"""`--list-models`: a line for each network, on standard output, so that it can be counted and searched."""

import os
import sys

from raycifar.program import program


def list_models(part: str) -> int:
    """Print the networks whose names have this part; the exit status is 0 where there are some."""
    from raycifar.networks.libraries.listing import aligned, listed_networks

    rows = list(listed_networks(part))
    try:
        for line in aligned(rows):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not any(row[0].startswith("timm/") for row in rows) and not _has_timm():
        print('timm\'s networks are listed once it is installed: pip install "raycifar[timm]"', file=sys.stderr)
    if not rows:
        print(f"{program().run}: --list-models {part}: no network has that in its name", file=sys.stderr)
    return 0 if rows else 2


def _has_timm() -> bool:
    from importlib.util import find_spec

    return find_spec("timm") is not None
