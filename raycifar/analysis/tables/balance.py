"""The table of an arm's accuracy beside its balanced accuracy and macro-F1, where classes are unlike in size."""

from collections.abc import Mapping
from typing import NamedTuple

from raycifar.analysis.balance import LEAST_RATIO, arm_by, balanced_accuracy, largest_share, macro_f1
from raycifar.analysis.predictions import Predictions
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.contrasts import Arm, Estimate, estimate
from raycifar.analysis.statistics.formulas import SHARE
from raycifar.analysis.tables.images import left_out
from raycifar.analysis.tables.table import (
    RANGE,
    WITH_IMAGES,
    Column,
    Table,
    count,
    figure,
    over_seeds,
    with_images,
    word,
)
from raycifar.analysis.tested_arms import arms_of
from raycifar.analysis.wording import percent

MEASURES = {"accuracy": None, "balanced accuracy": balanced_accuracy, "macro-F1": macro_f1}


class Row(NamedTuple):
    """An arm by each of the MEASURES."""

    arm: str
    n: int
    of: Mapping[str, Estimate]


def unequal_classes(results: Results, predictions: Predictions) -> Table:
    """A row for each tested arm, with both intervals of each measure."""
    rows = [_row(name, arm, predictions) for name, arm in arms_of(results, predictions).items()]
    columns: list[Column[Row]] = [
        Column("arm", lambda r: word(r.arm), is_name=True, in_terminal=True),
        Column("n", lambda r: count(r.n)),
        *(column for name in MEASURES for column in _columns(name)),
    ]
    guess, share = largest_share(predictions.tests)
    classes = len([images for images in predictions.tests.by_class if images])
    notes = [
        f"The largest class of the test images has more than {LEAST_RATIO:g} times as many as the smallest. Who always "
        f'answers "{guess}" is {percent(share)} % accurate, with a balanced accuracy of {percent(1 / classes)} %. '
        "Balanced accuracy: the mean over classes of the share of a class that is right. Macro-F1: the mean over "
        "classes of F1, which also counts images wrongly taken for the class. Intervals are 95 % ones, as those of "
        "accuracy; the second one of balanced accuracy and macro-F1 by the influence of single images (or groups).",
        *left_out(predictions),
    ]
    title = "Unequal classes: accuracy beside what counts each class alike"
    return Table.of("balance", title, rows, columns, notes=notes, leak=leaks(results.trials))


def _row(name: str, arm: Arm, predictions: Predictions) -> Row:
    trials = [tested for tested in predictions.trials if tested.arm == name]
    arms = {key: arm_by(measure, trials, arm.n) if measure else arm for key, measure in MEASURES.items()}
    return Row(name, arm.n, {key: estimate(one) for key, one in arms.items()})


def _columns(name: str) -> list[Column[Row]]:
    key = name.replace(" ", "_").replace("-", "_")
    return [
        Column(f"{name}, %", lambda r: figure(r.of[name].mean, percent), in_terminal=True, key=f"{key}_percent"),
        Column("over seeds", lambda r: over_seeds(r.of[name], percent, "", SHARE), key=f"{key}_seeds", parts=RANGE),
        Column(
            "with other test images",
            lambda r: with_images(r.of[name], percent, bounds=SHARE),
            key=f"{key}_images",
            parts=WITH_IMAGES,
        ),
    ]
