"""The command on record is the one that the caller gives, not what this process happens to have been called with."""

import sys

import pytest

import raycifar
import raycifar.execution.local
import raycifar.execution.runners
from raycifar.commands import main, run_sweep
from raycifar.storage.folders import SweepFolder
from raycifar.training.trial import Assets
from tests.support.paths import ROOT, SAMPLE

QUICK = str(ROOT / "sweeps/quick.toml")
LOCAL = raycifar.Options(local=True, gpus=0)


@pytest.fixture(autouse=True)
def no_training(monkeypatch, no_leaving):
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: Assets(SAMPLE, None))
    monkeypatch.setattr(raycifar.execution.local, "run_here", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["/usr/lib/ipykernel_launcher.py", "-f", "kernel-1.json"])


@pytest.fixture
def recorded(tmp_path):
    """The record of the only call on the folder of this sweep."""

    def read(name="quick"):
        folder = SweepFolder(tmp_path / name)
        (call,) = folder.invocations()
        return call.command, folder.record().source

    return read


def test_a_call_from_python_is_recorded_as_such(tmp_path, recorded):
    raycifar.run_sweep(QUICK, LOCAL, storage=tmp_path)
    assert recorded() == (f"raycifar.run_sweep({QUICK!r})", QUICK)


def test_a_call_from_python_with_a_spec_names_no_file(tmp_path, recorded):
    raycifar.run_sweep(raycifar.load_sweep(QUICK), LOCAL, storage=tmp_path)
    assert recorded() == ("raycifar.run_sweep(SweepSpec(...))", "")


def test_a_script_is_recorded_as_it_was_typed(tmp_path, recorded, monkeypatch):
    arguments = ["quick", "--local", "--gpus=0", f"--storage={tmp_path}", "--name=two"]
    monkeypatch.setattr(sys, "argv", ["run_sweep.py", *arguments])
    assert run_sweep.main() == 1
    assert recorded("two") == (f"python run_sweep.py {' '.join(arguments)}", "quick")


def test_the_installed_command_is_recorded_as_it_was_typed(tmp_path, recorded, monkeypatch):
    arguments = ["run", "quick", "--local", "--gpus=0", f"--storage={tmp_path}", "--set=batch_size=100"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/raycifar", *arguments])
    assert main.main() == 1
    assert recorded() == (f"raycifar {' '.join(arguments)}", "quick")
