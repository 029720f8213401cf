"""A search on Ray: Optuna draws the samples, ASHA stops those that fall behind, Tune runs them. Imports Ray.

The samples' folders say what is done, not the files of Ray and Optuna: a search goes on under a new Tuner, whose Optuna
and ASHA first hear of the samples that have ended. A sample is a plain function trial of one worker.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import optuna
import ray
import ray.tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from raycifar.config.names import SpecError
from raycifar.devices import full_memory
from raycifar.execution.placement import PlacementError
from raycifar.execution.ray_progress import never_ends_a_sweep
from raycifar.execution.ray_sweep import run_config, run_to_the_end, tune_config
from raycifar.execution.ray_worker import here
from raycifar.execution.session import Job, Session
from raycifar.search.records import (
    DIVERGED,
    FINISHED,
    STOPPED,
    TOO_LARGE,
    SampleRecord,
    SearchFolder,
    described,
    ended,
    sample_name,
)
from raycifar.search.sample import sample_epochs
from raycifar.search.spec import Range, SearchSpec
from raycifar.storage.beneath import delete, names_in
from raycifar.storage.folders import TrialFolder
from raycifar.storage.foreign import clear_for_ray
from raycifar.storage.records import EpochRecord
from raycifar.storage.written import OF_A_SAMPLE
from raycifar.tracking.listener import Bus, Start
from raycifar.training.failures import trial_error
from raycifar.training.loop import NonFiniteLossError

OBJECTIVE = "best_val_accuracy"  # so far: it chooses a trial's epoch too


def search_on_ray(search: SearchSpec, folder: SearchFolder, session: Session, bus: Bus) -> None:
    """Run the samples that have not ended. Returns when each has ended or failed for good; their folders say which.

    Raises KeyboardInterrupt after Ctrl-C; Ray must be running.
    """
    clear_for_ray(folder.sweep.files, [])  # samples that have not ended start over, without Ray's files
    plan, job = session.plan, session.job(folder.path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train = ray.tune.with_parameters(train_sample, search=search.model_dump(mode="json"), job=asdict(job))
    draws, stops = Draws(search, folder), asha(search, folder)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(train, job.resources),
        tune_config=tune_config(plan, _name, num_samples=len(plan.order), search_alg=draws, scheduler=stops),
        run_config=run_config(folder.sweep, [TellBusOfSamples(search, folder, bus)]),
    )
    run_to_the_end(tuner, folder.sweep)


def check_dashboard(session: Session) -> None:
    """Raises PlacementError for a Ray without its dashboard: a sample that is stopped may not give its GPUs back."""
    if session.runner.notice:
        raise PlacementError(f"{session.runner.notice.rpartition('; ')[0]}; a search cannot run without it")


def _name(trial: Any) -> str:
    return str(trial.config["sample"])


def distributions(space: Mapping[str, Range]) -> dict[str, optuna.distributions.BaseDistribution]:
    """The space as Optuna takes it."""
    return {key: _distribution(allowed) for key, allowed in space.items()}


def _distribution(allowed: Range) -> optuna.distributions.BaseDistribution:
    if allowed.kind == "choice":
        return optuna.distributions.CategoricalDistribution(allowed.values)
    low, high = allowed.values
    if allowed.kind == "int":
        return optuna.distributions.IntDistribution(int(low), int(high))
    return optuna.distributions.FloatDistribution(float(low), float(high), log=allowed.kind == "loguniform")


class Draws(OptunaSearch):  # type: ignore[misc]
    """Optuna's draws, each written down before it runs. Those of earlier calls that have not ended come first."""

    def __init__(self, search: SearchSpec, folder: SearchFolder) -> None:
        before = folder.samples()
        self._folder, self._drawn = folder, len(before)
        self._begun = [sample for sample in before if not sample.outcome]
        super().__init__(
            space=distributions(search.space),
            metric=OBJECTIVE,
            mode="max",
            points_to_evaluate=[sample.settings for sample in self._begun],
            seed=search.seed + len(before),  # or the first draws would come again
        )
        for sample in ended(before):
            self.add_evaluated_point(sample.settings, sample.best_val_accuracy)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        settings = super().suggest(trial_id)
        if self._begun:
            sample = self._begun.pop(0)
        else:
            self._drawn += 1
            sample = SampleRecord(name=sample_name(self._drawn), settings=settings)
            self._folder.write_sample(sample)
        _forget_earlier_run(self._folder.trial(sample.name))
        return {"sample": sample.name, "settings": sample.settings}


