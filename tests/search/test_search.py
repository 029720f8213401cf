"""A search from the command line up to where Ray would start: what it refuses, plans, prints and writes."""

import json
import re
import signal
from dataclasses import replace

import pytest
import torch

import raycifar.execution.runners
import raycifar.search.search
from raycifar.commands import analyze, run_sweep
from raycifar.execution.agreement import Call, SweepError
from raycifar.search.records import SearchFolder, SearchRecord
from raycifar.search.spec import load_search
from tests.support.search_folders import FILE, SETTINGS, write_samples


@pytest.fixture(autouse=True)
def neither_gpus_nor_ray(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(raycifar.execution.runners, "start_ray", lambda *_: pytest.fail("started Ray"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def command(capsys, file, tmp_path):
    """Calls run_sweep.py on the search in this process; returns its exit status, what it printed, and its errors."""

    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments):
        status = run_sweep.main([str(file), f"--storage={tmp_path / 'results'}", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def folder(tmp_path, file):
    """Of a search that was run with other samples."""
    folder, search = SearchFolder(tmp_path / "results" / "tiny"), load_search(file)
    folder.path.mkdir(parents=True)
    spec = search.model_dump(mode="json")
    about = {"source": "tiny.toml", "created_at": 1.7e9, "versions": {}, "commit": None, "hardware": "here"}
    folder.write_record(SearchRecord(name="tiny", spec=spec, asks=search.asks, **about))
    return folder


@pytest.mark.parametrize("option", ["--local", "--only=tiny", "--workers-per-trial=2"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_a_search_does_not_do_is_refused_in_one_line(command, tmp_path, option, dry):
    status, printed, errors = command(option, *dry)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert "leave out --local, --only and --workers-per-trial" in errors
    assert not (tmp_path / "results").exists()


def test_what_would_do_nothing_in_a_search_is_refused_in_one_line(command, tmp_path):
    status, printed, errors = command("--hang-timeout=9")
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert "leave out --hang-timeout" in errors
    assert not (tmp_path / "results").exists()


def test_without_optuna_one_line_says_how_to_install_it(command, tmp_path, monkeypatch):
    monkeypatch.setattr(raycifar.search.search, "find_spec", lambda name: None)
    status, _, errors = command()
    assert (status, errors) == (
        2,
        "run_sweep.py: a search needs optuna: pip install -c constraints.txt -e '.[search]'\n",
    )
    assert not (tmp_path / "results").exists()


def test_a_wrong_search_is_refused_before_anything_starts(command):
    status, printed, errors = command("--set=search.space.optimizer.lr={ uniform = [2, 1] }")
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert re.match(r"run_sweep\.py: .*tiny\.toml --set .*inverted range: write \[1, 2\]", errors)


def test_a_dry_run_shows_the_space_and_the_budget_and_makes_nothing(command, tmp_path):
    status, printed, _ = command("--dry-run", "--set=epochs=9", "--gpus=2")
    assert status == 0
    assert re.search(r"optimizer\.lr +loguniform \[0\.0001, 0\.1\]", printed)
    words = " ".join(printed.split())
    assert "4 samples of at most 9 epochs of 40 images; after epoch 1, 2, 4, 8 about 1 in 2 goes on." in words
    assert "20 held-out images; no test image is read. 4 trials, 2 at once, on 2 GPUs" in words
    assert not (tmp_path / "results").exists()


def test_a_dry_run_tells_a_script_its_plan(command):
    _, printed, _ = command("--dry-run", "--json")
    plan = json.loads(printed.splitlines()[0])
    assert (plan["event"], plan["trials"]) == ("plan", [f"sample-000{number}" for number in (1, 2, 3, 4)])


def test_a_search_whose_samples_have_ended_has_nothing_to_do_and_shows_them_best_first(command, folder, file):
    accuracies = {"sample-0001": [0.2, 0.3], "sample-0002": [0.9], "sample-0003": [0.2, 0.4]}
    write_samples(folder, load_search(file), accuracies)
    status, printed, _ = command("--set=search.samples=3")
    assert status == 0
    assert "Nothing to do: all 3 samples" in " ".join(printed.split())
    assert re.findall(r"sample-000\d +(.+ %) +(\d/2(?: stopped)?) +lr 0\.0123, dropout 0\.25", printed) == [
        ("40.00 %", "2/2"),
        ("30.00 %", "2/2"),
        ("90.00 %", "1/2 stopped"),
    ]


def test_a_search_killed_after_its_last_sample_gets_its_sweep_file_from_the_next_call(command, folder, file):
    write_samples(folder, load_search(file), {"sample-0001": [0.2, 0.3], "sample-0002": [0.1, 0.4]})
    _, printed, _ = command("--set=search.samples=2")
    assert "sample-0002: 40.00 % validation accuracy" in folder.best.read_text()
    assert f"Next: python run_sweep.py {folder.best}" in printed
    assert folder.table.read_text().startswith("sample,outcome,epochs_run,best_epoch,best_val_accuracy,")
    folder.best.write_text("# edited")
    command("--set=search.samples=2")
    assert folder.best.read_text() == "# edited"


def test_a_search_does_not_go_on_from_other_imagenet_weights(folder, file):
    search, call = load_search(file), Call("ray", 0, 1, "tiny.toml", "one.safetensors", "here", {})
    raycifar.search.search.describe(search, folder, call)
    raycifar.search.search.describe(search, folder, replace(call, weights=""))
    assert folder.record().weights == "one.safetensors"
    with pytest.raises(SweepError, match=r"started from the ImageNet weights one\.safetensors, not other"):
        raycifar.search.search.describe(search, folder, replace(call, weights="other.safetensors"))


@pytest.mark.parametrize("setting", ["epochs=3", "search.seed=2", "search.space.batch_size={ int = [10, 30] }"])
def test_another_search_in_the_same_folder_is_refused(command, folder, setting):
    status, printed, errors = command(f"--set={setting}")
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert re.search("another trial or space was searched there: .*--name OTHER.*--fresh", errors)


def test_a_sample_that_names_another_folder_is_refused_and_nothing_there_is_touched(command, folder, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.tex").write_text("mine")
    (folder.path / "sample-0001").mkdir()
    record = {"name": str(tmp_path / "victim"), "settings": SETTINGS}
    (folder.path / "sample-0001" / "sample.json").write_text(json.dumps(record))
    status, printed, errors = command()
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert re.search(r"sample-0001/sample\.json: names the sample '.*, not 'sample-0001'; restore", errors)
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["thesis.tex"]


def test_a_samples_folder_that_is_a_link_is_refused_and_nothing_there_is_touched(command, folder, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.tex").write_text("mine")
    (folder.path / "sample-0001").symlink_to(tmp_path / "victim", target_is_directory=True)
    status, printed, errors = command()
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert "sample-0001: is a link, expected a folder of its own" in errors
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["thesis.tex"]


def test_a_sweep_does_not_take_a_searchs_folder_for_its_own(folder, tmp_path, capsys):
    arguments = ["sweeps/quick.toml", "--local", f"--storage={tmp_path / 'results'}", "--name=tiny"]
    assert run_sweep.main(arguments) == 2
    assert "holds something else (no sweep.json)" in capsys.readouterr().err


def test_analyze_says_what_to_do_with_a_search(folder, capsys):
    assert analyze.main([str(folder.path)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "a search, not a sweep: its samples are not tested; it has not ended" in errors
    folder.best.write_text("")
    analyze.main([str(folder.path)])
    assert f"its samples are not tested; run_sweep.py {folder.path}/best.toml makes" in capsys.readouterr().err
