"""A data set of torchvision from the command line: planned without fetching, fetched, trained, recorded, refused."""

import json

import pytest
from torchvision import datasets

import raycifar.execution.runners
from raycifar.commands import run_sweep
from raycifar.config.datasets import BUILT_IN
from raycifar.config.published import PUBLISHED
from tests.support.published import CLASSES, cifar100

FILE = """
[defaults]
epochs = 1
batch_size = 40
model = { weights = "random", train = "head" }
data = { name = "torchvision/CIFAR100" }
[[trials]]
name = "a"
"""


@pytest.fixture
def command(capsys, tmp_path, cache, no_leaving, monkeypatch):
    """Calls run_sweep.py; returns its exit status, what it printed, and its errors."""
    monkeypatch.setattr(raycifar.execution.runners, "start_ray", lambda *_: pytest.fail("started Ray"))
    (tmp_path / "s.toml").write_text(FILE)

    def call(*arguments):
        status = run_sweep.main([str(tmp_path / "s.toml"), f"--storage={tmp_path / 'results'}", "--local", *arguments])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def host(tmp_path, serve, monkeypatch):
    """A server that has CIFAR-100 in torchvision's format."""
    folder = tmp_path / "server"
    folder.mkdir()
    for key, value in cifar100(folder, serve(folder)).items():
        monkeypatch.setattr(datasets.CIFAR100, key, value)


def test_a_dry_run_fetches_nothing_and_says_so(command, cache):
    status, out, _ = command("--dry-run")
    assert status == 0
    line = "CIFAR-100: not fetched yet; as published 100 classes, 50,000 training and 10,000 test images"
    assert line in out
    assert not cache.exists()


def test_no_host_is_refused_in_one_line_with_the_remedy_and_nothing_starts(command, host, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.CIFAR100, "url", "http://127.0.0.1:9/cifar-100-python.tar.gz")
    status, out, errors = command()
    assert (status, out) == (2, "")
    said = [line for line in errors.splitlines() if 'data.name = "torchvision/CIFAR100"' in line]
    assert len(said) == 1
    assert said[0].endswith("pass the folder as --data DIR")
    assert "Traceback" not in errors
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_it_trains_and_is_on_record_and_goes_on_from_the_cache(command, host, tmp_path, cache, monkeypatch):
    status, _, errors = command()
    assert status == 0, errors
    record = json.loads((tmp_path / "results/s/sweep.json").read_text())
    assert (record["facts"]["name"], record["facts"]["title"]) == ("torchvision/CIFAR100", "CIFAR-100")
    assert tuple(record["facts"]["classes"]) == CLASSES
    monkeypatch.setattr(datasets.CIFAR100, "url", "http://127.0.0.1:9/cifar-100-python.tar.gz")
    status, out, _ = command("--dry-run")
    assert (status, f"digest {record['data'][:16]}" in out) == (0, True)
    assert command(f"--data={cache / 'torchvision/CIFAR100'}")[0] == 0
    assert command(f"--data={tmp_path}")[0] == 2


def test_data_sets_are_listed_a_line_each_with_what_is_here(command, cache, capsys):
    (cache / "torchvision/EuroSAT").mkdir(parents=True)
    assert run_sweep.main(["--list-data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(BUILT_IN) + len(PUBLISHED)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert rows["cifar10"] == "50,000 + 10,000 10 classes 32 px download or package"
    assert rows["torchvision/EuroSAT"] == "27,000, no test split 10 classes 64 px here"
    assert run_sweep.main(["--list-data", "no-such"]) == 2
    assert "no data set has that in its name" in capsys.readouterr().err
