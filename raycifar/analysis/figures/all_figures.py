"""The list of all figures of a sweep."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from raycifar.analysis.figures.bands import accuracy_against_epochs, accuracy_against_seconds
from raycifar.analysis.figures.curves import ACCURACY, LOSS, arm_curves, trial_curves
from raycifar.analysis.figures.durations import time_by_arm
from raycifar.analysis.figures.gap import gap
from raycifar.analysis.figures.images import class_figures
from raycifar.analysis.figures.networks import accuracy_against_size
from raycifar.analysis.figures.style import Drawing, style
from raycifar.analysis.figures.timeline import timeline
from raycifar.analysis.learning import blended_arms
from raycifar.analysis.predictions import Images, Predictions
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.tested_arms import arms_of

MOST_TRIALS = 12  # whose curves have figures of their own


def all_figures(
    results: Results, predictions: Predictions | None = None, images: Images | None = None
) -> Iterator[Drawing]:
    """Every figure that epochs, trials, predictions and test images allow, the overall ones first.

    Of arms, the shown ones; of single trials, none where there are more than MOST_TRIALS.
    """
    with style():
        arms = results.shown_arms
        every, epochs, finished = (
            frame[frame["arm"].isin(arms)] for frame in (results.epochs, results.compared_epochs, results.finished)
        )
        if not epochs.empty:
            yield accuracy_against_epochs(epochs, arms)
            yield _noted(accuracy_against_seconds(epochs, arms), results)
        if finished["train_test_gap"].notna().any():
            yield gap(finished, arms, blended_arms(results.spec))
        if len(results.networks) > 1:
            tested = arms_of(results, predictions or Predictions())
            if drawing := accuracy_against_size(finished, arms, tested, leaks(results.trials)):
                yield drawing
        yield from class_figures(predictions or Predictions(), arms, images, leaks(results.trials))
        if not epochs.empty:
            begun = results.trials[results.trials["epochs_run"] > 0]
            yield _noted(time_by_arm(begun, arms, results.wall_seconds), results)
        if not results.sessions.empty:
            yield _noted(timeline(results.sessions, arms, results.active), results)
        yield from _of_arms(every, epochs)
        if len(results.trials) <= MOST_TRIALS:
            yield from _of_trials(results, every)


def _noted(drawing: Drawing, results: Results) -> Drawing:
    """A figure of times, with the note on this sweep in its caption."""
    return replace(drawing, caption=" ".join([drawing.caption, *results.time_notes]))


def _of_arms(every: pd.DataFrame, compared: pd.DataFrame) -> Iterator[Drawing]:
    for arm, epochs in every.groupby("arm", sort=False):
        of_arm = compared[compared["arm"] == arm]
        yield arm_curves(epochs, of_arm, str(arm), "train_accuracy", "training accuracy")
        yield arm_curves(epochs, of_arm, str(arm), "val_accuracy", "validation accuracy")


def _of_trials(results: Results, every: pd.DataFrame) -> Iterator[Drawing]:
    for trial, epochs in every.groupby("trial", sort=False):
        tested = results.finished[results.finished["trial"] == trial]
        best = int(tested["best_epoch"].iloc[0]) if len(tested) else None
        yield trial_curves(epochs, str(trial), ACCURACY, best)
        yield trial_curves(epochs, str(trial), LOSS, best)
