"""`--log wandb`: Ray's Weights & Biases callback, offline unless WANDB_MODE says otherwise, one run a trial."""

import os
import shutil
import time
from typing import Any

import ray
from ray.air.integrations.wandb import WandbLoggerCallback

from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import EpochRecord
from raycifar.tracking.trackers import ends_no_sweep, run_id, wandb_mode

# The terminal is ours, and what it shows, the machine's settings and the code are nobody's business.
PRIVATE = {"console": "off", "silent": True, "disable_git": True, "disable_code": True, "x_disable_meta": True}


FINISH_SECONDS = 60  # at most, for W&B to take what is queued
# W&B's own process writes its file a little after it says that it has finished, and Ray's callback kills it at once:
# the last trial's file was found without an epoch.
FLUSH_SECONDS = 2


class WandB(WandbLoggerCallback):  # type: ignore[misc]
    """Logs to the folder wandb/ of the sweep; the step is the epoch.

    Tune hears all of a resumed trial's epochs again, so each session's files are complete: offline, the newest replace
    the earlier ones; online, W&B goes on with the run and passes over the steps that it has.
    """

    def __init__(self, folder: SweepFolder) -> None:
        os.environ["WANDB_MODE"] = mode = wandb_mode()
        project = os.environ.get("WANDB_PROJECT", "raycifar")
        where = {"group": folder.path.name, "dir": str(folder.path), "mode": mode, "resume": "allow"}
        super().__init__(project, excludes=["job", "time_total_s"], settings=PRIVATE, **where)
        self._folder = folder

    @ends_no_sweep
    def log_trial_start(self, trial: Any) -> None:
        self.kwargs["id"] = run = run_id(self._folder, str(trial))
        if trial not in self._trial_logging_futures:
            for earlier in (self._folder.path / "wandb").glob(f"offline-run-*-{run}"):
                shutil.rmtree(earlier)
        super().log_trial_start(trial)

    @ends_no_sweep
    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        record = EpochRecord.from_json(result)
        super().log_trial_result(iteration, trial, {**record.to_json(), "training_iteration": record.epoch})

    @ends_no_sweep
    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        if summary := self._folder.trial(str(trial)).summary():
            tested = {"test_loss": summary.test_loss, "test_accuracy": summary.test_accuracy}
            super().log_trial_result(0, trial, {**tested, "training_iteration": summary.epochs_run})
        self._signal_logging_actor_stop(trial)
        ray.wait([self._trial_logging_futures[trial]], timeout=FINISH_SECONDS)
        time.sleep(FLUSH_SECONDS)
        self._cleanup_logging_actors()
