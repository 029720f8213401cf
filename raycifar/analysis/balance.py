"""Classes that are not as large as each other: balanced accuracy and macro-F1, with intervals as accuracy has them.

How far one image moves such a figure is its influence: its derivative by the weight of that image (Hampel 1974). Summed
over images, or groups, that gives the figure's variance as the single right answers give that of accuracy.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raycifar.analysis.predictions import ImageSet, Predictions, Tested
from raycifar.analysis.statistics.answers import Answers
from raycifar.analysis.statistics.contrasts import Arm

LEAST_RATIO = 1.5  # of the largest class's images to the smallest one's, above which accuracy says too little
FEW = 10  # images of a class, below which Wilson's interval of what is right spans more than 50 points


class Figure(NamedTuple):
    """A figure of one trial, and by how much each image moves it (N,); these sum to 0."""

    value: float
    moves: NDArray[np.float64]


def are_unequal(counts: Sequence[int]) -> bool:
    """Whether classes of so many images are too unlike in size for accuracy alone."""
    return max(counts) > LEAST_RATIO * min(counts)


def is_unequal(predictions: Predictions) -> bool:
    """Whether the classes of the tested images are; without predictions nothing can be said of them."""
    return bool(predictions.trials) and are_unequal(predictions.tests.by_class.tolist())


def largest_share(tests: ImageSet) -> tuple[str, float]:
    """The class with the most test images, and what share of them always answering it gets right."""
    label = int(tests.by_class.argmax())
    return tests.facts.classes[label], float(tests.by_class[label] / len(tests.labels))


def balanced_accuracy(tested: Tested) -> Figure:
    """The mean over classes of the share of a class's images that are right; classes without images are left out."""
    labels, counts = tested.tests.labels, tested.tests.by_class
    present = np.count_nonzero(counts)
    right = np.bincount(labels, tested.right, len(counts))
    recalls = right / np.maximum(counts, 1)
    moves = (tested.right - recalls[labels]) / (present * counts[labels])
    return Figure(float(recalls.sum() / present), moves)


def macro_f1(tested: Tested) -> Figure:
    """The mean over classes of 2 right / (images of the class + images taken for it), of classes with either."""
    labels, predicted, counts = tested.tests.labels, tested.predicted, tested.tests.by_class
    both = counts + np.bincount(predicted, minlength=len(counts))
    used, room = np.count_nonzero(both), np.maximum(both, 1)
    scores = 2 * np.bincount(labels, tested.right, len(counts)) / room
    moves = 2 * tested.right / room[labels] - scores[labels] / room[labels] - scores[predicted] / room[predicted]
    return Figure(float(scores.sum() / used), moves / used)


def arm_by(measure: Callable[[Tested], Figure], trials: Sequence[Tested], planned: int) -> Arm:
    """An arm whose "accuracy" is that figure; `planned`: how many tested trials it has, all of which must be known."""
    figures = [measure(tested) for tested in trials]
    if not figures or len(figures) < planned:
        return Arm(np.full(1, math.nan), None, 0, are_single=False)
    tests = trials[0].tests
    answers = Answers.of_shares(np.stack([figure.moves for figure in figures]), tests.groups)
    return Arm(np.array([figure.value for figure in figures]), answers, len(tests.labels), are_single=False)
