"""What Tune hears of trials, passed on to the bus."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raycifar.execution import interruption
from raycifar.execution.ray_private.trials import CHECKPOINT_PATH_KEY, TrialProgressCallback, remove_groups
from raycifar.execution.ray_worker import HEARD
from raycifar.storage.checkpoints import saved_history
from raycifar.storage.files import RecordError
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import EpochRecord, Session
from raycifar.tracking.listener import Bus, Start

SLOW_START_SECONDS = 300.0  # a trial whose workers are not up by then is worth a line


def trial_name(trial: Any) -> str:
    """Of a Tune trial of a sweep."""
    return str(trial.config["trial"]["name"])


class Teller(Protocol):
    """A callback of Tune's that tells a bus."""

    _bus: Bus
    _complaints: set[str]  # each is told once


def never_ends_a_sweep(hook: Callable[..., None]) -> Callable[..., None]:
    """A callback's method that complains in one line of what it raises: Tune would end the whole sweep."""

    @functools.wraps(hook)
    def guarded(self: Teller, *news: Any, **more: Any) -> None:
        try:
            hook(self, *news, **more)
        except Exception as error:
            complain_once(self, error)

    return guarded


def complain_once(teller: Teller, error: Exception) -> None:
    """One line about it, the first time."""
    line = " ".join(f"the sweep goes on without telling everything: {error or type(error).__name__}".split())
    if line not in teller._complaints:
        teller._complaints.add(line)
        teller._bus.complain(line)


@dataclass(slots=True)
class _Starting:
    """Of a trial whose workers are not up."""

    sessions: int  # that it has had before
    began_at: float  # time.monotonic()
    told: bool = False  # that it takes long


class TellBus(TrialProgressCallback):  # type: ignore[misc]
    """In the place of Tune's own callback, which prints."""

    def __init__(self, bus: Bus, folder: SweepFolder) -> None:
        super().__init__()
        self._bus, self._folder = bus, folder
        self._shown: dict[str, int] = {}  # the last epoch of each trial that the bus knows
        self._starting: dict[str, _Starting] = {}
        self._complaints: set[str] = set()
        self.begun: set[str] = set()  # trials whose driver has started; Tune starts no other for one without
        self._beginning: set[str] = set()  # trials whose first epoch in this session has not been heard of

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks, but a terminal cannot be saved, and no Tuner is ever restored from there."""
        return {}

    @never_ends_a_sweep
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial_name(trial)
        self.begun.add(name)
        epochs = self._saved(name)
        self._shown.setdefault(name, len(epochs))  # a driver that starts again may find epochs that Tune has not heard
        self._starting[name] = _Starting(len(self._sessions(name)), time.monotonic())
        self._beginning.add(name)
        interruption.trial_started(name)
        self._bus.start(name, Start(trial.config["trial"], epochs))
        after = f"after epoch {len(epochs)}" if epochs else ""
        self._bus.state(name, "resumed" if epochs else "starting", after)

    def _saved(self, name: str) -> Sequence[EpochRecord]:
        try:
            return saved_history(self._folder.trial(name).path).epochs
        except (RecordError, OSError):  # its driver meets it, too, and then that trial alone fails
            return ()

    def _sessions(self, name: str) -> Sequence[Session]:
        try:
            return self._folder.trial(name).history().sessions
        except (RecordError, OSError) as error:
            complain_once(self, error)
            return ()

    @never_ends_a_sweep
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for name in list(self._starting):
            self._find_place(name)
        self._bus.refresh()

    @never_ends_a_sweep
    def _find_place(self, name: str) -> None:
        """A trial's workers write down where they are once they begin to train."""
        if (starting := self._starting.get(name)) is None:
            return
        sessions, waited = self._sessions(name), time.monotonic() - starting.began_at
        if len(sessions) > starting.sessions:
            del self._starting[name]
            self._bus.place(name, sessions[-1].devices)
        elif waited >= SLOW_START_SECONDS and not starting.told:
            starting.told = True
            self._bus.warn(name, f"no worker after {waited:.0f} s, still waiting (Ray's dashboard shows for what)")

    @never_ends_a_sweep
    def _find_warnings(self, name: str) -> None:
        """A session's warnings are written down by the end of its first epoch."""
        if name in self._beginning:
            self._beginning.remove(name)
            for session in self._sessions(name)[-1:]:
                for line in session.warnings:
                    self._bus.warn(name, line)

    @never_ends_a_sweep
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record, name = EpochRecord.from_json(result), trial_name(trial)
        interruption.epoch_ended(name, record.epoch)
        if record.epoch > self._shown[name]:
            self._find_place(name)
            self._find_warnings(name)
            self._shown[name] = record.epoch
            self._bus.epoch(name, record)
        trial.config[HEARD] = record.epoch  # for a driver that is started again
        if saved := result.get(CHECKPOINT_PATH_KEY):
            interruption.epoch_saved(name, Path(saved))

    @never_ends_a_sweep
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial_name(trial)
        interruption.trial_ended(name)
        self._starting.pop(name, None)
        folder = self._folder.trial(name)
        if summary := folder.summary():
            self._bus.summary(name, summary)
        elif error := folder.error():
            self._bus.state(name, "failed", error.message)
        else:
            self._bus.state(name, "failed", "neither a result nor an error: is the disk full?")

    @never_ends_a_sweep
    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        remove_groups(trial_name(trial))  # for its next driver, or for other trials

    @never_ends_a_sweep
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial_name(trial)
        interruption.trial_ended(name)
        if name in self.begun:
            self._bus.state(name, "failed", "see its error.json")
        else:
            self._bus.warn(name, "it never began, as its driver was killed or could not go on: it is tried again")
        remove_groups(name)
