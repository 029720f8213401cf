"""What a report says of the images: what was read, and whether they are too few, too unlike or too alike."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import ndtri

from raycifar.analysis.balance import is_unequal, largest_share
from raycifar.analysis.predictions import Predictions, Tested
from raycifar.analysis.report.comparing import in_short
from raycifar.analysis.results import Results
from raycifar.analysis.statistics.answers import Answers, variance_by_images
from raycifar.analysis.statistics.contrasts import arm_interval
from raycifar.analysis.statistics.formulas import CONFIDENCE, proportion_interval
from raycifar.analysis.wording import listed, percent

FEW_TESTED, FEW_VALIDATED = 2_000, 500  # images below which a report says so


def images(results: Results) -> str:
    """What was read: counts, classes, size, digest, and what was left out."""
    facts = results.facts
    parts = [
        f"{facts.title}: {facts.train_images:,} training and {facts.test_images:,} test images",
        *([f"{sum(facts.val):,} validation images of their own"] if facts.val else []),
        f"{len(facts.classes):,} classes",
        f"{facts.side} x {facts.side} pixels",
        *([f"{facts.groups:,} groups, none of them in two splits"] if facts.groups else []),
        *([facts.made] if facts.made else []),
        *([f"{facts.skipped:,} files could not be read and were skipped"] if facts.skipped else []),
        *([f"{facts.dropped:,} images equal to others were dropped"] if facts.dropped else []),
        *([f"SHA-256 {facts.digest[:16]}"] if facts.digest else []),
    ]
    return ", ".join(parts)


def small(results: Results, predictions: Predictions) -> list[str]:
    """A caution each: unequal classes, near-duplicates, too few test or validation images."""
    return [*_unequal(predictions), *_near(results, predictions), *_few_tested(predictions), *_few_validated(results)]


def _unequal(predictions: Predictions) -> Iterator[str]:
    if is_unequal(predictions):
        name, share = largest_share(predictions.tests)
        yield (
            f'The classes are unlike in size: who always answers "{name}" gets {percent(share)} % of the test images '
            "right. Balanced accuracy and macro-F1 stand beside accuracy."
        )


def _near(results: Results, predictions: Predictions) -> Iterator[str]:
    facts = results.facts
    if not facts.near:
        return
    start = (
        f"{facts.near:,} of the {facts.test_images:,} test images nearly equal an image that trains or validates "
        "(64-bit difference hash), which may flatter every accuracy"
    )
    near = predictions.tests.near if predictions.trials else None
    if near is None or near.all():
        yield f"{start}."
        return
    groups = predictions.tests.groups
    left = None if groups is None else groups[~near]
    without = [
        f"{arm} {in_short(arm_interval(np.stack([tested.right[~near] for tested in trials]), left))}"
        for arm, trials in predictions.by_arm(results.shown_arms).items()
    ]
    yield f"{start}. Without them: {listed(without)}."


def _few_tested(predictions: Predictions) -> Iterator[str]:
    if not predictions.trials or len(predictions.tests.labels) >= FEW_TESTED:
        return
    number, pair = len(predictions.tests.labels), _pair(predictions.trials)
    if len(pair) == 2:
        size = percent(_reach(*pair))
        yield (
            f"Few test images: with {number:,} images, differences below {size} points between two networks cannot be "
            "seen, for other images might have made them."
        )
    elif predictions.tests.groups is None:
        low, high = proportion_interval(float(pair[0].right.mean()), number)
        yield (
            f"Few test images: with {number:,} images, an accuracy is known to {percent((high - low) / 2)} points "
            "to each side."
        )


def _pair(trials: Sequence[Tested]) -> list[Tested]:
    """Two networks: of two arms, where there are two."""
    other = next((tested for tested in trials if tested.arm != trials[0].arm), None)
    return [trials[0], other] if other else list(trials[:2])


def _reach(a: Tested, b: Tested) -> float:
    """How far the choice of the images moves the difference of two networks, in 95 of 100 cases."""
    answers = (Answers.of(tested.right, tested.tests.groups) for tested in (a, b))
    return float(ndtri((1 + CONFIDENCE) / 2)) * math.sqrt(variance_by_images(*answers))


def _few_validated(results: Results) -> Iterator[str]:
    numbers = [
        trial.data.images[1]
        for trial in results.spec.trials
        if trial.epochs > 1 and trial.data.validation == "holdout" and trial.data.images[1] < FEW_VALIDATED
    ]
    if numbers:
        yield (
            f"Only {min(numbers):,} validation images: with so few, which epoch is the best is chosen largely by luck "
            f"(below {FEW_VALIDATED} images)."
        )
