"""The two commands' names as the user types them, for every line that names one or says what to type next.

A checkout has the scripts run_sweep.py and analyze.py; an installed package has the command `raycifar`. Which of them
was called is a fact of the whole process, as `sys.argv` is. A call from Python counts as one of the scripts.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """How this process was called. `command` stands before a sub-command; it is empty for the scripts."""

    command: str = ""

    @property
    def run(self) -> str:
        """The name of the command that runs sweeps."""
        return f"{self.command} run" if self.command else "run_sweep.py"

    @property
    def analyze(self) -> str:
        """The name of the command that analyses them."""
        return f"{self.command} analyze" if self.command else "analyze.py"

    def line(self, name: str) -> str:
        """What to type for one of these names."""
        return name if self.command else f"python {name}"

    def typed(self) -> list[str]:
        """The words of this process's own command line."""
        return [*self.command.split(), *sys.argv[1:]] if self.command else ["python", *sys.argv]

    def install(self, extra: str) -> str:
        """The pip command that adds an optional part of the package."""
        return f"pip install 'raycifar[{extra}]'" if self.command else f"pip install -c constraints.txt -e '.[{extra}]'"


_program = Program()


def program() -> Program:
    """How this process was called."""
    return _program


@contextmanager
def called_as(command: str) -> Iterator[Program]:
    """Within the `with` block, the commands are sub-commands of `command`."""
    global _program  # noqa: PLW0603 - one process has one command line
    before, _program = _program, Program(command)
    try:
        yield _program
    finally:
        _program = before
