"""A search on a real Ray: drawn, stopped, resumed. The draws and ASHA's memory need no running Ray."""

import io
import json
from dataclasses import asdict

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

import raycifar.execution.runners
from raycifar.config.names import SpecError
from raycifar.config.sweep_file import load_sweep
from raycifar.execution.options import Options
from raycifar.execution.session import Job
from raycifar.search.records import DIVERGED, FINISHED, STOPPED, TOO_LARGE, SampleRecord, SearchFolder, SearchRecord
from raycifar.search.search import run_search
from raycifar.search.spec import load_search
from raycifar.tracking.json_lines import JsonLines
from raycifar.training.loop import NonFiniteLossError
from raycifar.training.trial import Assets
from tests.support.errors import FULL_MEMORY
from tests.support.paths import SAMPLE
from tests.support.search_folders import FILE, SETTINGS, write_samples

pytestmark = pytest.mark.ray
ABOUT = {"spec": {}, "source": "tiny.toml", "created_at": 1.7e9, "versions": {}, "commit": None, "hardware": "here"}


@pytest.fixture
def search(tmp_path):
    (tmp_path / "tiny.toml").write_text(FILE)
    return load_search(tmp_path / "tiny.toml")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny").mkdir()
    return SearchFolder(tmp_path / "tiny")


def test_a_draw_is_written_down_before_it_runs(search, folder):
    from raycifar.search.ray_search import Draws

    drawn = Draws(search, folder).suggest("a")
    assert folder.samples() == [SampleRecord(name="sample-0001", settings=drawn["settings"])]
    assert drawn["sample"] == "sample-0001"


def test_what_had_not_ended_comes_first_then_something_new(search, folder):
    from raycifar.search.ray_search import Draws

    first, second = (draws.suggest(name) for draws in [Draws(search, folder)] for name in "ab")
    write_samples(folder, search, {"sample-0001": [0.2, 0.3]})
    draws = Draws(search, folder)
    again, new = draws.suggest("c"), draws.suggest("d")
    assert again == second
    assert new["sample"] == "sample-0003"
    assert new["settings"] not in (first["settings"], second["settings"])
    assert 0.3 in [trial.value for trial in draws._ot_study.trials], "Optuna has not heard of the sample that ended"


def test_starting_over_deletes_what_the_product_wrote_and_nothing_else(search, folder):
    from raycifar.search.ray_search import Draws

    first = Draws(search, folder).suggest("a")
    for name in ("history.json", "result.json", "events.out.tfevents.1", "notes.txt"):
        (folder.path / "sample-0001" / name).write_text("")
    assert Draws(search, folder).suggest("b") == first
    assert sorted(path.name for path in (folder.path / "sample-0001").iterdir()) == ["notes.txt", "sample.json"]


def test_asha_remembers_the_samples_of_earlier_calls(search, folder):
    from raycifar.search.ray_search import asha

    search = search.model_copy(update={"trial": search.trial.model_copy(update={"epochs": 4})})
    assert "Iter 1.000: None" in asha(search, folder).debug_string()
    write_samples(folder, search, {"sample-0001": [0.5, 0.4], "sample-0002": [0.3]})
    scheduler = asha(search, folder)
    assert "Iter 1.000: 0.4" in scheduler.debug_string()
    assert "Iter 2.000: 0.5" in scheduler.debug_string(), "the objective is the best accuracy so far"


@pytest.mark.parametrize(
    ("accuracies", "outcome", "best"),
    [([0.1, 0.4], FINISHED, (2, 0.4)), ([0.3, 0.3], FINISHED, (1, 0.3)), ([0.2], STOPPED, (1, 0.2))],
)
def test_how_a_sample_ended_is_read_from_its_files(search, folder, accuracies, outcome, best):
    from raycifar.search.ray_search import outcome as read

    write_samples(folder, search, {"sample-0001": accuracies})
    sample = read(search, folder, "sample-0001", SETTINGS)
    assert (sample.outcome, (sample.best_epoch, sample.best_val_accuracy)) == (outcome, best)
    assert sample.epochs_run == len(accuracies)


