"""Many image files decoded at once, by processes that data/own/decode.py is, into the rows of one scratch file.

They are started as commands. A fork would copy threads' locks (PyTorch's, Ray's); multiprocessing's other ways run the
user's script again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raycifar.data.own.decode import Look, look
from raycifar.data.own.named import DataError, Named
from raycifar.devices import cpu_count

FEW = 256  # images that one process decodes sooner than others are started
AT_ONCE = 32  # images of a request
MOST_DECODERS = 32


def decode_all(named: Named, scratch: Path, side: int, resize: str) -> list[Look]:
    """Decode every image into its row of `scratch`, uint8 (N, 3, side, side); rows of unreadable ones are undefined.

    Raises DataError where a decoding process dies, and OSError.
    """
    contents = [picture.content for picture in named.pictures]
    paths = [str(content) for content in contents if isinstance(content, Path)]
    with scratch.open("wb") as file:
        file.truncate(len(contents) * 3 * side * side)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{named.title}: reading images", total=len(contents))
        if len(paths) < max(FEW, len(contents)) or not sys.executable:
            looks = _one_by_one(contents, scratch, side, resize)
        else:
            looks = _by_processes(paths, [str(scratch), str(side), resize], named.title)
        seen: dict[int, Look] = {}
        for first, part in looks:
            seen.update(enumerate(part, first))
            bar.advance(task, len(part))
    return [seen[row] for row in range(len(contents))]


def _one_by_one(
    contents: Sequence[Path | bytes | np.ndarray], scratch: Path, side: int, resize: str
) -> Iterator[tuple[int, list[Look]]]:
    with scratch.open("r+b") as file:
        for row, content in enumerate(contents):
            pixels, seen = look(content, side, resize)
            if pixels is not None:
                file.seek(row * pixels.nbytes)
                file.write(pixels.data)
            yield row, [seen]


def _by_processes(paths: Sequence[str], arguments: Sequence[str], title: str) -> Iterator[tuple[int, list[Look]]]:
    """The looks of each request as it is answered, with the row of its first image."""
    with ExitStack() as stack:
        decoders = SimpleQueue[subprocess.Popen[str]]()
        wanted = min(cpu_count(), MOST_DECODERS)
        for _ in range(wanted):
            decoders.put(stack.enter_context(_Decoder(arguments)).process)
        pool = ThreadPoolExecutor(wanted)
        stack.callback(pool.shutdown, cancel_futures=True)  # before the processes end

        def ask(first: int) -> tuple[int, list[Look]]:
            decoder = decoders.get()
            try:
                return first, _answer(decoder, first, paths[first : first + AT_ONCE], title)
            finally:
                decoders.put(decoder)

        for done in as_completed([pool.submit(ask, first) for first in range(0, len(paths), AT_ONCE)]):
            yield done.result()


class _Decoder:
    """A decoding process, for the time of a `with` block."""

    def __init__(self, arguments: Sequence[str]) -> None:
        root = str(Path(__file__).resolve().parents[3])  # where this very package lies
        below = os.environ.get("PYTHONPATH")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raycifar.data.own.decode", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{below}" if below else root},
        )

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def _answer(decoder: subprocess.Popen[str], first: int, paths: Sequence[str], title: str) -> list[Look]:
    answer = ""
    if decoder.stdin and decoder.stdout:
        with suppress(OSError):  # a pipe that nobody reads any more
            decoder.stdin.write(json.dumps([first, paths]) + "\n")
            decoder.stdin.flush()
            answer = decoder.stdout.readline()
    if not answer:
        which = f"{Path(paths[0]).name} to {Path(paths[-1]).name}"
        raise DataError(f"{title}: the process that decoded {which} died: free memory, or remove what it cannot read")
    return [Look(**{**seen, "sums": tuple(seen["sums"])}) for seen in json.loads(answer)]
