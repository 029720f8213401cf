"""The lines that say what to type next."""

import shlex
import sys
from pathlib import Path

from raycifar.program import program

INTERRUPTED = 130  # the exit status


def analyze_next(folder: Path) -> str:
    return _next(program().analyze, folder)


def run_next(sweep_file: Path) -> str:
    return _next(program().run, sweep_file)


def _next(command: str, path: Path) -> str:
    return f"Next: {program().line(command)} {shlex.quote(str(path))}"


def again(begun: bool = True) -> str:
    """The command line of this process; a sweep that it has begun goes on without --fresh, which would start over."""
    words = program().typed()
    return shlex.join(word for word in words if not (begun and word == "--fresh"))


def interrupted(begun: bool) -> int:
    """Print the line that resumes, and return the exit status."""
    print(f"\nInterrupted. To go on: {again(begun)}", file=sys.stderr)
    return INTERRUPTED
