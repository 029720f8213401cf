"""Estimates as sentences: how accurate an arm is, how far two are apart, how sure, and what cannot be concluded."""

import math
from collections.abc import Mapping

from raycifar.analysis.statistics.contrasts import ALPHA, Arm, Estimate, Span
from raycifar.analysis.statistics.formulas import APART, SHARE, sample
from raycifar.analysis.statistics.power import detectable, expected_maximum, missed, spread_range, trials_needed
from raycifar.analysis.wording import between, cut_at, is_level, p_is, percent, points

WORTH_FINDING = 0.002  # a difference of accuracies that one would like to find, as a fraction
FEW_IMAGES = 10  # a difference of fewer is told in images
LEAST_ARMS = 3  # from which on the best one is seen to flatter


def reached(name: str, arm: Arm, of: Estimate, planned: int) -> str:
    """What an arm got right, with both intervals or what is left out of them."""
    mean = percent(of.mean)
    if arm.n == 1:
        which = "its one trial" if planned == 1 else f"the one of its {planned} trials that has finished"
        alone = f"; with other test images this network would get {share(of.networks)}" if of.networks.known else ""
        return f"{name} gets {mean} % right in {which} (n = 1: no spread over seeds{alone})"
    values = sample(arm.accuracies)
    trials = f"{arm.n} trials" if arm.n == planned else f"{arm.n} of its {planned} trials"
    return f"{name} gets {mean} % right on average over {trials} ({values.note or _both(of, values.sd)})"


def _both(of: Estimate, sd: float) -> str:
    images = f"with other test images {share(of.images)}" if of.images.known else f"{LEFT_OUT}"
    return (
        f"95 % interval over seeds, on these images, {share(of.seeds)}; {images}; standard deviation "
        f"{percent(sd)} points"
    )


def in_short(of: Estimate) -> str:
    """A mean accuracy with its intervals, those that are known."""
    if of.networks.known:
        return f"{percent(of.mean)} % (this network with other test images {share(of.networks)})"
    known = {"over seeds": of.seeds, "with other test images": of.images}
    parts = [f"{name} {share(span)}" for name, span in known.items() if span.known]
    return f"{percent(of.mean)} % ({', '.join(parts) or 'no interval'})"


LEFT_OUT = "what other test images would change is left out, for want of predictions of each trial on the same images"


def share(span: Span) -> str:
    """An interval of accuracies, cut at what they can be."""
    low, high = max(span.low, SHARE[0]), min(span.high, SHARE[1])
    return f"{between(low, high, percent)} %{cut_at(span.low < SHARE[0], span.high > SHARE[1])}"


def ahead(names: tuple[str, str], of: Estimate, arms: tuple[Arm, Arm], adjusted: float, comparisons: int) -> str:
    """How far the first of two arms is ahead of the other one, and how sure that is."""
    lead = f"That puts {names[0]} {points(of.mean)} ahead of {names[1]}"
    if is_level(of.mean):
        lead = f"That puts {names[0]} level with {names[1]}"
    sizes = arms[0].n, arms[1].n
    if max(sizes) == 1:
        alone = f" (on other test images these two networks would be {span(of.networks)} points apart)"
        return f"{lead}{in_images(of.mean, arms[0])}{alone if of.networks.known else ''}."
    if not of.seeds.known and min(sizes) > 1:
        return f"{lead}; within each arm all trials have the same value, so there is no interval."
    one, many = names if sizes[0] == 1 else names[::-1]
    if not of.seeds.known:
        same = f"{many} trials that all have the same value"
        return f"{lead}. With one {one} trial, and {same}, the difference has no interval."
    if of.is_assumed:
        return f"{lead}. {assumed(one, many, of)}"
    pairs = f" Of the {of.pairs} pairs of one trial each, {names[0]} is above in {of.above}."
    return f"{lead} ({intervals(of, 'Welch', adjusted, comparisons)}).{pairs}"


def intervals(of: Estimate, method: str, adjusted: float, comparisons: int) -> str:
    """Both intervals of a difference, with what follows from them."""
    over_seeds = f"95 % interval over seeds {span(of.seeds)}, {method}"
    images = f"with other test images {span(of.images)}" if of.images.known else LEFT_OUT
    return f"{over_seeds}; {images}: {verdict(of, adjusted, comparisons)}"


def either(of: Estimate) -> str:
    """Both intervals of a difference in short, or what of them is left out."""
    if of.networks.known:
        return f"this network with other test images {span(of.networks)}"
    seeds = f"95 % interval over seeds {span(of.seeds)}" if of.seeds.known else "no interval over seeds"
    return f"{seeds}, with other test images {span(of.images) if of.images.known else 'not known'}"


