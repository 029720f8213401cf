"""The tables of accuracy and loss: by trial, by arm, how fast trials learn; and the recipes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from raycifar.analysis.learning import blended_arms
from raycifar.analysis.results import MOST_ARMS, THRESHOLD, Results, dicts, leaks
from raycifar.analysis.statistics.contrasts import Arm, Estimate, estimate
from raycifar.analysis.statistics.formulas import APART, FROM_ZERO, SHARE, Sample, sample
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
from raycifar.analysis.wording import (
    NONE,
    TRAINING_TIME,
    Format,
    is_number,
    listed,
    number,
    percent,
    seconds,
    whole,
)
from raycifar.config.sweep import SweepSpec, TrialSpec

ASKED = {"epochs", "batch_size", "model.weights", "optimizer.name", "optimizer.lr"}  # of a recipe: shown in any case
GROUPS_DRAWN = "Images come in groups, and each group is drawn whole: other test images are other groups."

Trial = dict[str, Any]  # a row of Results.trials


class Quantity(NamedTuple):
    """A column of the trials that is averaged, how it is shown, and within which bounds it lies."""

    name: str
    key: str
    show: Format
    bounds: tuple[float, float]
    sign: str = ""  # "+" for differences


class Average(NamedTuple):
    """A quantity's values over the finished trials of an arm."""

    arm: str
    quantity: Quantity
    values: Sample
    planned: int  # trials
    of: Estimate | None  # with other test images; None where they move nothing that is known


QUANTITIES = [
    Quantity("test accuracy, %", "test_accuracy", percent, SHARE),
    Quantity("flip-averaged test accuracy, %", "test_accuracy_flip", percent, SHARE),
    Quantity("best validation accuracy (highest of the epochs), %", "best_val_accuracy", percent, SHARE),
    Quantity("last training accuracy, %", "train_accuracy", percent, SHARE),
    Quantity("mean training accuracy, %", "mean_train_accuracy", percent, SHARE),
    Quantity("training − test, points", "train_test_gap", percent, APART, "+"),
    Quantity("test loss", "test_loss", number, FROM_ZERO),
    Quantity("training time, s", "own_seconds", seconds, FROM_ZERO),
]


def accuracy_by_trial(results: Results) -> Table:
    """What each trial reached and how it stands."""
    notes = [
        "Training and validation are those of the last epoch. Test is that of the best epoch's weights, measured once. "
        "The headline is the plain test accuracy. Flip-averaged: the network sees each image and its mirror image, and "
        "the mean of both outputs decides; this is a separate figure. Losses are cross-entropies in nats (natural "
        "logarithm)."
    ]
    columns: list[Column[Trial]] = [
        Column("trial", lambda t: word(t["trial"]), is_name=True, in_terminal=True),
        Column("status", lambda t: word(t["status"]), is_name=True, in_terminal=True),
        Column("test %", lambda t: figure(t["test_accuracy"], percent), in_terminal=True),
        Column("validation %", lambda t: figure(t["val_accuracy"], percent), in_terminal=True),
        Column("training %", lambda t: figure(t["train_accuracy"], percent), in_terminal=True),
        Column("epochs", _epochs, in_terminal=True, parts=("", "planned")),
        Column("best epoch", lambda t: figure(t["best_epoch"], whole)),
        Column("seed", lambda t: Cell(str(t["seed"]), (t["seed"],))),
        Column("flip-averaged test %", lambda t: figure(t["test_accuracy_flip"], percent)),
        Column("training loss", lambda t: figure(t["train_loss"], number)),
        Column("validation loss", lambda t: figure(t["val_loss"], number)),
        Column("test loss", lambda t: figure(t["test_loss"], number)),
    ]
    return Table.of(
        "trials",
        "Accuracy and loss by trial",
        dicts(results.trials),
        columns,
        notes=notes,
        leak=leaks(results.trials),
        is_urgent=lambda t: t["status"] == "failed",
    )


def averages_by_arm(results: Results, tested: ComparedArms) -> Table:
    """n, mean, standard deviation and both 95 % intervals of every quantity, by arm."""
    arms, planned = tested.arms, results.trials["arm"].value_counts()
    records = [
        Average(arm, quantity, sample(finished[quantity.key], quantity.bounds), planned[arm], of.get(quantity.key))
        for arm, finished in results.finished_by_arm()
        for of in [{"test_accuracy": estimate(arms[arm]), "train_test_gap": gap_estimate(finished, arms[arm])}]
        for quantity in QUANTITIES
        if quantity.key != "train_test_gap" or arm not in blended_arms(results.spec)
    ]
    notes = [*_what_intervals_are(results, arms), *results.time_notes]
    columns: list[Column[Average]] = [
        Column("arm", lambda a: word(a.arm), is_name=True, in_terminal=True),
        Column("quantity", lambda a: word(a.quantity.name), is_name=True, in_terminal=True),
        Column("n", lambda a: trials_of(a.values.n, a.planned), in_terminal=True, parts=TRIALS),
        Column("mean", lambda a: figure(a.values.mean, a.quantity.show, a.quantity.sign), in_terminal=True),
        Column("sd", lambda a: figure(a.values.sd, a.quantity.show), in_terminal=True),
        Column("95 % interval over seeds", _interval, in_terminal=True, key="", parts=RANGE),
        Column("with other test images", _with_images, in_terminal=True, parts=WITH_IMAGES),
    ]
    notes = notes if records else [NOTHING_FINISHED]
    table = Table.of("averages", "Averages by arm", records, columns, notes=notes, leak=leaks(results.trials))
    return replace(table, groups=_by_quantity(records))


