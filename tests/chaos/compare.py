"""Compares two finished sweeps number by number and weight by weight."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from raycifar.config.sweep_file import load_sweep
from raycifar.storage.checkpoints import newest_checkpoint
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.training.checkpoint_writer import load_checkpoint

TRIALS = [trial.name for trial in load_sweep(Path(__file__).with_name("sweep.toml")).trials]
TIMES = {"train_seconds", "val_seconds", "checkpoint_seconds", "images_per_second", "finished_at"}


def differences(expected: SweepFolder, found: SweepFolder, trials: list[str] = TRIALS) -> list[str]:
    """A line for each difference of `found` from `expected`, to the bit, and for each file that was left behind."""
    lines = [line for name in trials for line in _trial(expected.trial(name), found.trial(name))]
    return [f"{found.path.name}: {line}" for line in lines + [f"left behind: {name}" for name in _left(found.path)]]


def _left(path: Path) -> list[str]:
    """Hidden files of interrupted writers, but for the empty one by which Ray checks that it may write."""
    return [hidden.name for hidden in path.glob(".*") if hidden.name != ".validate_storage_marker"]


def _trial(expected: TrialFolder, found: TrialFolder) -> list[str]:
    name, checks = (
        found.path.name,
        {
            "epochs": numbers(found) == numbers(expected),
            "tested weights": found.best_weights.read_bytes() == expected.best_weights.read_bytes(),
            "last weights": last_weights(found) == last_weights(expected),
            "predictions": np.array_equal(*(np.load(trial.predictions)["logits"] for trial in (found, expected))),
            "Tune's result.json": tune_epochs(found) == list(range(1, len(numbers(expected)) + 1)),
            "nothing left behind": not _left(found.path),
        },
    )
    return [f"{name}: not as it should be: {what}" for what, good in checks.items() if not good]


def numbers(trial: TrialFolder) -> list[dict[str, float]]:
    """Its epochs without times and speeds, which differ between runs."""
    return [{k: v for k, v in asdict(record).items() if k not in TIMES} for record in trial.history().epochs]


def last_weights(trial: TrialFolder) -> dict[str, bytes]:
    newest = newest_checkpoint(trial.path)
    state = load_checkpoint(newest)[0] if newest else {"model": {}}
    return {name: weight.numpy().tobytes() for name, weight in state["model"].items()}


def tune_epochs(trial: TrialFolder) -> list[int]:
    """The epochs in Ray Tune's own file, in its order."""
    lines = (trial.path / "result.json").read_text().splitlines()
    return [result["epoch"] for line in lines if "epoch" in (result := json.loads(line))]
