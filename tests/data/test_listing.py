"""What `--list-data` says: which data sets are here, and what is wrong with a cache that it cannot look into."""

import pytest

from raycifar.commands import run_sweep
from raycifar.config.data import Data
from raycifar.data.listing import listed_data
from raycifar.data.sources import fetch_data
from tests.support.published_folders import eurosat

EUROSAT = Data(name="torchvision/EuroSAT")


def where(name):
    (row,) = listed_data(name)
    return row[-1]


def test_a_data_set_is_here_as_long_as_its_prepared_file_is(tmp_path, cache):
    assert where(EUROSAT.name) == "download"
    folder = cache / "torchvision/EuroSAT"
    folder.mkdir(parents=True)
    eurosat(folder)
    assert where(EUROSAT.name) == "here"
    prepared = fetch_data(EUROSAT)
    folder.rename(tmp_path / "elsewhere")
    assert where(EUROSAT.name) == "here"
    assert fetch_data(EUROSAT) == prepared
    prepared.unlink()
    assert where(EUROSAT.name) == "download"


LONG = "/tmp/" + 300 * "a"
UNUSABLE = {
    "a name too long": ("RAYCIFAR_CACHE", LONG, "expected a folder (File name too long)"),
    "a file": ("RAYCIFAR_CACHE", __file__, "is a file: name a folder"),
    "the home of nobody": ("RAYCIFAR_CACHE", "~nobody-at-all/x", "expected a folder (Could not determine"),
    "the platform's, too long": ("XDG_CACHE_HOME", LONG, "cannot be read (File name too long): name another folder in"),
}


@pytest.mark.parametrize(("variable", "value", "said"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_cache_that_cannot_be_looked_into_is_refused_in_one_line(monkeypatch, capsys, variable, value, said):
    monkeypatch.delenv("RAYCIFAR_CACHE", raising=False)
    monkeypatch.setenv(variable, value)
    assert run_sweep.main(["--list-data"]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert said in error
    assert "RAYCIFAR_CACHE" in error


def test_networks_are_listed_whatever_the_cache_is(monkeypatch, capsys):
    monkeypatch.setenv("RAYCIFAR_CACHE", LONG)
    assert run_sweep.main(["--list-models", "vgg16"]) == 0
    assert capsys.readouterr().out.startswith("vgg16 ")
