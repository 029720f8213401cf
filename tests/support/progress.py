"""A terminal and whom else a test wants to hear, behind a bus as in a sweep."""

from contextlib import AbstractContextManager

from raycifar.tracking.listener import Bus
from raycifar.tracking.terminal import Terminal


class Progress(AbstractContextManager):
    """What is told to it goes through a `Bus` to a `Terminal` and the listeners."""

    def __init__(self, trials, console=None, done=None, listeners=()):
        self.terminal = Terminal(trials, console, done)
        self.bus = Bus({trial.name: trial.epochs for trial in trials}, [self.terminal, *listeners], self.complain)
        self.console, self.view = self.terminal.console, self.terminal.view

    def __enter__(self):
        self.terminal.__enter__()
        self.bus.__enter__()
        return self

    def __exit__(self, *error):
        self.bus.__exit__(*error)
        self.terminal.__exit__(*error)

    def complain(self, line):
        self.terminal.complain(line)

    def __getattr__(self, name):
        return getattr(self.bus, name)
