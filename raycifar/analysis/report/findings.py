"""What the numbers say, in words: the answer with its uncertainty, and at what cost."""

from collections.abc import Sequence

from raycifar.analysis.learning import blended_arms, common_limit
from raycifar.analysis.results import Results
from raycifar.analysis.stats import SHARE, Sample, proportion_interval, sample
from raycifar.analysis.trial_state import STATUSES
from raycifar.analysis.wording import (
    TRAINING_TIME,
    between,
    blended,
    compare,
    cut_at,
    epochs_of,
    listed,
    n_of,
    percent,
    signed,
    whole,
)
from raycifar.config.architectures import title_of
from raycifar.config.sweep import TrialSpec

MOST_NAMED = 4  # arms that the answer names one by one


def answer(results: Results) -> str:
    """One plain paragraph: who is ahead, by how much, and how sure."""
    finished = results.finished
    if finished.empty:
        return f"No trial has finished, so nothing has been tested yet. {_so_far(results)}"
    samples = _samples(results)
    images = finished.groupby("arm")["test_images"].max().astype(int)
    planned = results.trials["arm"].value_counts()
    others = f"; the other {len(samples) - MOST_NAMED:,} arms get no more right" if len(samples) > MOST_NAMED else ""
    samples = _named(samples)
    reached = "; ".join(_reached(arm, samples[arm], images[arm], planned[arm]) for arm in samples)
    tested = " or ".join(f"{number:,}" for number in dict.fromkeys(images[arm] for arm in samples))
    sentences = [_question(results, list(samples)), f"Of the {tested} test images, {reached}{others}."]
    sentences += _comparisons(samples)
    if others:
        sentences.append("The best of many arms looks better than it is, since these numbers picked it.")
    if len(finished) < len(results.trials):
        sentences.append(f"Finished trials: {len(finished)} of {len(results.trials)}; the rest are not in these means.")
    return " ".join(sentence for sentence in sentences if sentence)


def costs(results: Results) -> str:
    """A second paragraph: at what cost in time, and how far training is above test. Empty where none finished."""
    arms = list(_named(_samples(results)))
    return f"{_costs(results, arms)} {_gaps(results, arms)}" if arms else ""


def _samples(results: Results) -> dict[str, Sample]:
    """The test accuracies of every arm of which a trial has finished."""
    finished = results.finished
    samples = {arm: sample(finished.loc[finished["arm"] == arm, "test_accuracy"], SHARE) for arm in results.arms}
    return {arm: accuracies for arm, accuracies in samples.items() if accuracies.n}


def _named(samples: dict[str, Sample]) -> dict[str, Sample]:
    """The best MOST_NAMED arms, in their own order."""
    ranked = sorted(samples, key=lambda arm: -samples[arm].mean)
    return {arm: accuracies for arm, accuracies in samples.items() if arm in ranked[:MOST_NAMED]}


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
    return f" ({title_of(trial.model.name)})" if len(results.networks) > 1 else ""


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


def _reached(arm: str, accuracies: Sample, images: int, planned: int) -> str:
    mean = percent(accuracies.mean)
    if accuracies.n > 1:
        cut = cut_at(accuracies.is_cut_low, accuracies.is_cut_high)
        spread = accuracies.note or (
            f"95 % interval {between(accuracies.low, accuracies.high, percent)} %{cut}, standard deviation "
            f"{percent(accuracies.sd)} points"
        )
        return f"{arm} gets {mean} % right on average over {accuracies.n} trials ({spread})"
    range_ = between(*proportion_interval(accuracies.mean, images), percent)
    which = "its one trial" if planned == 1 else f"the one of its {planned} trials that has finished"
    pinned = f"95 % interval from its {images:,} test images alone: {range_} %"
    return f"{arm} gets {mean} % right in {which} ({accuracies.note}; {pinned})"


def _comparisons(samples: dict[str, Sample]) -> list[str]:
    """The best arm against each other one, up to three."""
    best, *others = sorted(samples, key=lambda arm: -samples[arm].mean)
    return [compare((best, other), samples[best], samples[other]) for other in others[:3]]


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


def _gaps(results: Results, arms: Sequence[str]) -> str:
    finished = results.finished
    means = {arm: finished.loc[finished["arm"] == arm, "train_test_gap"].mean() for arm in arms}
    gaps = ", ".join(f"{signed(100 * mean, 2)} points for {arm}" for arm, mean in means.items())
    why = blended([arm for arm in blended_arms(results.spec) if arm in arms])
    sentence = f"Training accuracy minus test accuracy is {gaps}: above 0 it is over-fitting."
    return f"{sentence} But {why}." if why else sentence
