"""`--log mlflow`: Ray's MLflow callback, with one run a trial that a resumed trial goes on with."""

import logging
import os
from typing import Any

from mlflow.tracking import MlflowClient
from ray.air.integrations.mlflow import MLflowLoggerCallback

from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import EpochRecord
from raycifar.tracking.trackers import ends_no_sweep, run_id

RUN_TAG = "raycifar.run"


class MLflow(MLflowLoggerCallback):  # type: ignore[misc]
    """Logs to MLFLOW_TRACKING_URI, or to mlflow.db in the sweep's folder; the step is the epoch.

    Tune hears all of a resumed trial's epochs again: those that the run holds are not logged a second time.
    """

    def __init__(self, folder: SweepFolder) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # with its own 7 a dead server takes four minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
        logging.getLogger("alembic").setLevel(logging.WARNING)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.path / 'mlflow.db'}"
        super().__init__(tracking_uri=uri, registry_uri=uri, experiment_name=folder.path.name)
        self._folder, self._logged = folder, dict[Any, int]()

    @ends_no_sweep
    def setup(self, *args: Any, **kwargs: Any) -> None:
        super().setup(*args, **kwargs)

    @ends_no_sweep
    def log_trial_start(self, trial: Any) -> None:
        client, mark = MlflowClient(self.tracking_uri), run_id(self._folder, str(trial))
        earlier = client.search_runs([self.mlflow_util.experiment_id], f"tags.`{RUN_TAG}` = '{mark}'")
        run = earlier[0] if earlier else self.mlflow_util.start_run(str(trial), {RUN_TAG: mark})
        self._trial_runs[trial] = run.info.run_id
        self._logged[trial] = int(run.data.metrics.get("epoch", 0))
        if earlier:
            client.update_run(run.info.run_id, status="RUNNING")
        else:
            self.mlflow_util.log_params(trial.config["trial"], run.info.run_id)

    @ends_no_sweep
    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        record = EpochRecord.from_json(result)
        if record.epoch > self._logged[trial]:
            self._logged[trial] = record.epoch
            self.mlflow_util.log_metrics(record.epoch, record.to_json(), self._trial_runs[trial])

    @ends_no_sweep
    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """A trial's own error does not reach Tune: what decides is whether it left a summary."""
        summary = self._folder.trial(str(trial)).summary()
        if summary:
            tested = {"test_loss": summary.test_loss, "test_accuracy": summary.test_accuracy}
            self.mlflow_util.log_metrics(summary.best_epoch, tested, self._trial_runs[trial])
        self.mlflow_util.end_run("FINISHED" if summary else "FAILED", self._trial_runs[trial])
