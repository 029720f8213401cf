"""The list of what is written beside trials is that of what really lies there, and no trial may have a name of it."""

import io
import re
import shutil

import pytest
from pydantic import ValidationError
from rich.console import Console

import raycifar.execution.runners
import raycifar.training.trial
from raycifar.commands import analyze
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.storage.written import BESIDE_TRIALS, DELETABLE
from raycifar.tracking.trackers import TRACKERS
from raycifar.training.trial import Assets
from tests.support.networks import Small
from tests.support.paths import SAMPLE
from tests.support.sweeps import sweep_of

# What no test here makes: a search's, a person's, a browser's, Ray's, and a network's that --export --out puts there.
ELSEWHERE = """
    search.json code.zip best.toml samples.csv notes.md report.pdf trials.parquet epochs.parquet
    tuner.pkl experiment_state-2026-11-30_14-27-07.json basic-variant-state-2026-11-30_14-27-07.json
    searcher-state-2026-11-30_14-27-07.pkl search_gen_state-2026-11-30_14-27-07.json
    export README.md model.onnx model.safetensors mlflow.db-journal
""".split()  # noqa: SIM905


@pytest.mark.slow
def test_no_trial_may_have_the_name_of_anything_that_lies_beside_trials(tmp_path, monkeypatch):
    """A real sweep with every tracker, and its analysis, once as usual and once with --out into the sweep's folder."""
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: Assets(SAMPLE, None))
    monkeypatch.setattr(raycifar.training.trial, "network", lambda *_: Small())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    path, options = tmp_path / "tiny", Options(local=True, gpus=0, log=tuple(TRACKERS))
    assert run_sweep(sweep_of(a={}), path, options, Console(file=io.StringIO()))
    assert analyze.main([str(path)]) == 0
    assert analyze.main([str(path), f"--out={path}"]) == 0
    beside = {entry.name for entry in path.iterdir()} - {"a"}
    assert {"mlflow.db", "wandb", "analysis", "trials.csv", "tables", "sweep.lock"} <= beside
    for name in beside:
        with pytest.raises(ValidationError, match=f"no trial may be named '{re.escape(name)}'"):
            sweep_of(**{name: {}})
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", [*ELSEWHERE, "Analysis", "WANDB", "Sweep.json"])
def test_names_of_files_beside_trials_are_refused_in_any_case(name):
    with pytest.raises(ValidationError, match=r"no trial may be named .*: the sweep's folder has a file"):
        sweep_of(**{name: {}})


@pytest.mark.parametrize(
    "name", ["analysis-1", "exported", "model", "wandb-2", "figure", "trials", "checkpoint_000001"]
)
def test_other_names_may_be_a_trials(name):
    assert sweep_of(**{name: {}}).trials[0].name == name


KEPT = "sweep.json summary.json predictions.npz best.safetensors notes.md thesis.tex analysis wandb mlflow.db .bashrc"
DELETED = "error.json checkpoint_000012 .checkpoint_000012.0f.41.partial .history.json.4711 events.out.tfevents.1.host"


@pytest.mark.parametrize(("names", "is_deleted"), [(KEPT, False), (DELETED, True)])
def test_what_may_be_deleted_is_what_is_written_anew_or_was_left_behind(names, is_deleted):
    assert [name for name in names.split() if bool(DELETABLE.fullmatch(name)) != is_deleted] == []


def test_the_names_are_compared_in_lower_case():
    assert BESIDE_TRIALS.pattern == BESIDE_TRIALS.pattern.lower()