def _forget_earlier_run(trial: TrialFolder) -> None:
    """A sample that has not ended starts over, without the files that the product and Tune wrote for it."""
    for name in names_in(trial.files):
        if OF_A_SAMPLE.fullmatch(name):
            delete(trial.files / name)


def asha(search: SearchSpec, folder: SearchFolder) -> ASHAScheduler:
    """ASHA, that has heard of the samples of earlier calls."""
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=OBJECTIVE,
        mode="max",
        max_t=search.trial.epochs,
        grace_period=search.grace_epochs,
        reduction_factor=search.reduction,
    )
    for sample in ended(folder.samples()):
        trial, best = SimpleNamespace(trial_id=sample.name), 0.0
        scheduler.on_trial_add(None, trial)
        for record in folder.trial(sample.name).history().epochs:
            best = max(best, record.val_accuracy)
            scheduler.on_trial_result(None, trial, {"epoch": record.epoch, OBJECTIVE: best})
    return scheduler


def train_sample(config: dict[str, Any], search: dict[str, Any], job: dict[str, Any]) -> None:
    """A Tune trial: trains one sample. What its settings are to blame for ends it with objective 0, without a retry."""
    todo = Job(**job)
    trial = SearchFolder(Path(todo.folder)).trial(config["sample"])
    trial.clear_error()
    epoch, best = 0, 0.0
    try:
        todo.allow_code()
        spec = SearchSpec.model_validate(search).sample(config["settings"], config["sample"])
        for record in sample_epochs(spec, trial.path, todo.assets, here(todo)):
            epoch, best = record.epoch, max(best, record.val_accuracy)
            ray.tune.report(record.to_json() | {OBJECTIVE: best})
    except Exception as error:
        trial.write_error(trial_error(error))
        if not (isinstance(error, NonFiniteLossError) or full_memory(error)):
            raise
        ray.tune.report({"epoch": epoch + 1, OBJECTIVE: 0.0})


class TellBusOfSamples(ray.tune.Callback):  # type: ignore[misc]
    """Writes down how samples end, and tells the bus what Tune hears."""

    def __init__(self, search: SearchSpec, folder: SearchFolder, bus: Bus) -> None:
        self._search, self._folder, self._bus = search, folder, bus
        self._complaints: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks, but a terminal cannot be saved, and no Tuner is ever restored from there."""
        return {}

    @never_ends_a_sweep
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bus.start(_name(trial), Start(self._settings(trial), ()))
        self._bus.state(_name(trial), "starting", described(trial.config["settings"]))

    def _settings(self, trial: Any) -> dict[str, Any]:
        """Of the whole trial that the sample is; of a draw that makes none, what was drawn."""
        drawn: dict[str, Any] = trial.config["settings"]
        try:
            return self._search.sample(drawn, _name(trial)).model_dump(mode="json")
        except SpecError:
            return drawn

    @never_ends_a_sweep
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._bus.refresh()

    @never_ends_a_sweep
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "val_accuracy" in result:
            self._bus.epoch(_name(trial), EpochRecord.from_json(result))

    @never_ends_a_sweep
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        sample = outcome(self._search, self._folder, _name(trial), trial.config["settings"])
        self._folder.write_sample(sample)
        accuracy = f"val {100 * sample.best_val_accuracy:.1f} %"
        notes = {
            FINISHED: accuracy,
            STOPPED: f"{accuracy}, stopped after epoch {sample.epochs_run}",
            DIVERGED: f"diverged in epoch {sample.epochs_run + 1}",
            TOO_LARGE: "too large for its share of the GPU's memory",
        }
        self._bus.state(_name(trial), "done", notes[sample.outcome or DIVERGED])

    @never_ends_a_sweep
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = self._folder.trial(_name(trial)).error()
        self._bus.state(_name(trial), "failed", error.message if error else "its process was killed")


def outcome(search: SearchSpec, folder: SearchFolder, name: str, settings: dict[str, Any]) -> SampleRecord:
    """How a sample that Tune has ended without an error ended, by the files that it left."""
    trial = folder.trial(name)
    epochs = trial.history().epochs
    sample = SampleRecord(name=name, settings=settings, epochs_run=len(epochs))
    if error := trial.error():
        return replace(sample, outcome=DIVERGED if error.kind == NonFiniteLossError.__name__ else TOO_LARGE)
    best = max(epochs, key=lambda record: record.val_accuracy)  # ties keep the earlier epoch
    return replace(
        sample,
        outcome=FINISHED if len(epochs) == search.trial.epochs else STOPPED,
        best_epoch=best.epoch,
        best_val_accuracy=best.val_accuracy,
    )
