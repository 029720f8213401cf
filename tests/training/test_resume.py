"""Interrupted anywhere and resumed equals uninterrupted, to the bit: through run_trial and its files, on the CPU.

A small network stands in for VGG16; everything else is what a sweep uses.
"""

import random
import statistics

import pytest
import torch

import raycifar.training.trial
from raycifar.storage.folders import TrialFolder
from tests.support.killed_trials import EVERYTHING, killed_at_random, left, run, started
from tests.support.networks import Small

SETTINGS = {
    "plateau": {"schedule": {"name": "plateau", "patience": 1, "monitor": "val_accuracy"}},
    "cosine": {"schedule": {"name": "cosine", "warmup_epochs": 1.5}},
    "early stopping": {"early_stopping": {"patience": 2, "monitor": "val_accuracy", "min_delta": 0.5}},
    "averaged weights": {"averaging": {"ema_decay": 0.9}},
    "crop": {"augmentation": {"crop": 4}},
    "alternating flip": {"augmentation": {"flip": "alternating"}},
    "random flip": {"augmentation": {"flip": "random"}},
    "cutout": {"augmentation": {"cutout": 8}},
    "adamw in bf16": {"optimizer": {"name": "adamw", "lr": 0.01}, "precision": "bf16"},
    "all at once": EVERYTHING,
}
EPOCHS = 5


@pytest.fixture(autouse=True)
def a_small_network(monkeypatch):
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: Small())
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})  # or bf16 would be refused


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_trial_interrupted_after_every_epoch_ends_as_if_it_never_was(make_trial, tmp_path, settings):
    spec = make_trial(epochs=EPOCHS, **settings)
    run(spec, tmp_path / "straight")
    for _ in range(EPOCHS + 1):
        try:
            run(spec, tmp_path / "stopped", stop)
        except KeyboardInterrupt:
            continue
        break
    assert left(tmp_path / "stopped") == left(tmp_path / "straight")
    epochs = TrialFolder(tmp_path / "stopped").history().epochs
    assert [record.epoch for record in epochs] == list(range(1, len(epochs) + 1))
    assert (len(epochs) < EPOCHS) == ("stopping" in str(settings.keys()) and "averaging" not in settings)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_killed_at_random_moments_ends_as_if_it_never_was(make_trial, tmp_path, workers):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    spec = make_trial(epochs=8, precision="fp32", **EVERYTHING | {"early_stopping": {}})
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
    for process in started(spec, straight, workers, tmp_path / "meeting"):
        process.join(120)
    epochs = TrialFolder(straight).history().epochs
    epoch_seconds = statistics.median(e.train_seconds + e.val_seconds + e.checkpoint_seconds for e in epochs)
    assert killed_at_random(spec, killed, workers, random.Random(seed), epoch_seconds) > 0
    assert left(killed) == left(straight)
