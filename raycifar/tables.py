"""DataFrame -> the report's tables: headings and cells as text, for Markdown, HTML and the terminal alike."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from raycifar.results import THRESHOLD, Results
from raycifar.stats import sample

NONE = "–"
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


QUANTITIES: list[tuple[str, str, Callable[[float], str]]] = [
    ("test accuracy, %", "test_accuracy", percent),
    ("flip-averaged test accuracy, %", "test_accuracy_flip", percent),
    ("best validation accuracy, %", "best_val_accuracy", percent),
    ("last training accuracy, %", "train_accuracy", percent),
    ("mean training accuracy, %", "mean_train_accuracy", percent),
    ("training less test, points", "train_test_gap", percent),
    ("test loss", "test_loss", number),
    ("own time, s", "own_seconds", seconds),
]


def accuracy_by_trial(results: Results) -> Table:
    """What each trial reached and how it stands."""
    columns = ["trial", "status", "seed", "epochs", "best epoch", "training %", "validation %", "test %"]
    columns += ["flip-averaged test %", "training loss", "validation loss", "test loss"]
    rows = [
        [
            *(t["trial"], t["status"], str(t["seed"]), _epochs(t), whole(t["best_epoch"])),
            *(percent(t[f"{part}_accuracy"]) for part in ("train", "val", "test")),
            percent(t["test_accuracy_flip"]),
            *(number(t[f"{part}_loss"]) for part in ("train", "val", "test")),
        ]
        for t in _dicts(results.trials)
    ]
    notes = [
        "Training and validation are of the last epoch; test is of the best epoch's weights, measured once. "
        "The headline is the plain test accuracy; the flip-averaged one (image and mirror image) is a separate figure.",
    ]
    brief = (0, 1, 3, 5, 6, 7)
    return Table("trials", "Accuracy and loss by trial", columns, rows, 2, brief, notes, leaks(results.trials))


def averages_by_arm(results: Results) -> Table:
    """n, mean, standard deviation and 95 % interval of every quantity, by arm."""
    columns = ["arm", "quantity", "n", "mean", "sd", "95 % interval"]
    rows = []
    for arm, finished in by_arm(results):
        for name, key, show in QUANTITIES:
            of = sample(finished[key])
            interval = of.note or f"{show(of.low)} to {show(of.high)}"
            rows.append([arm, name, str(of.n), show(of.mean), show(of.sd), interval])
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
        for t in _dicts(results.trials)
        if t["epochs_run"]
    ]
    notes = [f"The first epoch with a validation accuracy of at least {goal}; seconds are own time up to its end."]
    notes += _threshold_by_arm(results, goal)
    return Table("learning", "How fast they learn", columns, rows, 1, (0, 2, 3, 4, 5), notes, leaks(results.trials))


def overfitting(results: Results) -> Table:
    """Training less test accuracy, by arm."""
    columns = ["arm", "n", "training %", "test %", "gap, points", "95 % interval of the gap"]
    rows, gaps = [], {}
    for arm, finished in by_arm(results):
        gap = sample(finished["train_test_gap"])
        gaps[arm] = gap.mean
        means = [percent(finished["train_accuracy"].mean()), percent(finished["test_accuracy"].mean())]
        interval = gap.note or f"{percent(gap.low, '+')} to {percent(gap.high, '+')}"
        rows.append([arm, str(gap.n), *means, percent(gap.mean, "+"), interval])
    notes = ["Training: last epoch, on augmented images and with dropout, so that it can lie below test."]
    if len(gaps) > 1:
        notes.append(f"The largest gap is that of {max(gaps, key=lambda arm: gaps[arm])}.")
    notes = notes if rows else [NOTHING_FINISHED]
    return Table("gap", "Over-fitting", columns, rows, 1, (), notes, leaks(results.trials))


def time_totals(results: Results) -> Table:
    """Combined and mean own time by arm, all trials, and the wall clock, which is none of them."""
    columns = ["arm", "trials", "mean own s", "combined own s", "start-up s", "GPU-seconds", "wall clock s"]
    rows = [_total(arm, finished) for arm, finished in by_arm(results)]
    rest = results.trials[(results.trials["status"] != "finished") & (results.trials["epochs_run"] > 0)]
    rows += [_total("not finished, so far", rest)] if len(rest) else []
    whole_sweep = _total("the sweep", results.trials[results.trials["epochs_run"] > 0])
    rows += [[*whole_sweep[:-1], seconds(results.wall_seconds)]]
    notes = [
        "Own time is training, validation, checkpointing and test, without start-up. Combined is its sum over trials. "
        "The wall clock is how long run_sweep.py ran, pauses between its calls not counted.",
    ]
    kinds = set(results.sessions["device_kind"])
    if kinds == {"cpu"}:
        notes.append("The trials ran on the CPU: there are no GPU-seconds.")
    elif "cuda" in kinds:
        notes.append("GPU-seconds are own time times GPUs; a GPU that trials share counts in full for each.")
    return Table(
        "time", "Combined time and wall clock", columns, rows, 1, (0, 1, 2, 3, 5, 6), notes, leaks(results.trials)
    )


def time_by_trial(results: Results) -> Table:
    """Where each trial's time went."""
    columns = ["trial", "device", "sessions", "start-up s", "training s", "validation s", "checkpoints s", "test s"]
    columns += ["own s", "GPU-seconds"]
    keys = ("startup_seconds", "train_seconds", "val_seconds", "checkpoint_seconds", "test_seconds", "own_seconds")
    rows = [
        [
            *(t["trial"], f"{t['device']} ({t['devices']})", whole(t["sessions"])),
            *(seconds(t[key]) for key in keys),
            _gpu(t["gpu_seconds"], t["device_kind"]),
        ]
        for t in _dicts(results.trials)
        if t["sessions"]
    ]
    notes = ["A trial with several sessions was interrupted and resumed."]
    return Table("time-by-trial", "Time by trial", columns, rows, 2, (0, 3, 4, 8), notes, leaks(results.trials))