def _by_quantity(averages: Sequence[Average]) -> tuple[tuple[int, ...], ...]:
    """The numbers of each quantity's rows: all arms with it, or none."""
    return tuple(
        tuple(i for i, average in enumerate(averages) if average.quantity is quantity) for quantity in QUANTITIES
    )


def _interval(average: Average) -> Cell:
    return range_of(average.values, average.quantity.show, average.quantity.sign)


def _with_images(average: Average) -> Cell:
    quantity = average.quantity
    if average.of is None:
        return lacking(NONE, len(WITH_IMAGES))
    return with_images(average.of, quantity.show, quantity.sign, quantity.bounds)


def _what_intervals_are(results: Results, arms: Mapping[str, Arm]) -> list[str]:
    """What the intervals of the averages cover, and what they leave out."""
    notes = [
        "An arm is one configuration: all seeds of one recipe. Over finished trials, which differ only in their seed. "
        "sd: standard deviation. Over seeds: Student's t, on these images; one trial has no spread (n = 1). With other "
        "test images: what other seeds and other images, drawn as these were, would change; given for the plain test "
        "accuracy and for how far training is above it, where each trial has left predictions. Last training: of the "
        f"last epoch; mean training: over all epochs. Training time: {TRAINING_TIME}.",
        *([GROUPS_DRAWN] if results.facts.grouped else []),
        _what_varies(results.spec),
        "Best validation accuracy is the highest of the epochs, on the images that chose it: it flatters, and longer "
        "trainings more.",
    ]
    if (results.trials["status"] == "failed").any():
        notes.append("Failed trials are left out, which flatters an arm whose bad seeds fail.")
    known = [(name, arm) for name, arm in arms.items() if arm.answers and is_number(arm.disagreement)]
    return notes + [_disagreement(name, arm) for name, arm in known][:MOST_ARMS]


def _what_varies(spec: SweepSpec) -> str:
    """Between the seeds of an arm; the split only where its settings say so."""
    own = list(dict.fromkeys(trial.arm for trial in spec.trials if trial.data.split_varies))
    every = len(own) == len({trial.arm for trial in spec.trials})
    varied = ", their augmentation and which images train and validate" if every else " and their augmentation"
    of_some = f"; of {listed(own)} also which images train and validate" if own and not every else ""
    return (
        "Seeds vary the initial weights (of pretrained networks, the head's), the order of the images"
        f"{varied}{of_some}. The {'' if own else 'split, the '}test images, the file of pretrained weights and the "
        "settings are the same in every trial: what others would change is in no interval over seeds; other test "
        "images are in the second one."
    )


def _disagreement(name: str, arm: Arm) -> str:
    share, sd = arm.disagreement, arm.disagreement_sd
    return (
        f"{name}: two of its networks disagree on {100 * share:.1f} % of the images, which by itself makes a standard "
        f"deviation of {percent(sd)} points."
    )


def learning_speed(results: Results) -> Table:
    """Epochs and seconds to the threshold, and the mean training accuracy over epochs."""
    goal = f"{100 * THRESHOLD:.0f} %"
    best = results.epochs.groupby("trial")["val_accuracy"].max()
    columns: list[Column[Trial]] = [
        Column("trial", lambda t: word(t["trial"]), is_name=True, in_terminal=True),
        Column("epochs", _epochs, parts=("", "planned")),
        Column(f"epochs to {goal}", _epochs_to_goal, in_terminal=True),
        Column(f"seconds to {goal}", lambda t: figure(t["seconds_to_threshold"], seconds), in_terminal=True),
        Column("best validation %", lambda t: figure(best.get(t["trial"], math.nan), percent), in_terminal=True),
        Column("mean training % over epochs", lambda t: figure(t["mean_train_accuracy"], percent), in_terminal=True),
        Column("images/s", lambda t: figure(t["images_per_second"], seconds), key="images_per_second"),
    ]
    notes = [
        f"Counted to the end of the first epoch with a validation accuracy of at least {goal}. Seconds are of training "
        f"time: {TRAINING_TIME}.",
        *results.time_notes,
    ]
    begun = [trial for trial in dicts(results.trials) if trial["epochs_run"]]
    return Table.of("learning", "How fast they learn", begun, columns, notes=notes, leak=leaks(results.trials))


def recipes(results: Results) -> Table:
    """What each arm was trained with: the settings that no default explains, as resolved when the sweep was made."""
    of_arms = {arm: next(t.settings() for t in results.spec.trials if t.arm == arm) for arm in results.shown_arms}
    least = {"name": "default", "arm": "default", "seed": 1, "epochs": 1, "model": {"weights": "random"}}
    keys = [
        key
        for key, default in TrialSpec.model_validate(least).settings().items()
        if key in ASKED or any(settings[key] != default for settings in of_arms.values())
    ]
    notes = ["All other settings have their defaults, which sweeps/README.md lists. Seeds are in the table of trials."]
    columns: list[Column[str]] = [Column("setting", word, is_name=True), *map(_recipe, of_arms, of_arms.values())]
    title = "What each arm was trained with"
    return Table.of("recipe", title, keys, columns, notes=notes, leak=leaks(results.trials))


def _recipe(arm: str, settings: dict[str, str]) -> Column[str]:
    return Column(arm, lambda key: word(settings[key]), key=arm)


def _epochs(trial: Trial) -> Cell:
    """How many of the planned epochs a trial has."""
    early = ", stopped early" if trial["stopped_early"] is True else ""
    counts = trial["epochs_run"], trial["epochs_planned"]
    return Cell(f"{counts[0]} of {counts[1]}{early}", counts)


def _epochs_to_goal(trial: Trial) -> Cell:
    if is_number(trial["epochs_to_threshold"]):
        return figure(trial["epochs_to_threshold"], whole)
    return lacking("not reached" if trial["status"] == "finished" else "not yet")
