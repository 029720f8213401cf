"""raycifar as a library: one call runs a sweep, and names are imported when they are first used."""

import io

import pytest
from rich.console import Console

import raycifar
from raycifar import Options, run_sweep
from raycifar.config.names import SpecError
from tests.support.paths import ROOT

QUICK = ROOT / "sweeps/quick.toml"


@pytest.mark.assets
def test_a_call_returns_the_sweeps_results_and_again_runs_nothing(real_sweep):
    console = Console(file=io.StringIO())
    spec = raycifar.read_results(real_sweep).spec
    again = run_sweep(spec, Options(local=True), storage=real_sweep.parent, console=console)
    assert list(again.finished["trial"]) == ["transfer", "scratch"]
    assert "Nothing to do" in console.file.getvalue()
    assert len(again.invocations) == 1


def test_a_sweep_files_name_and_its_folder_go_on_record(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr("raycifar.execution.sweep.run_sweep", lambda *arguments: called.append(arguments))
    monkeypatch.setattr("raycifar.library.read_results", lambda path: path)
    assert run_sweep(QUICK, Options(gpus=0), storage=tmp_path, name="mine") == tmp_path / "mine"
    ((sweep, path, options, _),) = called
    assert (sweep.name, path) == ("quick", tmp_path / "mine")
    assert options == Options(gpus=0, source=str(QUICK))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"sweep": "nowhere.toml"}, "no such file"), ({"sweep": QUICK, "name": "a/b"}, "a name is 1 to 64 letters")],
)
def test_bad_input_raises_before_anything_starts(tmp_path, arguments, message):
    with pytest.raises(SpecError, match=message):
        run_sweep(**arguments, storage=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert set(raycifar.__all__) <= set(dir(raycifar))
    with pytest.raises(AttributeError, match="no attribute 'run_sweeps'"):
        raycifar.run_sweeps  # noqa: B018
