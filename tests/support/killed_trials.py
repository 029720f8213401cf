"""Trials in processes that are killed at random moments: by a test, and over and over by tests/chaos/trials.py."""

import multiprocessing
import os
import time
from pathlib import Path

import torch.distributed as dist

import raycifar.training.trial
from raycifar.storage.folders import TrialFolder
from raycifar.training.trial import Assets, Caller, Place, run_trial
from tests.chaos.compare import last_weights, numbers
from tests.support.networks import Small
from tests.support.paths import SAMPLE

# All that draws random numbers or keeps state. A patience of 4 may end a trial early: who needs all epochs resets it.
EVERYTHING = {
    "schedule": {"name": "plateau", "patience": 1},
    "early_stopping": {"patience": 4},
    "averaging": {"ema_decay": 0.5},
    "augmentation": {"crop": 4, "flip": "alternating", "cutout": 8},
    "label_smoothing": 0.1,
}
processes = multiprocessing.get_context("forkserver")
# So that a process that is to be killed starts in no time; several workers import torch._dynamo as they begin.
processes.set_forkserver_preload([__name__, "torch._dynamo"])


def run(spec, folder, on_epoch=lambda record, path: None):
    folder.mkdir(exist_ok=True)
    return run_trial(spec, folder, Assets(SAMPLE, None), Place("cpu", 1, "here:cpu"), Caller(on_epoch))


def left(folder):
    """All that may not depend on what happened on the way."""
    trial = TrialFolder(folder)
    return numbers(trial), last_weights(trial), trial.best_weights.read_bytes(), trial.predictions.read_bytes()


def in_a_process(spec, folder, rank=0, workers=1, meeting=None):
    raycifar.training.trial.build_network = lambda *_: Small()
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
