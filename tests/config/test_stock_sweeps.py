"""Stock sweeps: found by name, behind what is there by that name; in a checkout and in an installed package."""

import re
from pathlib import Path

import pytest

from raycifar.config import stock_sweeps
from raycifar.config.names import SpecError
from raycifar.config.stock_sweeps import default_sweep, examples_folder, stock_folder, sweep_file
from raycifar.config.sweep_file import load_sweep
from tests.support.paths import ROOT, SWEEPS


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def installed(elsewhere, monkeypatch):
    """An installed package as far as this module can tell."""
    (elsewhere / "raycifar/config").mkdir(parents=True)
    (elsewhere / "raycifar/sweeps").mkdir()
    (elsewhere / "raycifar/sweeps/vgg.toml").touch()
    monkeypatch.setattr(stock_sweeps, "__file__", str(elsewhere / "raycifar/config/stock_sweeps.py"))
    return elsewhere / "raycifar/sweeps"


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_stock_sweep_is_found_by_its_name_from_anywhere(elsewhere, path):
    assert sweep_file(path.stem) == path


@pytest.mark.parametrize("text", ["quick.toml", "./quick", "sweeps/quick", "~/quick", "/quick", "v1.5", "a\0b.toml"])
def test_what_is_no_bare_name_stays_a_path(elsewhere, text):
    assert sweep_file(text) == Path(text)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_there_by_that_name_goes_first(elsewhere, make):
    make(elsewhere / "quick")
    assert sweep_file("quick") == Path("quick")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("quik", ", did you mean 'quick'?"), ("nonsuch", ""), ("a\nb", ""), ("x" * 5000, ""), ("a\0", "")],
)
def test_an_unknown_name_is_refused_in_one_line_with_the_names_that_are_known(elsewhere, name, hint):
    with pytest.raises(SpecError) as refused:
        sweep_file(name)
    line = rf"no such file and no such stock sweep{re.escape(hint)} \(stock sweeps: fashion, folder, .*, vgg\)"
    assert re.search(line, str(refused.value))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("text", ["", "."])
def test_the_folder_that_one_is_in_is_no_stock_sweep(elsewhere, text):
    with pytest.raises(SpecError, match="cannot be read"):
        load_sweep(sweep_file(text))


def test_the_default_is_named_by_its_path_at_the_top_of_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert default_sweep() == "sweeps/vgg.toml"
    assert sweep_file(default_sweep()).samefile(SWEEPS / "vgg.toml")


def test_the_default_is_named_by_its_name_elsewhere_also_where_a_file_has_its_path(elsewhere):
    (elsewhere / "sweeps").mkdir()
    (elsewhere / "sweeps/vgg.toml").touch()
    assert default_sweep() == "vgg"
    assert sweep_file(default_sweep()) == SWEEPS / "vgg.toml"


def test_in_a_checkout_the_examples_are_in_its_folder_of_sweeps():
    assert (stock_folder(), examples_folder()) == (SWEEPS, "sweeps/")


def test_in_an_installed_package_they_are_in_the_package(installed):
    assert (stock_folder(), examples_folder()) == (installed, f"{installed}/")
    assert sweep_file(default_sweep()) == installed / "vgg.toml"
    with pytest.raises(SpecError, match=f"see the examples in {installed}/"):
        load_sweep("sweeps/vgg.toml")
