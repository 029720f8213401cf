"""Training accuracy minus test accuracy, by arm."""

from collections.abc import Mapping

import pandas as pd

from raycifar.analysis.learning import blended_arms
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.formulas import APART, Sample, sample
from raycifar.analysis.tables.table import (
    NOTHING_FINISHED,
    RANGE,
    TRIALS,
    WITH_IMAGES,
    Cell,
    Column,
    Table,
    figure,
    lacking,
    range_of,
    trials_of,
    with_images,
    word,
)
from raycifar.analysis.tested_arms import ComparedArms, gap_estimate
from raycifar.analysis.wording import NONE, blended, is_level, percent

Gap = tuple[str, pd.DataFrame, Sample]  # an arm, its tested trials, and the gap over them


def overfitting(results: Results, tested: ComparedArms) -> Table:
    """Training accuracy minus test accuracy, by arm."""
    records = [
        (arm, finished, sample(finished["train_test_gap"], APART)) for arm, finished in results.finished_by_arm()
    ]
    notes = [
        "Training accuracy is that of the last epoch, on augmented images, with dropout if any, while the weights "
        "change; test accuracy that of the best epoch's weights on plain images. So the gap can lie below 0: it hints "
        "at over-fitting, it does not measure it. Over seeds: Student's t, on these images. With other test images: "
        "what those would change, too; the training images stay."
    ]
    unlike = [arm for arm in blended_arms(results.spec) if arm in [record[0] for record in records]]
    notes += [f"{why}." for why in [blended(unlike)] if why]
    notes += _widest_gap({arm: gap for arm, _, gap in records if arm not in unlike}, are_all=not unlike)
    is_plain = bool(results.finished["plain_gap"].notna().any())
    if is_plain:
        notes.append("Plain: of the tested weights, on the training images as they are, measured as the test is.")
    notes = notes if records else [NOTHING_FINISHED]
    planned = results.trials["arm"].value_counts()
    columns: list[Column[Gap]] = [
        Column("arm", lambda r: word(r[0]), is_name=True),
        Column("n", lambda r: trials_of(r[2].n, planned[r[0]]), parts=TRIALS),
        Column("training %", lambda r: figure(r[1]["train_accuracy"].mean(), percent)),
        Column("test %", lambda r: figure(r[1]["test_accuracy"].mean(), percent)),
        Column("gap, points", lambda r: NOT_GIVEN if r[0] in unlike else figure(r[2].mean, percent, "+")),
        Column("95 % interval over seeds", lambda r: _gap_range(r[2], r[0] in unlike), key="gap_points", parts=RANGE),
        Column(
            "with other test images",
            lambda r: NO_RANGE if r[0] in unlike else _with_images(r, tested, "train_test_gap"),
            key="gap_points_with_other_test_images",
            parts=WITH_IMAGES,
        ),
        *(_plain(tested) if is_plain else []),
    ]
    return Table.of("gap", "Over-fitting", records, columns, notes=notes, leak=leaks(results.trials))


def _plain(tested: ComparedArms) -> list[Column[Gap]]:
    return [
        Column("plain training %", lambda r: figure(r[1]["plain_train_accuracy"].mean(), percent)),
        Column("plain gap, points", lambda r: figure(r[1]["plain_gap"].mean(), percent, "+")),
        Column(
            "95 % interval of the plain gap over seeds",
            lambda r: range_of(sample(r[1]["plain_gap"], APART), percent, "+"),
            key="plain_gap_points",
            parts=RANGE,
        ),
        Column(
            "with other test images",
            lambda r: _with_images(r, tested, "plain_gap"),
            key="plain_gap_points_with_other_test_images",
            parts=WITH_IMAGES,
        ),
    ]


NOT_GIVEN, NO_RANGE = lacking("not given (blended images)"), lacking(NONE, len(WITH_IMAGES))


def _gap_range(values: Sample, is_blended: bool) -> Cell:
    return lacking(NONE, len(RANGE)) if is_blended else range_of(values, percent, "+")


def _with_images(row: Gap, tested: ComparedArms, gap: str) -> Cell:
    return with_images(gap_estimate(row[1], tested.arms[row[0]], gap), percent, "+")


def _widest_gap(gaps: Mapping[str, Sample], *, are_all: bool) -> list[str]:
    """Which arm has the largest gap, of those that train on images as hard as the test images."""
    if len(gaps) < 2:
        return []
    worst = max(gaps, key=lambda arm: gaps[arm].mean)
    if is_level(gaps[worst].mean) or gaps[worst].mean < 0:
        return []
    of_which = "" if are_all else " of the others"
    return [f"The largest gap{of_which} is that of {worst}: {percent(gaps[worst].mean, '+')} points."]