def _dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def by_arm(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """The finished trials of every arm that has some, in the sweep file's order."""
    for arm in results.arms:
        finished = results.finished[results.finished["arm"] == arm]
        if len(finished):
            yield arm, finished


def leaks(trials: pd.DataFrame) -> bool:
    return bool((trials["validation"] == "train").any())


def _epochs(trial: dict[str, Any]) -> str:
    early = ", stopped early" if trial["stopped_early"] is True else ""
    return f"{trial['epochs_run']} of {trial['epochs_planned']}{early}"


def _reached(trial: dict[str, Any]) -> list[str]:
    if _is_number(trial["epochs_to_threshold"]):
        return [whole(trial["epochs_to_threshold"]), seconds(trial["seconds_to_threshold"])]
    return ["not reached" if trial["status"] == "finished" else "not yet", NONE]


def _threshold_by_arm(results: Results, goal: str) -> list[str]:
    parts = []
    for arm, trials in results.trials.groupby("arm", sort=False):
        reached = trials["epochs_to_threshold"].dropna()
        if len(reached):
            parts.append(f"{arm} after {reached.mean():.1f} epochs on average ({len(reached)} of {len(trials)} trials)")
    return [f"To {goal}: {'; '.join(parts)}."] if parts else [f"No trial has reached {goal}."]


def _total(name: str, trials: pd.DataFrame) -> list[str]:
    own = trials["own_seconds"]
    kinds = " then ".join(trials["device_kind"].dropna().unique())
    gpu = _gpu(trials["gpu_seconds"].sum(min_count=1), kinds)
    mean = seconds(own.mean()) if trials["arm"].nunique() == 1 else NONE
    return [name, str(len(trials)), mean, seconds(own.sum()), seconds(trials["startup_seconds"].sum()), gpu, NONE]


def _gpu(value: float, kinds: Any) -> str:
    return "none (CPU)" if kinds == "cpu" else seconds(value)
