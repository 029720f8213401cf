"""How far every trial had learnt by when: after as many epochs, or seconds, as all have had, and at an accuracy."""

import pandas as pd

from raycifar.analysis.results import THRESHOLD
from raycifar.config.sweep import SweepSpec

GOALS = (THRESHOLD, 0.90, 0.93, 0.94)  # validation accuracies whose first epoch is reported


def blended_arms(spec: SweepSpec) -> list[str]:
    """Arms that train on images blended of two, so that their training accuracy is that of other, harder images."""
    return list(dict.fromkeys(t.arm for t in spec.trials if t.augmentation.mixup or t.augmentation.cutmix))


def common_limit(epochs: pd.DataFrame, along: str) -> float:
    """As many epochs, or seconds of training time, as each trial of the `epochs` has had; `along` is their column."""
    return float(epochs.groupby("trial")[along].max().min())


def accuracies_within(epochs: pd.DataFrame, along: str, limit: float) -> "pd.Series[float]":
    """By trial, the validation accuracy of its last epoch within the limit; trials without one are left out."""
    return epochs[epochs[along] <= limit].groupby("trial")["val_accuracy"].last()


def first_epochs_at(epochs: pd.DataFrame, goal: float) -> pd.DataFrame:
    """By trial, its first epoch with at least this validation accuracy; trials that never got there are left out."""
    return epochs[epochs["val_accuracy"] >= goal].groupby("trial").first()
