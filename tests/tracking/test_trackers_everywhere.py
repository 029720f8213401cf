"""MLflow and W&B without Ray, and in a search: one run a trial, also after an interruption. Their stores are real.

tests/tracking/test_ecosystem.py has the same of a sweep on Ray.
"""

import io
import re
import shutil

import pytest
from rich.console import Console

import raycifar.execution.runners
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.search.search import run_search
from raycifar.search.spec import load_search
from raycifar.storage.folders import SweepFolder
from raycifar.tracking.listener import Bus
from raycifar.training.trial import Assets
from tests.support.offline_runs import offline_history
from tests.support.paths import SAMPLE
from tests.support.search_folders import FILE
from tests.support.sweeps import sweep_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def on_the_sample():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raycifar.execution.runners, "fetch_assets", lambda trials, options: Assets(SAMPLE, None))
        patch.delenv("WANDB_MODE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


def mlflow_runs(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(folder.name)
    runs = client.search_runs([experiment.experiment_id])
    return client, {run.info.run_name: run for run in runs}


def steps(client, run):
    return [point.step for point in client.get_metric_history(run.info.run_id, "val_accuracy")]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A sweep without Ray: `good` was interrupted after its first epoch and resumed, `bad` fails."""
    folder = SweepFolder(tmp_path_factory.mktemp("storage") / "tiny")
    head = {"weights": "random", "train": "head"}
    sweep = sweep_of(good={"model": head}, bad={"optimizer": {"lr": 1e6}, "epochs": 1})
    console, options = Console(file=io.StringIO(), width=200), Options(local=True, gpus=0, log=("mlflow", "wandb"))
    real = Bus.epoch

    def interrupted(bus, trial, record):
        real(bus, trial, record)
        if trial == "good":
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bus, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(sweep, folder.path, options, console)
    run_sweep(sweep, folder.path, options, console)
    assert "stopped logging" not in console.file.getvalue()
    yield folder
    shutil.rmtree(folder.path)


def test_without_ray_mlflow_holds_one_run_a_trial_with_every_epoch_once(resumed):
    client, runs = mlflow_runs(resumed.path)
    assert {name: run.info.status for name, run in runs.items()} == {"good": "FINISHED", "bad": "FAILED"}
    assert steps(client, runs["good"]) == [1, 2]
    assert runs["good"].data.metrics["test_accuracy"] == resumed.trial("good").summary().test_accuracy
    assert runs["good"].data.params["optimizer/lr"] == "0.01"


def test_without_ray_wandb_holds_one_run_a_trial_from_its_first_epoch_to_its_test(resumed):
    runs = sorted((resumed.path / "wandb").glob("offline-run-*"))
    assert sorted(re.sub(r"-\d+$", "", run.name.split("-", 3)[3]) for run in runs) == ["tiny-bad", "tiny-good"]
    rows = offline_history(next(run for run in runs if "tiny-good" in run.name))
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1]["test_accuracy"] == resumed.trial("good").summary().test_accuracy


@pytest.mark.ray
def test_a_search_logs_one_run_a_sample_with_the_settings_drawn_for_it(tmp_path):
    (tmp_path / "tiny.toml").write_text(FILE.replace("samples = 4", "samples = 2"))
    search, console = load_search(tmp_path / "tiny.toml"), Console(file=io.StringIO(), width=200)
    assert run_search(search, tmp_path / "found", Options(gpus=0, log=("mlflow", "wandb")), console)
    assert "stopped logging" not in console.file.getvalue()
    client, runs = mlflow_runs(tmp_path / "found")
    assert {name: run.info.status for name, run in runs.items()} == dict.fromkeys(
        ("sample-0001", "sample-0002"), "FINISHED"
    )
    for name, run in runs.items():
        sample = next(each for each in search_samples(tmp_path / "found") if each.name == name)
        assert float(run.data.params["optimizer/lr"]) == sample.settings["optimizer.lr"]
        assert steps(client, run) == list(range(1, sample.epochs_run + 1))
        assert "test_accuracy" not in run.data.metrics
    assert len(list((tmp_path / "found" / "wandb").glob("offline-run-*"))) == 2


def search_samples(path):
    from raycifar.search.records import SearchFolder

    return SearchFolder(path).samples()
