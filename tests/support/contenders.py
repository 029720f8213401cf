"""Contenders for the tests of benchmarks/turns.py, in a module that starts at once in a fresh process."""

from benchmarks.turns import Turn


def counting(start: float, turn: Turn) -> None:
    while True:
        start += 1
        turn.end({"count": start})


def failing(turn: Turn) -> None:
    raise ValueError("the contender's own error")
