"""`--log mlflow`: one run a trial, that a resumed trial goes on with."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

from raycifar.storage.records import EpochRecord, TrialSummary
from raycifar.tracking.listener import Start, Tracked, Tracker

RUN_TAG = "raycifar.run"
SQLITE_ENDS = ("", "-journal", "-wal", "-shm")
SCHEMES = ("file", "http", "https", "databricks", "uc", "sqlite", "postgresql", "mysql", "mssql")  # MLflow 3.17


class MLflow(Tracker):
    """Logs to MLFLOW_TRACKING_URI, or to mlflow.db in the results' folder; the step is the epoch.

    The epochs that a resumed trial's run already holds are not logged a second time.
    """

    name = "mlflow"
    packages = ("mlflow", "sqlalchemy", "alembic")

    def __init__(self, tracked: Tracked) -> None:
        super().__init__(tracked)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # with its own 7 a dead server takes four minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._client: Any = None  # connected when the first trial starts
        self._experiment = ""
        self._runs: dict[str, str] = {}  # each trial's run
        self._logged: dict[str, int] = {}  # the last epoch that each run holds

    @classmethod
    def problem(cls) -> str | None:
        try:
            address = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))  # may hold a password: it is not repeated
        except ValueError as error:
            return f"MLFLOW_TRACKING_URI: {error}"
        scheme = address.scheme.partition("+")[0]
        if scheme in ("http", "https") and not address.hostname:
            return f"MLFLOW_TRACKING_URI begins with {scheme}: and names no host"
        if len(scheme) < 2 or scheme in _schemes():  # a folder, on Windows with its drive
            return None
        return f"MLFLOW_TRACKING_URI begins with {scheme}: expected a folder, or one of {', '.join(_schemes())}"

    @classmethod
    def beside(cls) -> tuple[str, ...]:
        return () if os.environ.get("MLFLOW_TRACKING_URI") else tuple(f"mlflow.db{end}" for end in SQLITE_ENDS)

    def start(self, trial: str, start: Start) -> None:
        """Take up the trial's run, or begin one; then log the epochs that it lacks."""
        if self._client is None:
            self._connect()
        mark = self.tracked.run_id(trial)
        earlier = self._client.search_runs([self._experiment], f"tags.`{RUN_TAG}` = '{mark}'")
        run = earlier[0] if earlier else self._begun(trial, mark, start.settings)
        self._runs[trial], self._logged[trial] = run.info.run_id, int(run.data.metrics.get("epoch", 0))
        self._client.update_run(run.info.run_id, status="RUNNING")
        for record in start.epochs:
            self.epoch(trial, record)

    def _connect(self) -> None:
        from mlflow.tracking import MlflowClient

        for chatty in ("mlflow", "alembic"):  # they tell of every table that they make
            logging.getLogger(chatty).setLevel(logging.WARNING)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.tracked.folder / 'mlflow.db'}"
        self._client = MlflowClient(uri, uri)
        known = self._client.get_experiment_by_name(self.tracked.folder.name)
        self._experiment = known.experiment_id if known else self._client.create_experiment(self.tracked.folder.name)

    def _begun(self, trial: str, mark: str, settings: Mapping[str, Any]) -> Any:
        from mlflow.entities import Param

        run = self._client.create_run(self._experiment, run_name=trial, tags={RUN_TAG: mark})
        self._client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in _flat(settings)])
        return run

    def epoch(self, trial: str, record: EpochRecord) -> None:
        if record.epoch > self._logged[trial]:
            self._logged[trial] = record.epoch
            self._log(trial, record.epoch, record.to_json())

    def summary(self, trial: str, summary: TrialSummary) -> None:
        tested = {"test_loss": summary.test_loss, "test_accuracy": summary.test_accuracy}
        self._log(trial, summary.best_epoch, tested)

    def state(self, trial: str, state: str, note: str = "") -> None:
        if state in ("done", "failed") and (run := self._runs.pop(trial, None)):
            self._client.set_terminated(run, "FINISHED" if state == "done" else "FAILED")

    def close(self) -> None:
        """What is interrupted goes on in another call, in the same run."""
        for run in self._runs.values():
            self._client.set_terminated(run, "KILLED")

    def _log(self, trial: str, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in figures.items()]
        self._client.log_batch(self._runs[trial], metrics=metrics)


def _schemes() -> list[str]:
    """How an address may begin: MLflow's own, and those of its plugins."""
    plugins = [entry.name for entry in entry_points(group="mlflow.tracking_store")]
    return [*SCHEMES, *(name for name in plugins if name not in SCHEMES)]


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """("optimizer/lr", 0.01) and so on."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value
