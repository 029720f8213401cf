"""Contenders in processes of their own that take turns, so that what slows the machine down slows all of them."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection

Figures = dict[str, float]


class TurnsOverError(Exception):
    """There is no further turn."""


class ContenderError(Exception):
    """A contender's process has ended before its time; what it said itself stands on stderr."""


class Turn:
    """A contender's end of the pipe. It works, says with `end` what it measured, and sleeps until its next turn."""

    def __init__(self, pipe: "Connection[Figures, bool]") -> None:
        self._pipe = pipe

    def end(self, figures: Figures) -> None:
        """Raises TurnsOverError when there is no further turn."""
        self._pipe.send(figures)
        self.wait()

    def wait(self) -> None:
        if not self._pipe.recv():
            raise TurnsOverError


Contender = Callable[[Turn], None]  # picklable: it starts in a fresh process


def _contend(contender: Contender, pipe: "Connection[Figures, bool]") -> None:
    turn = Turn(pipe)
    with suppress(TurnsOverError):
        turn.wait()
        contender(turn)


class Waiting:
    """A contender in its process, from the other end: `go` lets it take a turn, `answer` waits for its figures."""

    def __init__(self, pipe: "Connection[bool, Figures]") -> None:
        self._pipe = pipe

    def go(self) -> None:
        with suppress(OSError):  # it has ended; `answer` says so
            self._pipe.send(True)

    def answer(self) -> Figures:
        """Raises ContenderError where its process has ended."""
        try:
            return self._pipe.recv()
        except EOFError:
            raise ContenderError("a contender ended before its time; its own error stands above") from None


@contextmanager
def started(contender: Contender) -> Iterator[Waiting]:
    """The contender in a fresh process, which has ended when the block has."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_contend, args=(contender, there))
    process.start()
    there.close()
    try:
        yield Waiting(here)
    finally:
        with suppress(OSError):
            here.send(False)
        process.join(30)
        process.terminate()
        here.close()


def rounds(contenders: Mapping[str, Contender], n: int) -> dict[str, list[Figures]]:
    """n interleaved turns of each after one to warm up, which comes first; the order moves on by one a round."""
    names = list(contenders)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    with ExitStack() as stack:
        waiting = {name: stack.enter_context(started(contenders[name])) for name in names}
        for i in range(n + 1):
            first = i % len(names)
            print(f"round {i} of {n}" if i else f"warming up: {', '.join(names)}", file=sys.stderr, flush=True)
            for name in names[first:] + names[:first]:
                waiting[name].go()
                found[name].append(waiting[name].answer())
    return found
