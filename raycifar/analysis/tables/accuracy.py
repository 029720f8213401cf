"""DataFrame -> the report's tables: headings and cells as text, for Markdown, HTML and the terminal alike."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from raycifar.analysis.results import THRESHOLD, Results, leaks
from raycifar.analysis.stats import ANY, FROM_ZERO, SHARE, Sample, sample
from raycifar.config.sweep import TrialSpec

NONE = "–"
ASKED = {"epochs", "batch_size", "model.weights", "optimizer.name", "optimizer.lr"}  # for, default or not
MOST_ROWS = 60  # that a reader is shown
NOTHING_FINISHED = "No trial has finished: this table needs tested trials."


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text. The first `names` columns are words, the others figures; `brief` are the terminal's columns."""

    key: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    names: int = 1
    brief: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)
    leak: bool = False
    failed: frozenset[int] = frozenset()  # rows of failed trials, shown before any other where not all can be

    @property
    def is_crowded(self) -> bool:
        """Whether it fits on paper only if words are broken."""
        words = [word for row in (self.columns, *self.rows) for cell in row for word in cell.split()]
        return len(self.columns) > 12 or max(map(len, words), default=0) > 24

    def head(self, most: int = MOST_ROWS) -> "Table":
        """At most so many rows, and a note that says where the others are.

        Failed trials come first, but leave half of the room to the others: evenly taken, so that every arm shows.
        """
        if len(self.rows) <= most:
            return self
        others = [i for i in range(len(self.rows)) if i not in self.failed]
        first = sorted(self.failed)[: max(most // 2, most - len(others))]
        room = most - len(first)
        evenly = others if len(others) <= room else [others[i * len(others) // room] for i in range(room)]
        rows = [self.rows[i] for i in sorted([*first, *evenly])]
        failed = f"the first {len(first)} of {len(self.failed):,} failed trials, the others " if first else ""
        more = f"{most} of {len(self.rows):,} rows, {failed}evenly taken; all are in tables/{self.key}.csv."
        return replace(self, rows=rows, failed=frozenset(), notes=[more, *self.notes])


def percent(share: float, sign: str = "") -> str:
    """A fraction in percent, without the sign %."""
    return f"{100 * share:{sign}.2f}" if _is_number(share) else NONE


def seconds(value: float) -> str:
    """Whole from 100 on."""
    return f"{value:,.{0 if abs(value) >= 100 else 1}f}" if _is_number(value) else NONE


def number(value: float) -> str:
    return f"{value:.4f}" if _is_number(value) else NONE


def whole(value: float) -> str:
    return f"{value:,.0f}" if _is_number(value) else NONE


def interval(of: Sample, show: Callable[[float], str]) -> str:
    """The mean's interval, or why there is none."""
    return of.note or f"{show(of.low)} to {show(of.high)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


QUANTITIES: list[tuple[str, str, Callable[[float], str], tuple[float, float]]] = [
    ("test accuracy, %", "test_accuracy", percent, SHARE),
    ("flip-averaged test accuracy, %", "test_accuracy_flip", percent, SHARE),
    ("best validation accuracy, %", "best_val_accuracy", percent, SHARE),
    ("last training accuracy, %", "train_accuracy", percent, SHARE),
    ("mean training accuracy, %", "mean_train_accuracy", percent, SHARE),
    ("training less test, points", "train_test_gap", percent, ANY),
    ("test loss", "test_loss", number, FROM_ZERO),
    ("own time, s", "own_seconds", seconds, FROM_ZERO),
]


def accuracy_by_trial(results: Results) -> Table:
    """What each trial reached and how it stands."""
    columns = ["trial", "status", "test %", "validation %", "training %", "epochs", "best epoch", "seed"]
    columns += ["flip-averaged test %", "training loss", "validation loss", "test loss"]
    rows = [
        [
            *(t["trial"], t["status"], *(percent(t[f"{part}_accuracy"]) for part in ("test", "val", "train"))),
            *(_epochs(t), whole(t["best_epoch"]), str(t["seed"])),
            percent(t["test_accuracy_flip"]),
            *(number(t[f"{part}_loss"]) for part in ("train", "val", "test")),
        ]
        for t in dicts(results.trials)
    ]
    notes = [
        "Training and validation are of the last epoch; test is of the best epoch's weights, measured once. "
        "The headline is the plain test accuracy; the flip-averaged one (image and mirror image) is a separate figure.",
    ]
    brief = (0, 1, 2, 3, 4, 5)
    failed = frozenset(i for i, status in enumerate(results.trials["status"]) if status == "failed")
    return Table("trials", "Accuracy and loss by trial", columns, rows, 2, brief, notes, leaks(results.trials), failed)


def averages_by_arm(results: Results) -> Table:
    """n, mean, standard deviation and 95 % interval of every quantity, by arm."""
    columns = ["arm", "quantity", "n", "mean", "sd", "95 % interval"]
    rows = []
    for arm, finished in by_arm(results):
        for name, key, show, bounds in QUANTITIES:
            of = sample(finished[key], bounds)
            rows.append([arm, name, str(of.n), show(of.mean), show(of.sd), interval(of, show)])
    notes = [
        "Over finished trials, which differ only in their seed; sd: standard deviation; interval: Student's t; one "
        "trial has no spread (n = 1). Last: of the last epoch. Mean training: over the epochs. Own: without start-up."
    ]
    notes = notes if rows else [NOTHING_FINISHED]
    return Table("averages", "Averages by arm", columns, rows, 2, (0, 1, 2, 3, 4, 5), notes, leaks(results.trials))


def learning_speed(results: Results) -> Table:
    """Epochs and own seconds to the threshold, and the mean training accuracy over epochs."""
    goal = f"{100 * THRESHOLD:.0f} %"
    columns = ["trial", "epochs", f"epochs to {goal}", f"seconds to {goal}", "best validation %"]
    columns += ["mean training % over epochs", "images/s"]
    best = results.epochs.groupby("trial")["val_accuracy"].max()
    rows = [
        [
            *(t["trial"], _epochs(t), *_reached(t), percent(best.get(t["trial"], math.nan))),
            *(percent(t["mean_train_accuracy"]), seconds(t["images_per_second"])),
        ]
        for t in dicts(results.trials)
        if t["epochs_run"]
    ]
    notes = [f"The first epoch with a validation accuracy of at least {goal}; seconds are own time up to its end."]
    return Table("learning", "How fast they learn", columns, rows, 1, (0, 2, 3, 4, 5), notes, leaks(results.trials))


def overfitting(results: Results) -> Table:
    """Training less test accuracy, by arm."""
    columns = ["arm", "n", "training %", "test %", "gap, points", "95 % interval of the gap"]
    rows, gaps = [], {}
    for arm, finished in by_arm(results):
        gap = sample(finished["train_test_gap"])
        gaps[arm] = gap.mean
        means = [percent(finished["train_accuracy"].mean()), percent(finished["test_accuracy"].mean())]
        rows.append([arm, str(gap.n), *means, percent(gap.mean, "+"), interval(gap, lambda of: percent(of, "+"))])
    notes = ["Training: last epoch, on augmented images, with dropout if any, so that it can lie below test."]
    if len(gaps) > 1:
        most = max(gaps, key=lambda arm: gaps[arm])
        over = f"The largest gap is that of {most}." if gaps[most] > 0 else "No arm is better on its training images."
        notes.append(over)
    notes = notes if rows else [NOTHING_FINISHED]
    return Table("gap", "Over-fitting", columns, rows, 1, (), notes, leaks(results.trials))


def recipes(results: Results) -> Table:
    """What each arm was trained with: the settings that no default explains, as resolved when the sweep was made."""
    arms = {arm: next(t.settings() for t in results.spec.trials if t.arm == arm) for arm in results.shown_arms}
    least = {"name": "default", "arm": "default", "seed": 1, "epochs": 1, "model": {"weights": "random"}}
    rows = [
        [key, *(of[key] for of in arms.values())]
        for key, default in TrialSpec.model_validate(least).settings().items()
        if key in ASKED or any(of[key] != default for of in arms.values())
    ]
    notes = ["All other settings have their defaults, which sweeps/README.md lists. Seeds are in the table of trials."]
    title = "What each arm was trained with"
    return Table("recipe", title, ["setting", *arms], rows, 1, (), notes, leaks(results.trials))


def dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def by_arm(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """The finished trials of every arm that has some, in the sweep file's order."""
    for arm in results.arms:
        finished = results.finished[results.finished["arm"] == arm]
        if len(finished):
            yield arm, finished


def _epochs(trial: dict[str, Any]) -> str:
    early = ", stopped early" if trial["stopped_early"] is True else ""
    return f"{trial['epochs_run']} of {trial['epochs_planned']}{early}"


def _reached(trial: dict[str, Any]) -> list[str]:
    if _is_number(trial["epochs_to_threshold"]):
        return [whole(trial["epochs_to_threshold"]), seconds(trial["seconds_to_threshold"])]
    return ["not reached" if trial["status"] == "finished" else "not yet", NONE]
