"""The tables of single test images: which arm gets which class right, what it confuses, and how sure it is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from raycifar.analysis.balance import FEW
from raycifar.analysis.predictions import (
    ENDS,
    MOST_CLASSES,
    MOST_CONFUSED,
    Confused,
    Predictions,
    Tested,
    easiest_first,
    ends,
    most_confused,
)
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.contrasts import Estimate
from raycifar.analysis.statistics.formulas import BINS, Sample, calibrated_error, calibration, sample
from raycifar.analysis.tables.table import (
    MEAN_AND_BOTH,
    MEAN_AND_SD,
    MOST_ROWS,
    RANGE,
    WITH_IMAGES,
    Cell,
    Column,
    Table,
    count,
    figure,
    mean_and_both,
    mean_and_sd,
    over_seeds,
    with_images,
    word,
)
from raycifar.analysis.tested_arms import too_sure, within_classes
from raycifar.analysis.wording import listed, number, percent, tenths

TOP, MOST_LISTED = 20, 1_000  # confusions of an arm that are shown, and listed in the file, where classes are many
FEW_MARK = "*"
BY_CLASS = (
    "Test accuracy within each class; mean ± standard deviation over trials where n > 1. In brackets its 95 % interval "
    "with other test images of the class, and other seeds; of a single trial, of this network alone. The interval over "
    "seeds alone is in tables/classes.csv."
)
FEW_NOTE = (
    f"{FEW_MARK}: fewer than {FEW} test images of the class; the 95 % interval (Wilson) of a share of so few can be "
    "more than 50 points wide."
)
WORST_AND_BEST = f"the {ENDS} worst and the {ENDS} best classes, by the mean over arms, the worst first"
NO_PREDICTIONS = "No finished trial has left readable predictions: this table needs them."


class ClassAccuracies(NamedTuple):
    """A class, how many of the tested images are of it, and by arm the shares that its trials get right."""

    label: int
    name: str
    images: int
    right: dict[str, Sample]
    of: dict[str, Estimate]  # the same with other test images, too


class Confusion(NamedTuple):
    """Two classes that an arm confuses, and how many images of the first were tested."""

    arm: str
    pair: Confused
    images: int


class Confidence(NamedTuple):
    """How often an arm is right and how sure it is: means over its trials, as fractions; the loss in nats."""

    arm: str
    trials: int
    accuracy: float
    confidence: float
    above: Estimate  # confidence minus accuracy
    error: Sample
    least: float  # the error that a perfectly calibrated network would show
    loss: float


def left_out(predictions: Predictions) -> list[str]:
    """Which finished trials are not in the tables and figures of single images, a sentence each."""
    notes = []
    if predictions.missing:
        notes.append(f"Not included, as they have no predictions.npz: {predictions.missing} of the finished trials.")
    if predictions.problems:
        unusable = len(predictions.problems)
        notes.append(f"Not included, as their predictions.npz cannot be used: {unusable}, named at the top.")
    if predictions.elsewhere:
        notes.append(f"Not included, as tested on other images: {predictions.elsewhere} of the finished trials.")
    return notes


def accuracy_by_class(results: Results, predictions: Predictions) -> Table:
    """Of each class's test images, the share that each arm gets right."""
    groups = predictions.by_arm(results.shown_arms)
    classes, leak = _classes(predictions, groups), leaks(results.trials)
    notes = [BY_CLASS]
    notes += [FEW_NOTE] if any(c.images < FEW for c in classes) else []
    notes = [*notes, *_absent(predictions), *left_out(predictions)] if groups else [NO_PREDICTIONS]
    columns: list[Column[ClassAccuracies]] = [
        Column("class", lambda c: word(c.name), is_name=True),
        Column("images", lambda c: Cell(f"{c.images:,}{FEW_MARK * (c.images < FEW)}", (c.images,))),
        *(_class_column(arm, len(trials)) for arm, trials in groups.items()),
    ]
    table = Table.of("classes", "Accuracy by class", classes, columns, notes=notes, leak=leak)
    return (
        replace(table, chosen=_ends(classes, groups), choice=WORST_AND_BEST) if len(classes) > MOST_CLASSES else table
    )


def _ends(classes: Sequence[ClassAccuracies], groups: dict[str, list[Tested]]) -> tuple[int, ...]:
    """The rows of the worst and of the best classes."""
    row = {of_class.label: i for i, of_class in enumerate(classes)}
    return tuple(row[label] for label in ends(easiest_first(groups)))


def _absent(predictions: Predictions) -> list[str]:
    """The classes of which no image was tested."""
    tested = set(predictions.tests.labels.tolist())
    absent = [name for label, name in enumerate(predictions.tests.facts.classes) if label not in tested]
    return [f"No test image is of {listed(absent)}."] if absent else []


def _class_column(arm: str, n: int) -> Column[ClassAccuracies]:
    def cell(of_class: ClassAccuracies) -> Cell:
        return mean_and_both(of_class.right[arm], of_class.of[arm], percent)

    return Column(f"{arm} % (n = {n})", cell, key=f"{arm}_percent", parts=MEAN_AND_BOTH)


