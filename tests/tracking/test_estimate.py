"""The live ETA, replayed over recorded sweeps under a clock that the records set."""

import io
import re
import time
from dataclasses import dataclass

import pytest
from rich.console import Console

from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.storage.folders import SweepFolder
from raycifar.tracking.listener import Bus
from raycifar.tracking.terminal import Terminal
from tests.support.paths import ROOT

# Sweep, which of its calls, and by how much of the whole run the ETA may be off from the middle on.
RECORDED = {
    "quick-2-epyc-cores": (0, 0.20),
    "ingredients-rest-2-epyc-cores": (0, 0.20),
    "ingredients-more-2-xeon-cores": (0, 0.20),
    "screen-2-epyc-cores": (0, 0.20),
    "transfer-variants-h100": (0, 0.20),
}


@dataclass
class Replay:
    """A recorded call: what the terminal heard, and when, in seconds from its start."""

    trials: list[TrialSpec]
    events: list[tuple[float, int, str, str, object]]  # when, order, trial, kind, what
    end: float


def as_it_ran(trial: TrialSpec) -> TrialSpec:
    """These trials were recorded before trials measured themselves on their training images."""
    return trial.model_copy(update={"data": trial.data.model_copy(update={"measure_training": False})})


def recorded(name: str, call: int) -> Replay:
    folder = SweepFolder(ROOT / "results" / name)
    begun, record = folder.invocations()[call], folder.record()
    assert record is not None
    assert begun.ended_at is not None
    events, trials, lanes = [], [], [begun.started_at] * begun.trials_at_once
    known = {trial.name: as_it_ran(trial) for trial in SweepSpec.model_validate(record.spec).trials}
    found = [(folder.trial(trial).history(), trial) for trial in known]
    found = [(history, trial) for history, trial in found if history.sessions]
    for history, trial in sorted(found, key=lambda pair: pair[0].sessions[0].started_at):
        (session,), summary = history.sessions, folder.trial(trial).summary()
        if not begun.started_at - 1 <= session.started_at <= begun.ended_at:
            continue
        assert summary is not None
        trials.append(known[trial])
        lane = min(range(len(lanes)), key=lanes.__getitem__)
        events.append((lanes[lane], trial, "state", "starting"))  # Ray starts a trial's processes when one has ended
        events.append((session.started_at + session.startup_seconds, trial, "state", "training"))
        events += [(epoch.finished_at, trial, "epoch", epoch) for epoch in history.epochs]
        events.append((summary.finished_at, trial, "summary", summary))
        lanes[lane] = summary.finished_at
    timed = [(at - begun.started_at, i, *rest) for i, (at, *rest) in enumerate(events)]
    return Replay(trials, sorted(timed), begun.ended_at - begun.started_at)


def errors(replay: Replay, monkeypatch: pytest.MonkeyPatch, every: float = 0.02) -> list[tuple[float, float]]:
    """At each fraction of the run: the fraction, and how far elapsed time + ETA is from the true end, of the run."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=160, height=60, force_terminal=True, force_interactive=True)
    terminal = Terminal(replay.trials, console)
    bus = Bus({trial.name: trial.epochs for trial in replay.trials}, [terminal], print)
    waiting, off = list(replay.events), []
    for step in range(1, int(1 / every)):
        while waiting and waiting[0][0] <= step * every * replay.end:
            now[0], _, trial, kind, what = waiting.pop(0)
            getattr(bus, kind)(trial, what)
        now[0] = step * every * replay.end
        off.append((step * every, (now[0] + shown(terminal) - replay.end) / replay.end))
    return off


def shown(terminal: Terminal) -> float:
    """The ETA's seconds; 0 where none is shown."""
    with terminal.console.capture() as capture:
        terminal.console.print(terminal.view())
    found = re.search(r"ETA ~?(\d+):(\d+):(\d+)\D*$", capture.get())
    hours, minutes, seconds = map(int, found.groups()) if found else (0, 0, 0)
    return 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize(("name", "call", "most"), [(name, *limits) for name, limits in RECORDED.items()])
def test_from_the_middle_on_the_eta_is_near(name: str, call: int, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    off = errors(recorded(name, call), monkeypatch)
    print(name, *(f"{100 * at:.0f}%: {100 * error:+.0f}" for at, error in off[4::5]), sep="  ")
    assert max(abs(error) for at, error in off if at >= 0.5) <= most
