"""What to be careful with, in words, before any number."""

from collections.abc import Container, Mapping, Sequence

from raycifar.analysis.learning import blended_arms
from raycifar.analysis.reference import load_reference
from raycifar.analysis.report.findings import status_line
from raycifar.analysis.results import LEAK, MOST_ARMS, Results
from raycifar.analysis.wording import listed
from raycifar.config.sweep import TrialSpec

MOST_LINES = 10  # of one kind that a reader reads


def cautions(results: Results, unusable: Sequence[str] = ()) -> list[str]:
    """What a reader must know before any number: a line each: the notes on the sweep, then the gravest first.

    `unusable` has a line for each file of predictions that cannot be used.
    """
    return [
        *noted("this sweep", results),
        *_incomplete(results),
        *_leaking(results),
        *_unlike_arms(results),
        *_unlike_reference(results),
        *_in_part(results),
        *_many_arms(results),
        *_unreadable([*results.problems, *unusable]),
    ]


def noted(sweep: str, results: Results) -> list[str]:
    """The sweep's notes, a line for each paragraph; of many the first MOST_LINES."""
    rest = len(results.notes) - MOST_LINES
    more = [f"Note on {sweep}: {rest:,} more paragraphs are in its notes.md."] if rest > 0 else []
    return [f"Note on {sweep}: {note}" for note in results.notes[:MOST_LINES]] + more


def _incomplete(results: Results) -> list[str]:
    if results.running:
        return [f"Still running: {status_line(results)}. The numbers are those so far."]
    if len(results.finished) < len(results.trials):
        return [f"Not every trial finished: {status_line(results)}."]
    return []


def _leaking(results: Results) -> list[str]:
    arms = [trial.arm for trial in results.spec.trials if trial.data.validation == "train"]
    if not arms:
        return []
    return [
        f"{listed(arms)}: {LEAK}. Validation figures, and the best epoch chosen by them, say nothing about images "
        "that the network has not seen; only the test figures do."
    ]


def _unlike_reference(results: Results) -> list[str]:
    reference = load_reference()
    if not reference.is_of(results.spec):
        return []
    differences = reference.differences(results.spec)
    return [f"Not comparable with the reference report: {'; '.join(differences)}."] if differences else []


def _in_part(results: Results) -> list[str]:
    if not any(trial.data.train_images for trial in results.spec.trials):
        return []
    title, networks = results.facts.title, listed(results.networks)
    return [f"A run on a part of {title} shows that everything works, not how accurate {networks} can be."]


def _many_arms(results: Results) -> list[str]:
    if len(results.arms) <= MOST_ARMS:
        return []
    return [
        f"{len(results.arms):,} arms: figures, and tables with a column for each arm, show the {MOST_ARMS} of the "
        "highest mean validation accuracy."
    ]


def _unreadable(problems: Sequence[str]) -> list[str]:
    notes = [f"Unreadable: {problem}" for problem in problems[:MOST_LINES]]
    if len(problems) > MOST_LINES:
        notes.append(f"{len(problems) - MOST_LINES:,} more files are unreadable; trials.csv names their trials.")
    return notes


def _unlike_arms(results: Results) -> list[str]:
    """Arms whose figures do not compare with those of the others; trials on unlike devices, or slowed down."""
    begun = set(results.epochs["arm"])  # an arm without an epoch has no figures to be cautious about
    arms = {trial.arm: trial for trial in results.spec.trials if trial.arm in begun}
    return [
        *_unlike_images(arms),
        *_unlike_devices(results),
        *_slower(results),
        *_enlarged(results, arms),
        *_mixed(results, arms),
    ]


def _unlike_images(arms: Mapping[str, TrialSpec]) -> list[str]:
    notes = []
    for verb, which in (("validated", 1), ("tested", 2)):
        numbers = {arm: trial.data.images[which] for arm, trial in arms.items()}
        if len(set(numbers.values())) > 1:
            each = [f"{arm} on {number:,}" for arm, number in numbers.items()]
            notes.append(f"The arms are not {verb} on the same images: {listed(each)}.")
    return notes + _unlike_splits(arms)


def _unlike_splits(arms: Mapping[str, TrialSpec]) -> list[str]:
    splits = {arm: trial.data.split_seed for arm, trial in arms.items() if trial.data.draws_training}
    if len(set(splits.values())) < 2:
        return []
    each = [f"{arm} with {split if split != 'trial' else 'the seed of each trial'}" for arm, split in splits.items()]
    return [f"The arms' training and held-out images are not the same draw (data.split_seed): {listed(each)}."]


def _unlike_devices(results: Results) -> list[str]:
    devices = results.sessions["device"].dropna().unique().tolist()
    if len(devices) < 2:
        return []
    return [f"Times do not compare between trials on different devices: {listed(devices)}."]


def _slower(results: Results) -> list[str]:
    sessions = zip(results.sessions["trial"], results.sessions["warnings"], strict=True)
    slow = [f"{trial} ({line})" for trial, lines in sessions for line in lines]
    return [f"Some trials were slower than they might have been: {listed(slow)}."] if slow else []


def _enlarged(results: Results, arms: Mapping[str, TrialSpec]) -> list[str]:
    side = results.facts.side
    return [
        f"{arm} enlarges its images to {trial.model.sees(side)} pixels a side inside the network, which "
        f"multiplies the work by about {(trial.model.sees(side) / side) ** 2:.0f}: do not "
        "compare its times with the others'."
        for arm, trial in arms.items()
        if trial.model.sees(side) > side
    ]


def _mixed(results: Results, arms: Container[str]) -> list[str]:
    """Those of the arms that train on images blended of two."""
    mixed = [arm for arm in blended_arms(results.spec) if arm in arms]
    if not mixed:
        return []
    verb = "trains" if len(mixed) == 1 else "train"
    return [
        f"{', '.join(mixed)} {verb} on images blended of two (Mixup, CutMix), whose right answer is the label of the "
        "larger share: the training accuracy cannot be compared with that of arms that train on unblended images."
    ]