def _classes(predictions: Predictions, groups: dict[str, list[Tested]]) -> list[ClassAccuracies]:
    """The classes of which images were tested."""
    if not groups:
        return []
    labels, names = predictions.tests.labels, predictions.tests.facts.classes
    present = np.unique(labels).tolist()
    estimates = {arm: within_classes(trials, present) for arm, trials in groups.items()}
    return [
        ClassAccuracies(
            label,
            name,
            int((labels == label).sum()),
            {arm: sample(t.right[labels == label].mean() for t in trials) for arm, trials in groups.items()},
            {arm: of[label] for arm, of in estimates.items()},
        )
        for label, name in enumerate(names)
        if (labels == label).any()
    ]


def confused_pairs(results: Results, predictions: Predictions) -> Table:
    """The classes that each arm confuses most, both directions apart."""
    groups, names = predictions.by_arm(results.shown_arms), results.facts.classes
    are_many = len(names) > MOST_CLASSES
    records = [
        Confusion(arm, pair, int((predictions.tests.labels == pair.label).sum()))
        for arm, trials in groups.items()
        for pair in most_confused(trials, MOST_LISTED if are_many else MOST_CONFUSED)
    ]
    notes = ["Means over the arm's trials."] if records else [NO_PREDICTIONS]
    columns: list[Column[Confusion]] = [
        Column("arm", lambda c: word(c.arm), is_name=True),
        Column("images of", lambda c: word(names[c.pair.label]), is_name=True),
        Column("classified as", lambda c: word(names[c.pair.predicted]), is_name=True),
        Column("share of the class, %", lambda c: figure(c.pair.share, percent)),
        Column("images a trial", lambda c: figure(c.pair.share * c.images, tenths)),
    ]
    leak = leaks(results.trials)
    table = Table.of("confused", "What is confused most", records, columns, notes=notes, leak=leak)
    return _top(table, [record.arm for record in records]) if are_many else table


def _top(table: Table, arms: Sequence[str]) -> Table:
    """Of each arm the TOP first rows; of many arms fewer, so that all of them are shown."""
    most = min(TOP, MOST_ROWS // max(1, len(set(arms))))
    chosen = [i for arm in dict.fromkeys(arms) for i in [i for i, its in enumerate(arms) if its == arm][:most]]
    return replace(table, chosen=tuple(chosen), choice=f"the {most} most frequent of each arm")


def calibration_by_arm(results: Results, predictions: Predictions) -> Table:
    """How far the probabilities that the networks give can be believed."""
    groups = predictions.by_arm(results.shown_arms)
    notes = [
        "Confidence: the probability that a network gives to the class that it chooses. ECE, the expected calibration "
        f"error: images are sorted into {BINS} bins of equal width by that probability, and the gap between mean "
        "confidence and accuracy in each bin is averaged, weighted by the bin's images; mean ± standard deviation "
        "over trials. By chance alone even a perfectly calibrated network shows one, the more the fewer images: it "
        "stands beside. Confidence above accuracy: the network is too sure of itself; its 95 % "
        "intervals are as those of accuracy, which are among the averages. The loss is the mean cross-entropy in nats "
        "(natural logarithm)."
    ]
    notes = notes + left_out(predictions) if groups else [NO_PREDICTIONS]
    columns: list[Column[Confidence]] = [
        Column("arm", lambda c: word(c.arm), is_name=True),
        Column("n", lambda c: count(c.trials)),
        Column("accuracy, %", lambda c: figure(c.accuracy, percent)),
        Column("mean confidence, %", lambda c: figure(c.confidence, percent)),
        Column(
            "confidence − accuracy, points",
            lambda c: figure(c.confidence - c.accuracy, percent, "+"),
            key="confidence_minus_accuracy_points",
        ),
        Column(
            "95 % interval over seeds",
            lambda c: over_seeds(c.above, percent),
            key="confidence_minus_accuracy_points",
            parts=RANGE,
        ),
        Column(
            "with other test images",
            lambda c: with_images(c.above, percent, "+"),
            key="confidence_minus_accuracy_points_with_other_test_images",
            parts=WITH_IMAGES,
        ),
        Column("ECE, points", lambda c: mean_and_sd(c.error, percent), parts=MEAN_AND_SD),
        Column("ECE if perfectly calibrated, points", lambda c: figure(c.least, percent)),
        Column("test loss, nats", lambda c: figure(c.loss, number)),
    ]
    records = [_confidence(results, arm, trials) for arm, trials in groups.items()]
    leak = leaks(results.trials)
    return Table.of("calibration", "Calibration", records, columns, notes=notes, leak=leak)


def _confidence(results: Results, arm: str, trials: Sequence[Tested]) -> Confidence:
    error = sample(calibration(t.confidence, t.right).error for t in trials)
    accuracy, confidence = np.mean([(t.right.mean(), t.confidence.mean()) for t in trials], axis=0).tolist()
    tested = results.finished["trial"].isin([t.trial for t in trials])
    loss = float(results.finished.loc[tested, "test_loss"].mean())
    least = float(np.mean([calibrated_error(t.confidence) for t in trials]))
    return Confidence(arm, len(trials), accuracy, confidence, too_sure(trials), error, least, loss)
