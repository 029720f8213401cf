"""Interrupted anywhere and resumed equals uninterrupted, to the bit: through run_trial and its files, on the CPU.

A small network stands in for VGG16; everything else is what a sweep uses.
"""

import multiprocessing
import os
import random
import statistics
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import raycifar.training.trial
from raycifar.storage.folders import TrialFolder
from raycifar.training.trial import Assets, Caller, Place, run_trial
from tests.chaos.compare import last_weights, numbers
from tests.support.paths import SAMPLE
from tests.training.test_loop import Small

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
    "all at once": {
        "schedule": {"name": "plateau", "patience": 1},
        "early_stopping": {"patience": 4},
        "averaging": {"ema_decay": 0.5},
        "augmentation": {"crop": 4, "flip": "alternating", "cutout": 8},
        "label_smoothing": 0.1,
    },
}
EPOCHS = 5
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__])  # so that a process that is to be killed starts in no time


@pytest.fixture(autouse=True)
def a_small_network(monkeypatch):
    monkeypatch.setattr(raycifar.training.trial, "build_vgg16", lambda *_: Small())
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})  # or bf16 would be refused


def run(spec, folder, on_epoch=lambda record, path: None):
    folder.mkdir(exist_ok=True)
    return run_trial(spec, folder, Assets(SAMPLE, None), Place("cpu", 1, "here:cpu"), Caller(on_epoch))


def left(folder):
    """All that may not depend on what happened on the way."""
    trial = TrialFolder(folder)
    return numbers(trial), last_weights(trial), trial.best_weights.read_bytes(), trial.predictions.read_bytes()


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


def in_a_process(spec, folder, rank=0, workers=1, meeting=None):
    raycifar.training.trial.build_vgg16 = lambda *_: Small()
    if meeting:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=workers)
    run(spec, Path(folder))


def started(spec, folder, workers, meeting):
    """The trial's processes, one a worker."""
    meeting = meeting if workers > 1 else None
    group = [processes.Process(target=in_a_process, args=(spec, folder, r, workers, meeting)) for r in range(workers)]
    for process in group:
        process.start()
    return group


def killed_at_random(spec, folder, workers, dice, epoch_seconds):
    """Kill one worker within a few epochs of every start, then the others, as Ray Train does. Returns how often."""
    for kills in range(100):
        group = started(spec, folder, workers, folder.parent / f"meeting-{kills}")
        while all(process.is_alive() for process in group) and len(TrialFolder(folder).history().sessions) <= kills:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 4 * epoch_seconds))
        dice.choice(group).kill()
        for process in group:
            process.kill()
            process.join()
        if TrialFolder(folder).summary():
            return kills
    raise AssertionError("it never finished")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_killed_at_random_moments_ends_as_if_it_never_was(make_trial, tmp_path, workers):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    spec = make_trial(epochs=8, precision="fp32", **SETTINGS["all at once"] | {"early_stopping": {}})
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
    for process in started(spec, straight, workers, tmp_path / "meeting"):
        process.join(120)
    epochs = TrialFolder(straight).history().epochs
    epoch_seconds = statistics.median(e.train_seconds + e.val_seconds + e.checkpoint_seconds for e in epochs)
    assert killed_at_random(spec, killed, workers, random.Random(seed), epoch_seconds) > 0
    assert left(killed) == left(straight)
