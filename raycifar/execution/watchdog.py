"""A worker that makes no progress is killed, so that its runner starts it again.

The watching is done by a child process: it works while the worker sits in a native call, waits for a dead neighbour, or
is stopped. It counts only the seconds that it runs itself, so that a machine that was asleep is no hang.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import TrialError

TICK_SECONDS = 1.0
PAUSED, ALIVE = b"p", b"a"


class Watchdog:
    """Kills this process after `seconds` without a sign of life, and says so in the trial's error.json."""

    def __init__(self, folder: Path, label: str, seconds: float) -> None:
        package = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raycifar.execution.watchdog", str(os.getpid()), str(folder), label, str(seconds)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": package},
        )
        assert self.process.stdin is not None  # noqa: S101 - asked for
        self._signs = self.process.stdin
        os.set_blocking(self._signs.fileno(), False)
        self._told = time.monotonic()

    def alive(self, *_: object) -> None:
        """Progress was made; cheap enough for every training step."""
        if time.monotonic() - self._told >= TICK_SECONDS:
            self._tell(ALIVE)

    def pause(self) -> None:
        """Until `resume` the worker waits for others, which is no hang."""
        self._tell(PAUSED)

    def resume(self) -> None:
        self._tell(ALIVE)

    def close(self) -> None:
        self._signs.close()
        self.process.wait()

    def _tell(self, what: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, BlockingIOError):  # a dead watchdog is no reason to stop
            os.write(self._signs.fileno(), what)
        self._told = time.monotonic()


def watch(signs: int, seconds: float) -> bool:
    """Read signs of life from a file descriptor; True after `seconds` without one, False once it is closed."""
    waited, paused = 0.0, False
    while waited < seconds:
        if select.select([signs], [], [], TICK_SECONDS)[0]:
            told = os.read(signs, 4096)
            if not told:
                return False
            waited, paused = 0.0, told.endswith(PAUSED)
        elif not paused:
            waited += TICK_SECONDS
    return True


def main(worker: int, folder: Path, label: str, seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's
    if watch(sys.stdin.fileno(), seconds):
        message = f"the worker on {label} made no training step for {seconds:g} s: killed, to be started again"
        try:
            TrialFolder(folder).write_error(TrialError(kind="Hung", message=message, traceback="", at=time.time()))
        finally:
            os.kill(worker, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
