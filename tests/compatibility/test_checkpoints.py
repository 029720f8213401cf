"""Checkpoints of the version before the restructure: loaded, and trained on to the same numbers."""

import io
from dataclasses import asdict

import pytest
import torch
from rich.console import Console

import raycifar.execution.runners
import raycifar.training.trial
from raycifar.config.sweep import TrialSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.data.splits import load_splits
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.networks.weights import fetch_vgg16
from raycifar.storage.checkpoints import newest_checkpoint
from raycifar.storage.folders import SweepFolder
from raycifar.training.loop import TrainState, fit
from raycifar.training.trial import Assets, Place, network, set_up_torch
from tests.compatibility.files import HERE, copied, expected
from tests.compatibility.recording import cpu_kind, differences, digest, layout, norms, without_times
from tests.compatibility.small_network import SmallNetwork
from tests.support.paths import SAMPLE

CONTINUED, LAYOUTS, STEPS = expected("continued"), expected("layouts"), expected("three_steps")
SWEEP = load_sweep(HERE / "interrupted.toml")
# Allowed relative differences on a CPU of another kind than the files': for the small network's numbers (with AVX2 in
# place of AVX-512 all were below 2e-7), for VGG16's (7e-7), and for VGG16's without either instruction set, where torch
# draws a random network's weights through another logarithm (0.025).
SMALL_NETWORK, VGG16, VGG16_OTHERWISE_DRAWN = 1e-6, 1e-5, 0.1


@pytest.fixture
def a_small_network(monkeypatch):
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: SmallNetwork())
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: Assets(SAMPLE, None))


@pytest.mark.parametrize("name", CONTINUED["trials"])
def test_an_interrupted_trial_goes_on_to_the_same_numbers(a_small_network, tmp_path, name):
    folder = SweepFolder(copied(tmp_path, "interrupted") / "interrupted")
    options = Options(local=True, gpus=0, only=(name,))
    assert run_sweep(SWEEP, folder.path, options, Console(file=io.StringIO()))
    trial, before = folder.trial(name), CONTINUED["trials"][name]
    state = torch.load(newest_checkpoint(trial.path) / "state.pt", weights_only=True)
    found = {
        "epochs": [without_times(asdict(record)) for record in trial.history().epochs],
        "summary": without_times(asdict(trial.summary())),
        "norms": norms(state["best"]["best_weights"]),
    }
    assert [session.first_epoch for session in trial.history().sessions] == [1, 2]
    exact = cpu_kind() == CONTINUED["cpu"]
    assert differences({key: before[key] for key in found}, found, rel=0 if exact else SMALL_NETWORK) == []
    assert not exact or digest(state) == before["digest"]


def trained(settings, steps):
    """A real VGG16 after an epoch of so few steps."""
    base = {"name": "tiny", "arm": "tiny", "seed": 1, "epochs": 1, "batch_size": 10, "precision": "fp32"}
    base["data"] = {"train_images": 10 * steps, "holdout_images": 20, "test_images": 20}
    spec = TrialSpec.model_validate(base | settings)
    set_up_torch(spec, Place("cpu", 1, "here:cpu"))
    data = load_splits(SAMPLE, spec.data)
    imagenet = fetch_vgg16(None) if spec.model.weights == "imagenet" else None
    state = TrainState(network(spec, Assets(SAMPLE, imagenet), data.train), spec)
    return state, [without_times(asdict(record)) for record in fit(state, data.train, data.val, spec)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_vgg16s_checkpoint_has_the_same_names_types_and_shapes(name):
    state, _ = trained(LAYOUTS[name]["settings"], steps=1)
    assert layout(state.state_dict()) == LAYOUTS[name]["state"]


@pytest.mark.parametrize("name", ["scratch", pytest.param("transfer", marks=pytest.mark.assets)])
def test_three_steps_of_a_vgg16_end_at_the_same_weights(name):
    before = STEPS["cases"][name]
    state, records = trained(before["settings"], steps=3)
    found = {"epochs": records, "norms": norms(state.evaluated.state_dict())}
    here = cpu_kind()
    exact = here == STEPS["cpu"]
    rounding = VGG16 if here["used"] in ("AVX2", "AVX512") else VGG16_OTHERWISE_DRAWN
    assert differences({key: before[key] for key in found}, found, rel=0 if exact else rounding) == []
    assert not exact or digest(state.state_dict()) == before["digest"]
