"""The report's tables of single test images: which arm gets which class right, what it confuses, and paired tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from raycifar.analysis.predictions import Predictions, Tested
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.stats import BINS, Sample, calibration, confusion, holm, mcnemar, sample
from raycifar.analysis.tables.accuracy import Table, number, percent, whole
from raycifar.config.datasets import CIFAR10

MOST_PAIRS = 30  # of trials that are tested against each other
MOST_CONFUSED = 5  # pairs of classes by arm
ALPHA = 0.05
NO_PREDICTIONS = "No finished trial has left readable predictions: this table needs them."


@dataclass(frozen=True, slots=True)
class Confused:
    """Images of class `label` that an arm's trials took for class `taken`, and the mean share of the class they are."""

    label: int
    taken: int
    share: float


def mean_confusion(trials: Sequence[Tested]) -> NDArray[np.float64]:
    """The confusion matrix of an arm, (classes, classes): the mean over its trials of each one's shares."""
    return np.asarray(np.mean([confusion(t.tests.labels, t.predicted, len(CIFAR10.classes)) for t in trials], axis=0))


def most_confused(trials: Sequence[Tested]) -> list[Confused]:
    """An arm's most frequent confusions, those that never happen left out."""
    shares = np.nan_to_num(mean_confusion(trials))
    np.fill_diagonal(shares, 0.0)
    order = np.argsort(-shares, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(i), len(CIFAR10.classes)) for i in order]
    return [Confused(label, taken, float(shares[label, taken])) for label, taken in pairs if shares[label, taken] > 0]


def paired_tests(results: Results, predictions: Predictions) -> Table:
    """McNemar's exact test of every two trials of different arms, adjusted after Holm."""
    columns = ["trial A", "trial B", "images", "only A right", "only B right", "A less B, points", "p", "p after Holm"]
    groups = predictions.by_arm(results.shown_arms)
    pairs, chosen = _pairs(groups)
    figures, adjusted = image_by_image(pairs)
    rows = [[a.trial, b.trial, *row] for (a, b), row in zip(pairs, figures, strict=True)]
    notes = [*_what_n_allows(groups, adjusted), chosen] if rows else [_why_no_pairs(groups)]
    notes += left_out(predictions)
    return Table(
        "paired",
        "Paired tests on the same images",
        columns,
        rows,
        2,
        (0, 1, 3, 4, 7),
        [note for note in notes if note],
        leaks(results.trials),
    )


def image_by_image(pairs: Sequence[tuple[Tested, Tested]]) -> tuple[list[list[str]], list[float]]:
    """McNemar's exact test of each two trials: the cells of its row, and p adjusted after Holm for all of the pairs.

    The cells: images, those that the first alone gets right, those that the second alone does, the first's accuracy
    less the second's, p, p after Holm.
    """
    tests = [mcnemar(a.right, b.right) for a, b in pairs]
    adjusted = holm([test.p for test in tests])
    rows = []
    for (a, _), test, p in zip(pairs, tests, adjusted, strict=True):
        apart = percent((test.only_a - test.only_b) / len(a.right), "+")
        counts = [whole(len(a.right)), whole(test.only_a), whole(test.only_b)]
        rows.append([*counts, apart, probability(test.p), probability(p)])
    return rows, adjusted


def _pairs(groups: dict[str, list[Tested]]) -> tuple[list[tuple[Tested, Tested]], str]:
    """Every two trials of different arms; of the arms' median trials alone where those would be too many."""
    pairs = _across(groups)
    if len(pairs) <= MOST_PAIRS:
        return pairs, ""
    middle = {arm: [median_trial(trials)] for arm, trials in groups.items()}
    note = f"Of the {len(pairs):,} pairs only those of the arms' median trials (by test accuracy) are tested."
    return _across(middle), note


def _across(groups: dict[str, list[Tested]]) -> list[tuple[Tested, Tested]]:
    return [(a, b) for one, other in combinations(groups.values(), 2) for a in one for b in other]


