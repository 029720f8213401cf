"""Kill trials without Ray, over and over: what tests/training/test_resume.py does once, counted.

python -m tests.chaos.trials --trials 10
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from raycifar.config.sweep import TrialSpec
from raycifar.storage.folders import TrialFolder
from tests.support.killed_trials import EVERYTHING, killed_at_random, left, started

SPEC = TrialSpec.model_validate(
    {
        **{"name": "killed", "arm": "killed", "seed": 1, "epochs": 12, "batch_size": 16, "precision": "fp32"},
        **EVERYTHING,
        "early_stopping": {},
        "model": {"weights": "random"},
        "data": {"train_images": 40, "holdout_images": 20, "test_images": 20},
    }
)


def undisturbed(base: Path, workers: int) -> tuple[Path, float]:
    """The folder of a trial that nobody kills, and the seconds that an epoch of it took."""
    folder = base / "undisturbed"
    folder.mkdir()
    for process in started(SPEC, folder, workers, base / "meeting"):
        process.join()
    (session,) = TrialFolder(folder).history().sessions
    return folder, (session.ended_at - session.started_at) / SPEC.epochs


def killed(base: Path, workers: int, trials: int) -> tuple[int, int]:
    """How many kills there were, and how many of the trials ended otherwise than the undisturbed one."""
    folder, epoch_seconds = undisturbed(base, workers)
    kills = wrong = 0
    for seed in range(trials):
        here = base / f"seed-{seed}" / "killed"
        here.mkdir(parents=True)
        kills += killed_at_random(SPEC, here, workers, random.Random(seed), epoch_seconds)
        wrong += left(here) != left(folder)
    return kills, wrong


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.trials", description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10, help="for each number of workers")
    trials, differ = parser.parse_args().trials, 0
    torch.set_num_threads(1)
    for workers in (1, 2):
        base = Path(tempfile.mkdtemp(prefix="killed-"))
        kills, wrong = killed(base, workers, trials)
        shutil.rmtree(base)
        print(
            f"{workers} worker(s): {trials} trials of {SPEC.epochs} epochs, {kills} kills, {wrong} differ", flush=True
        )
        differ += wrong
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
