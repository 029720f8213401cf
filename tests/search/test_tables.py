"""A search's tables, and the sweep file of its best sample."""

import io

import pandas as pd
import pytest
from rich.console import Console

from raycifar.config.sweep_file import load_sweep
from raycifar.search.records import DIVERGED, FINISHED, SampleRecord, SearchFolder
from raycifar.search.spec import load_search
from raycifar.search.tables import best_sample, budget, samples_table, write_best, write_table
from raycifar.storage.records import TrialError
from tests.support.paths import SWEEPS
from tests.support.search_folders import FILE, SETTINGS, write_samples


@pytest.fixture
def search(tmp_path):
    (tmp_path / "tiny.toml").write_text(FILE)
    return load_search(tmp_path / "tiny.toml")


@pytest.fixture
def folder(tmp_path):
    return SearchFolder(tmp_path)


def table(search, folder):
    console = Console(file=io.StringIO(), width=80)
    console.print(samples_table(search, folder))
    return console.file.getvalue()


def test_the_best_is_a_sweep_file_of_the_trial_with_its_settings(search, folder):
    write_samples(folder, search, {"sample-0001": [0.1, 0.2], "sample-0002": [0.3, 0.2]})
    write_best(search, folder, best_sample(folder), "tiny.toml")
    sweep = load_sweep(folder.best)
    assert (sweep.name, sweep.trials) == ("tiny-best", (search.sample(SETTINGS, "tiny"),))
    assert "tiny.toml, sample-0002: 30.00 % validation accuracy, epoch 1 of 2" in folder.best.read_text()


def test_what_the_best_settings_leave_without_effect_is_not_in_its_sweep_file(folder, tmp_path):
    """A sweep file that has it would be refused."""
    space = '[search.space]\nschedule.name = { choice = ["constant", "linear"] }\n'
    (tmp_path / "tiny.toml").write_text(
        FILE.replace("[search.space]\n", space).replace("[search]\n", "schedule = { final_ratio = 0.05 }\n[search]\n")
    )
    search = load_search(tmp_path / "tiny.toml")
    for name, ratio in (("linear", 0.05), ("constant", 0.0)):
        best = SampleRecord(name="sample-0001", settings=SETTINGS | {"schedule.name": name}, outcome=FINISHED)
        write_best(search, folder, best, "tiny.toml")
        (trial,) = load_sweep(folder.best).trials
        assert (trial.schedule.name, trial.schedule.final_ratio) == (name, ratio)


def test_a_stopped_sample_is_never_the_best(search, folder):
    write_samples(folder, search, {"sample-0001": [0.9]})
    assert best_sample(folder) is None
    write_samples(folder, search, {"sample-0002": [0.1, 0.2]})
    assert best_sample(folder).name == "sample-0002"


def test_every_end_of_a_sample_shows(search, folder):
    write_samples(folder, search, {"sample-0001": [0.1, 0.2], "sample-0002": [0.1]})
    folder.write_sample(SampleRecord(name="sample-0003", settings=SETTINGS, outcome=DIVERGED, epochs_run=1))
    folder.write_sample(SampleRecord(name="sample-0004", settings=SETTINGS))
    folder.trial("sample-0004").write_error(TrialError(kind="OSError", message="disk", traceback="", at=0.0))
    folder.write_sample(SampleRecord(name="sample-0005", settings=SETTINGS))
    printed = table(search, folder)
    for line in ("20.00 %            2/2", "10.00 %    1/2 stopped", "–   1/2 diverged", "failed", "not finished"):
        assert line in printed


def test_many_samples_show_only_the_best_and_say_so(search, folder, monkeypatch):
    monkeypatch.setattr("raycifar.search.tables.SHOWN", 1)
    write_samples(folder, search, {"sample-0001": [0.1, 0.2], "sample-0002": [0.1, 0.3]})
    printed = table(search, folder)
    assert "sample-0002" in printed
    assert "sample-0001" not in printed
    assert "2 of 4 samples, the best 1 of them shown, all in samples.csv" in printed


def test_all_samples_are_a_table_with_a_column_a_setting(search, folder):
    write_samples(folder, search, {"sample-0001": [0.5], "sample-0002": [0.1, 0.2]})
    folder.write_sample(SampleRecord(name="sample-0003", settings=SETTINGS | {"optimizer.lr": 0.02}))
    write_table(folder)
    table = pd.read_csv(folder.table)
    ends = ["outcome", "epochs_run", "best_epoch", "best_val_accuracy"]
    assert list(table.columns) == ["sample", *ends, *SETTINGS]
    assert list(table["sample"]) == ["sample-0002", "sample-0001", "sample-0003"]
    assert list(table["outcome"].fillna("")) == ["finished", "stopped", ""]
    assert list(table["best_val_accuracy"]) == [0.2, 0.5, 0.0]
    assert list(table["optimizer.lr"])[1:] == [SETTINGS["optimizer.lr"], 0.02]


def test_a_search_that_stops_nothing_has_no_rungs():
    assert "goes on" not in budget(load_search(SWEEPS / "search.toml", ["search.grace_epochs=5"]))