def median_trial(trials: Sequence[Tested]) -> Tested:
    """The one in the middle by test accuracy."""
    return sorted(trials, key=lambda tested: tested.right.mean())[(len(trials) - 1) // 2]


def _what_n_allows(groups: dict[str, list[Tested]], adjusted: Sequence[float]) -> list[str]:
    surely = sum(p < ALPHA for p in adjusted)
    found = f"{surely} of {len(adjusted)} pairs" if len(adjusted) > 1 else f"{'the' if surely else 'not the'} one pair"
    notes = [
        "Exact McNemar test, two-sided, on the images that one of two networks alone gets right; p adjusted after "
        f"Holm for {len(adjusted)} pairs. Below {ALPHA:g}: {found}. It says whether two trained networks differ."
    ]
    single = [arm for arm, trials in groups.items() if len(trials) == 1]
    if single:
        notes.append(
            f"What n allows: {', '.join(single)} {'has' if len(single) == 1 else 'have'} one tested trial (n = 1), so "
            "this is a difference between trained networks, not between two ways of training: another seed could fall "
            "elsewhere, and only several seeds of each arm would tell."
        )
    else:
        fewest = min(len(trials) for trials in groups.values())
        notes.append(
            f"What n allows: each arm has {fewest} trials or more, so the ways of training compare too: by the "
            "intervals over seeds, not by these tests, which take each network as it is."
        )
    return notes


def _why_no_pairs(groups: dict[str, list[Tested]]) -> str:
    if not groups:
        return NO_PREDICTIONS
    return f"Only {next(iter(groups))} has tested trials with predictions: there is no other arm to compare it with."


def left_out(predictions: Predictions) -> list[str]:
    """Which finished trials are not in the tables and figures of single images, a sentence each."""
    notes = []
    if predictions.missing:
        notes.append(f"Not in it, for want of predictions.npz: {predictions.missing} of the finished trials.")
    if predictions.problems:
        notes.append(
            f"Not in it, for predictions.npz that cannot be used: {len(predictions.problems)}, named at the top."
        )
    if predictions.elsewhere:
        notes.append(f"Not in it, because tested on other images: {predictions.elsewhere} of the finished trials.")
    return notes


def probability(p: float) -> str:
    """A p-value: to three decimals, or four where it is small; below that its size says nothing more."""
    if p >= 0.001:
        return f"{p:.3f}"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def accuracy_by_class(results: Results, predictions: Predictions) -> Table:
    """Of each class's test images, the share that each arm gets right."""
    groups = predictions.by_arm(results.shown_arms)
    columns = ["class", "images", *(f"{arm} % (n = {len(trials)})" for arm, trials in groups.items())]
    rows = []
    for label, name in enumerate(CIFAR10.classes) if groups else ():
        of_class = predictions.tests.labels == label
        if of_class.any():
            spreads = [sample(t.right[of_class].mean() for t in trials) for trials in groups.values()]
            rows.append([name, whole(int(of_class.sum())), *(_spread(of) for of in spreads)])
    notes = ["Test accuracy within each class; mean ± standard deviation over trials where n > 1."]
    notes = notes + left_out(predictions) if rows else [NO_PREDICTIONS]
    return Table("classes", "Accuracy by class", columns, rows, 1, (), notes, leaks(results.trials))


def _spread(of: Sample) -> str:
    return percent(of.mean) + (f" ± {percent(of.sd)}" if of.n > 1 else "")


def confused_pairs(results: Results, predictions: Predictions) -> Table:
    """The classes that each arm confuses most, both directions apart."""
    columns = ["arm", "images of", "taken for", "share of the class, %", "images a trial"]
    rows = []
    for arm, trials in predictions.by_arm(results.shown_arms).items():
        labels = predictions.tests.labels
        for pair in most_confused(trials):
            images = f"{pair.share * float((labels == pair.label).sum()):,.1f}"
            rows.append([arm, CIFAR10.classes[pair.label], CIFAR10.classes[pair.taken], percent(pair.share), images])
    notes = ["Means over the arm's trials."] if rows else [NO_PREDICTIONS]
    return Table("confused", "What is confused most", columns, rows, 3, (), notes, leaks(results.trials))


def calibration_by_arm(results: Results, predictions: Predictions) -> Table:
    """How far the probabilities that the networks give can be believed."""
    columns = ["arm", "n", "accuracy, %", "mean confidence, %", "confidence less accuracy, points", "ECE, points"]
    columns += ["test loss, nats"]
    rows = []
    for arm, trials in predictions.by_arm(results.shown_arms).items():
        errors = sample(calibration(t.confidence, t.right).error for t in trials)
        right, sure = np.mean([(t.right.mean(), t.confidence.mean()) for t in trials], axis=0).tolist()
        loss = results.finished.loc[results.finished["trial"].isin([t.trial for t in trials]), "test_loss"].mean()
        figures = [percent(right), percent(sure), percent(sure - right, "+"), _spread(errors), number(loss)]
        rows.append([arm, str(len(trials)), *figures])
    notes = [
        f"ECE, the expected calibration error: images in {BINS} bins of equal width by the probability of the class "
        "that they were given; the gap between that probability and the accuracy of each bin, weighted by its images; "
        "mean ± standard deviation over trials. Confidence above accuracy: the network is too sure of itself.",
    ]
    notes = notes + left_out(predictions) if rows else [NO_PREDICTIONS]
    return Table("calibration", "Calibration", columns, rows, 1, (), notes, leaks(results.trials))