@pytest.mark.parametrize(
    ("error", "ended"),
    [(NonFiniteLossError("the training loss is nan"), DIVERGED), *((error, TOO_LARGE) for error in FULL_MEMORY)],
)
def test_a_sample_whose_settings_are_to_blame_ends_last_and_is_not_tried_again(
    search, folder, monkeypatch, error, ended
):
    from raycifar.search import ray_search

    def fails(*_):
        raise error

    told = []
    monkeypatch.setattr(ray_search, "sample_epochs", fails)
    monkeypatch.setattr(ray_search.ray.tune, "report", told.append)
    folder.write_sample(SampleRecord(name="sample-0001", settings=SETTINGS))
    ray_search.train_sample({"sample": "sample-0001", "settings": SETTINGS}, *sent(search, folder))
    assert told == [{"epoch": 1, ray_search.OBJECTIVE: 0.0}]
    assert ray_search.outcome(search, folder, "sample-0001", SETTINGS).outcome == ended


def test_a_sample_that_cannot_be_drawn_leaves_its_error(search, folder):
    from raycifar.search import ray_search

    folder.write_sample(SampleRecord(name="sample-0001", settings={"batch_size": 0}))
    with pytest.raises(SpecError):
        ray_search.train_sample({"sample": "sample-0001", "settings": {"batch_size": 0}}, *sent(search, folder))
    assert "batch_size = 0" in folder.trial("sample-0001").error().message


def sent(search, folder):
    """What Ray hands to a sample's process: the search and the job, as JSON."""
    job = Job(str(folder.path), str(SAMPLE), None, {}, 1, 0.0, 1.0, 1, hang_seconds=1800.0)
    return search.model_dump(mode="json"), asdict(job)


def test_a_search_goes_on_after_an_interruption_and_ends_in_a_sweep_file(search, folder, tmp_path, monkeypatch):
    """An earlier call left one sample that has ended and one that has not; the data set holds no test image."""
    tensors = {name: tensor for name, tensor in load_file(SAMPLE).items() if name.startswith("train_")}
    save_file(tensors, tmp_path / "training-only.safetensors")
    assets = Assets(tmp_path / "training-only.safetensors", None)
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda trials, options: assets)
    folder.write_record(SearchRecord(name="tiny", asks=search.asks, **ABOUT))
    write_samples(folder, search, {"sample-0001": [0.1, 0.01]})
    folder.write_sample(SampleRecord(name="sample-0002", settings=SETTINGS | {"batch_size": 11}))
    before, output = (folder.path / "sample-0001/history.json").read_bytes(), io.StringIO()

    events = io.StringIO()
    options = Options(gpus=0, events=JsonLines(events))
    assert run_search(search, folder.path, options, Console(file=output, width=200))
    samples = folder.samples()
    assert [sample.name for sample in samples] == ["sample-0001", "sample-0002", "sample-0003", "sample-0004"]
    assert (folder.path / "sample-0001/history.json").read_bytes() == before
    assert samples[1].settings["batch_size"] == 11
    for sample in samples:
        assert sample.outcome == (FINISHED if sample.epochs_run == 2 else STOPPED)
        assert len(folder.trial(sample.name).history().epochs) == sample.epochs_run
    best = max(sample.best_val_accuracy for sample in samples if sample.outcome == FINISHED)
    assert f"{100 * best:.2f} % validation accuracy" in folder.best.read_text()
    assert load_sweep(folder.best).trials[0].epochs == 2
    assert [call.exit_status for call in folder.sweep.invocations()] == [0]
    assert "sample-0001  done  val 10.0 %" in output.getvalue()
    plan, *told = map(json.loads, events.getvalue().splitlines())
    assert (plan["event"], plan["trials"]) == ("plan", ["sample-0002", "sample-0003", "sample-0004"])
    assert {event["trial"] for event in told} == set(plan["trials"])
    assert sum(event["event"] == "epoch" for event in told) == sum(sample.epochs_run for sample in samples[1:])
