"""What may lie where a file is expected, and an alarm for whoever waits for it."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**34)  # sparse: it takes no room


NO_FILE: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a file of 17 GB": _huge,
}


@pytest.fixture(autouse=True)
def nothing_waits_for_ever() -> Iterator[None]:
    """A pipe that nobody writes into, and a device without end, would stop the tests and not only fail one."""

    def end(*_: object) -> None:
        raise TimeoutError("it still waits after a minute")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def everything(folder: Path) -> list[tuple[Path, int]]:
    """All paths in a folder and their change times, to see that nothing was touched."""
    return sorted((path, path.lstat().st_mtime_ns) for path in folder.rglob("*"))
