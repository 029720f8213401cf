"""How many processes a piece of work has, and how much memory and time of the CPUs they take, while it runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

EVERY = 0.5  # seconds between two looks


@dataclass(slots=True)
class Peak:
    """The most that was seen at a time of this process's descendants, itself left out."""

    processes: int = 0
    memory: float = 0.0  # bytes; shared pages count once, divided among those that share them, where Linux tells
    _seconds: dict[int, float] = field(default_factory=dict)  # of the CPUs, by process, when it was last seen
    _over: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        children = psutil.Process().children(recursive=True)
        self.processes = max(self.processes, len(children))
        self.memory = max(self.memory, sum(_memory(child) for child in children))
        for child in children:
            self._seconds[child.pid] = max(self._seconds.get(child.pid, 0.0), _cpu_seconds(child))

    @property
    def cpu_seconds(self) -> float:
        """Of all of them together; what a process takes after its last look is not in it."""
        return sum(self._seconds.values())

    def watch(self) -> None:
        while not self._over.wait(EVERY):
            self.look()

    def stop(self) -> None:
        self._over.set()


@contextmanager
def watched() -> Iterator[Peak]:
    """Looks at this process's descendants, again and again, until the block ends."""
    peak = Peak()
    watcher = threading.Thread(target=peak.watch)
    watcher.start()
    try:
        yield peak
    finally:
        peak.stop()
        watcher.join()


def _memory(process: psutil.Process) -> float:
    with suppress(psutil.Error):  # it has just ended
        info = process.memory_full_info()
        return float(getattr(info, "pss", info.rss))
    return 0.0


def _cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
