"""What the numbers say, in words: the answer with its uncertainty, and at what cost."""

from collections.abc import Sequence

from raycifar.analysis.learning import blended_arms, common_limit
from raycifar.analysis.report.comparing import SINGLE, ahead, best_of_many, either, reached, what_can_be_found
from raycifar.analysis.results import Results
from raycifar.analysis.statistics.contrasts import estimate
from raycifar.analysis.tested_arms import ComparedArms, gap_estimate
from raycifar.analysis.trial_state import STATUSES
from raycifar.analysis.wording import (
    TRAINING_TIME,
    epochs_of,
    listed,
    n_of,
    signed,
    whole,
)
from raycifar.config.sweep import TrialSpec

MOST_NAMED = 4  # arms that the answer names one by one


def answer(results: Results, tested: ComparedArms) -> str:
    """One plain paragraph: who is ahead, by how much, and how sure."""
    finished, arms = results.finished, tested.arms
    if not arms:
        return f"No trial has finished, so nothing has been tested yet. {_so_far(results)}"
    planned, named = results.trials["arm"].value_counts(), named_arms(results, tested)
    others = len(arms) - len(named)
    rest = f"; the other {others:,} arms get no more right than {tested.best}" if others else ""
    reaching = "; ".join(reached(arm, arms[arm], estimate(arms[arm]), planned[arm]) for arm in named)
    images = " or ".join(f"{number:,}" for number in dict.fromkeys(arms[arm].images for arm in named))
    sentences = [
        _question(results, named),
        f"Of the {images} test images, {reaching}{rest}.",
        *_comparisons(tested, named),
        best_of_many(arms),
        _findable(tested),
    ]
    if len(finished) < len(results.trials):
        sentences.append(f"Finished trials: {len(finished)} of {len(results.trials)}; the rest are not in these means.")
    if "failed" in set(results.trials["status"]):
        sentences.append("Failed trials are left out, which flatters an arm whose bad seeds fail.")
    return " ".join(sentence for sentence in sentences if sentence)


def costs(results: Results, tested: ComparedArms) -> str:
    """A second paragraph: at what cost in time, and how far training is above test. Empty where none finished."""
    named = named_arms(results, tested) if tested.arms else []
    return f"{_costs(results, named)} {_gaps(results, tested, named)}" if named else ""


def named_arms(results: Results, tested: ComparedArms) -> list[str]:
    """Up to MOST_NAMED tested arms, in their own order: the baseline, the best, and those that validate best.

    Those of the highest test accuracies would look better than they are.
    """
    validation = results.finished.groupby("arm")["best_val_accuracy"].mean()
    ranked = sorted(tested.arms, key=lambda arm: -validation.get(arm, 0.0))
    chosen = list(dict.fromkeys(arm for arm in (tested.baseline, tested.best, *ranked) if arm in tested.arms))
    return [arm for arm in tested.arms if arm in chosen[:MOST_NAMED]]


def _question(results: Results, arms: Sequence[str]) -> str:
    trials = {trial.arm: trial for trial in results.spec.trials}
    starts = {"imagenet": "ImageNet weights", "random": "random weights"}
    parts = [
        f'"{arm}"{_network(results, trials[arm])} from {starts[trials[arm].model.weights]} in '
        f"{epochs_of(trials[arm].epochs)}"
        for arm in arms
    ]
    arms_are = "an arm is one configuration: all seeds of one recipe"
    return f"{listed(results.networks)} trained on {results.facts.title}, by arm ({arms_are}): {', '.join(parts)}."


def _network(results: Results, trial: TrialSpec) -> str:
    """An arm's network, in brackets, where not all arms train the same one."""
    return f" ({results.network(trial)})" if len(results.networks) > 1 else ""


def status_line(results: Results) -> str:
    """How many trials stand how, for example "3 finished, 1 running"."""
    counts = results.trials["status"].value_counts()
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)


def _so_far(results: Results) -> str:
    if results.epochs.empty:
        return "There is no finished epoch either."
    best = results.epochs.iloc[int(results.epochs["val_accuracy"].argmax())]
    begun = [arm for arm in results.shown_arms if (results.epochs["arm"] == arm).any()]
    return (
        f"Epochs so far: {len(results.epochs)}, of {results.epochs['trial'].nunique()} of the trials; the best "
        f"validation accuracy is {100 * best['val_accuracy']:.2f} % ({best['trial']}, epoch {best['epoch']}). "
        f"{'; '.join(_arm_so_far(results, arm) for arm in begun)}."
    )


def _arm_so_far(results: Results, arm: str) -> str:
    """The accuracy at the newest epoch that all of the arm's trials have that have begun and not failed."""
    epochs = results.compared_epochs
    of_arm = epochs[epochs["arm"] == arm]
    epoch = common_limit(of_arm, "epoch")
    accuracies = of_arm.loc[of_arm["epoch"] == epoch, "val_accuracy"]
    planned = next(trial.epochs for trial in results.spec.trials if trial.arm == arm)
    n = n_of(len(accuracies), int((results.trials["arm"] == arm).sum()))
    return f"{arm} is at {100 * accuracies.mean():.2f} % ({n}) after {epoch:.0f} of {planned} epochs"


def _comparisons(tested: ComparedArms, named: Sequence[str]) -> list[str]:
    """The best arm against each other one that is named."""
    arms, shown = tested.arms, [one for one in tested.with_best if one.b in named]
    sentences = [
        ahead((one.a, one.b), one.apart, (arms[one.a], arms[one.b]), one.adjusted, tested.family.size) for one in shown
    ]
    return sentences + [SINGLE] * any(one.apart.pairs == 1 for one in shown)


def _findable(tested: ComparedArms) -> str:
    """What so many trials find, of the best arm and the baseline; where that is the best, of the next one."""
    if len(tested.arms) < 2:
        return ""
    arms, (best, *others) = tested.arms, sorted(tested.arms, key=lambda arm: -tested.arms[arm].mean)
    other = tested.baseline if tested.baseline in others else others[0]
    return what_can_be_found(arms, (arms[best], arms[other]))


def _costs(results: Results, arms: Sequence[str]) -> str:
    parts = []
    for arm in arms:
        spent = results.finished.loc[results.finished["arm"] == arm, "own_seconds"]
        combined = f" ({whole(spent.sum())} s combined)" if len(spent) > 1 else ""
        parts.append(f"{whole(spent.mean())} s for {arm}{combined}")
    return (
        f"The training time of a trial ({TRAINING_TIME}) was {', '.join(parts)}; the sweep's wall clock is "
        f"{whole(results.wall_seconds)} s."
    )


def _gaps(results: Results, tested: ComparedArms, arms: Sequence[str]) -> str:
    finished, unlike = results.finished, [arm for arm in blended_arms(results.spec) if arm in arms]
    gaps = {arm: gap_estimate(finished[finished["arm"] == arm], tested.arms[arm]) for arm in arms if arm not in unlike}
    given = [f"{signed(100 * gap.mean, 2)} points for {arm} ({either(gap)})" for arm, gap in gaps.items()]
    given += [f"not given for {listed(unlike)}, whose images are blended of two (Mixup, CutMix)"] if unlike else []
    return (
        f"Training accuracy, on augmented images while the weights change, minus test accuracy: {', '.join(given)}. It "
        "hints at over-fitting, it does not measure it."
    )
