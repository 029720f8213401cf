"""`--log wandb`: Weights & Biases, offline unless WANDB_MODE says otherwise, with one run a trial."""

import os
from typing import Any

from raycifar.storage.beneath import Beneath, delete, names_in
from raycifar.storage.records import EpochRecord, TrialSummary
from raycifar.storage.written import WANDB_RUN
from raycifar.tracking.listener import Start, Tracked, Tracker

# The terminal is ours, and what it shows, the machine's settings and the code are nobody's business.
PRIVATE: dict[str, Any] = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "x_disable_meta": True,
}
MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")  # wandb 0.31; the last two are older names
INTERRUPTED = 255  # as W&B marks a run whose process was killed


class WandB(Tracker):
    """Logs to the folder wandb/ of the results; the step is the epoch.

    Each session's files hold all of a trial's epochs: offline, the newest replace the earlier ones; online, W&B goes on
    with the run and passes over the steps that it has.
    """

    name = "wandb"
    packages = ("wandb",)

    def __init__(self, tracked: Tracked) -> None:
        super().__init__(tracked)
        self._runs: dict[str, Any] = {}

    @classmethod
    def problem(cls) -> str | None:
        if _mode() not in MODES:
            return f"WANDB_MODE={_mode()!r}: expected one of {', '.join(MODES)}"
        if _mode() == "online" and not logged_in():
            return "WANDB_MODE=online without a login: `wandb login`, or WANDB_MODE=offline"
        return None

    @classmethod
    def beside(cls) -> tuple[str, ...]:
        return ("wandb",)

    def start(self, trial: str, start: Start) -> None:
        self._finish(trial, INTERRUPTED)  # its driver is started again
        run = self.tracked.run_id(trial)
        earlier = Beneath(self.tracked.folder) / "wandb"
        for name in names_in(earlier):
            if WANDB_RUN.fullmatch(name) and name.endswith(f"-{run}"):
                delete(earlier / name)
        self._runs[trial] = self._begun(trial, run, start)
        for record in start.epochs:
            self.epoch(trial, record)

    def _begun(self, trial: str, run: str, start: Start) -> Any:
        import wandb

        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "raycifar"),
            group=self.tracked.folder.name,
            name=trial,
            id=run,
            config=dict(start.settings),
            dir=str(self.tracked.folder),
            mode=_mode(),
            resume="allow",
            reinit="create_new",  # several trials have a run at the same time
            settings=PRIVATE,
        )

    def epoch(self, trial: str, record: EpochRecord) -> None:
        self._runs[trial].log(record.to_json(), step=record.epoch)

    def summary(self, trial: str, summary: TrialSummary) -> None:
        tested = {"test_loss": summary.test_loss, "test_accuracy": summary.test_accuracy}
        self._runs[trial].log(tested, step=summary.epochs_run)

    def state(self, trial: str, state: str, note: str = "") -> None:
        if state in ("done", "failed"):
            self._finish(trial, 0 if state == "done" else 1)

    def close(self) -> None:
        for trial in list(self._runs):
            self._finish(trial, INTERRUPTED)

    def _finish(self, trial: str, exit_code: int) -> None:
        if run := self._runs.pop(trial, None):
            run.finish(exit_code=exit_code)


def _mode() -> Any:
    return os.environ.get("WANDB_MODE") or "offline"


def logged_in() -> bool:
    """Whether W&B has a key: from WANDB_API_KEY, or from the file that `wandb login` writes."""
    import wandb

    return bool(wandb.api.api_key)