def verdict(of: Estimate, adjusted: float, comparisons: int) -> str:
    """Whether chance is excluded, with as many comparisons as were made; and else, what is not excluded."""
    both = "both exclude" if of.images.known else "it excludes"
    if not of.widest.excludes_zero:
        return _not_excluded(of)
    if comparisons <= 1:
        return f"{both} 0"
    if adjusted < ALPHA:
        return f"{both} 0, also after Holm for {comparisons} comparisons ({p_is(adjusted)})"
    not_then = "they do not" if of.images.known else "it does not"
    return f"alone {both} 0, after Holm for {comparisons} comparisons {not_then} ({p_is(adjusted)}): it may be chance"


def _not_excluded(of: Estimate) -> str:
    most = f"one of up to {farthest(of)} points"
    if of.seeds.excludes_zero:
        return f"the first excludes 0, the second does not: with other images there may be no difference, or {most}"
    both = "both include" if of.images.known else "it includes"
    return f"{both} 0, so these trials show no difference, and do not exclude {most}"


def farthest(of: Estimate) -> str:
    """The largest difference that the widest interval holds, in points without its sign."""
    return percent(min(1.0, max(abs(of.widest.low), abs(of.widest.high))))


def span(of: Span) -> str:
    """The interval of a difference, in points, cut at what it can be."""
    cut = ", cut at 100" if of.low < APART[0] or of.high > APART[1] else ""
    return between(max(of.low, APART[0]), min(of.high, APART[1]), percent, "+") + cut


def assumed(one: str, many: str, of: Estimate) -> str:
    """One trial against several."""
    images = f" (with other test images, too, {span(of.images)})" if of.images.known else ""
    zero = "" if of.widest.excludes_zero else ", which does not exclude that there is none"
    wrong = f"{100 * missed(of.pairs):.0f} of 100 cases instead of 5"
    return (
        f"If {one}'s seeds spread as {many}'s do, the difference is {span(of.seeds)} points{images}{zero}; nothing "
        f"here says whether they do, and if they spread twice as much, the first interval misses in {wrong}."
    )


SINGLE = "With one trial each, nothing says how far another seed would fall: a difference may be chance."


def in_images(difference: float, arm: Arm) -> str:
    """ ", which is 1 image of 1,000": where a difference is of few."""
    count = round(abs(difference) * arm.images)
    if not 0 < count < FEW_IMAGES:
        return ""
    return f", which is {count} image{'s' * (count > 1)} of {arm.images:,}"


def best_of_many(arms: Mapping[str, Arm]) -> str:
    """That the best of several arms flatters, and by how much; empty below LEAST_ARMS."""
    if len(arms) < LEAST_ARMS:
        return ""
    start = f"The best of {len(arms)} arms looks better than it is, since these numbers picked it"
    sd, _ = spread(arms)
    if math.isnan(sd):
        return f"{start}; with one trial each nothing says by how much."
    size = expected_maximum(len(arms)) * sd * math.sqrt(sum(1 / arm.n for arm in arms.values()) / len(arms))
    return f"{start}: by about {percent(size)} points, if all were equal. Its interval does not allow for that."


def spread(arms: Mapping[str, Arm]) -> tuple[float, int]:
    """The standard deviation of a trial over all arms together, and its degrees of freedom; NaN where there is none."""
    several = [arm for arm in arms.values() if arm.n > 1]
    freedom = sum(arm.n - 1 for arm in several)
    squares = sum(arm.variance * arm.n * (arm.n - 1) for arm in several)
    return (math.sqrt(squares / freedom), freedom) if squares > 0 else (math.nan, 0)


def disagreement_sd(arms: Mapping[str, Arm]) -> float:
    """The standard deviation that the disagreement of an arm's networks makes by itself, the mean over arms."""
    sds = [arm.disagreement_sd for arm in arms.values() if arm.n > 1 and arm.answers is not None]
    return math.sqrt(sum(sd * sd for sd in sds) / len(sds)) if sds else math.nan


def what_can_be_found(arms: Mapping[str, Arm], pair: tuple[Arm, Arm]) -> str:
    """The difference that so many trials find, and the trials that WORTH_FINDING takes; empty without a spread."""
    seen, freedom = spread(arms)
    if math.isnan(seen):
        return ""
    floor = disagreement_sd(arms)
    sd = max(seen, floor) if floor > 0 else seen
    low, high = spread_range(seen, freedom)
    known = f"the trials show {percent(seen)}, by which it may be {percent(low)} to {percent(high)}"
    if floor > seen:
        known += f"; that their networks disagree makes {percent(floor)} by itself"
    least = detectable(pair[0].n, pair[1].n) * sd
    return (
        f"{_trials(pair)} and a spread of {percent(sd)} points ({known}), only differences of {percent(least)} points "
        f"or more are found in 4 of 5 cases on these images; {_needed(sd)}."
    )


def _trials(pair: tuple[Arm, Arm]) -> str:
    few, many = sorted(arm.n for arm in pair)
    return f"With {many} trials each" if few == many else f"With {many} trials against {few}"


def _needed(sd: float) -> str:
    needed = trials_needed(round(WORTH_FINDING / sd, 6))
    return f"{100 * WORTH_FINDING:g} points take {f'{needed} trials' if needed else 'more than 1,000 trials'} each"
