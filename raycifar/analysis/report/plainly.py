"""Three questions of a reader, answered in a sentence each: which is better, with other images too, and how sure."""

from collections.abc import Mapping

from raycifar.analysis.contrasts import ALPHA, Arm, Estimate, estimate
from raycifar.analysis.families import Comparison
from raycifar.analysis.report.comparing import LEAST_ARMS, farthest, in_images
from raycifar.analysis.tested_arms import ComparedArms
from raycifar.analysis.wording import between, is_level, p_is, percent, points

WHICH, OTHER_IMAGES, HOW_SURE = "Which is better?", "With other test images, too?", "How sure is that?"
Answers = list[tuple[str, str]]  # questions and answers


def plainly(tested: ComparedArms) -> Answers:
    """Of the best arm and the baseline; where that is the best, of the next one. Nothing without a tested trial."""
    arms = tested.arms
    if len(arms) < 2:
        return [_alone(*one) for one in arms.items()]
    nearest = max(tested.with_best, key=lambda one: (one.b == tested.baseline, arms[one.b].mean))
    return [
        (WHICH, _which(nearest, arms)),
        (OTHER_IMAGES, _other_images(nearest, arms, tested.family.size)),
        (HOW_SURE, _how_sure(nearest, arms, tested.family.size)),
    ]


def _alone(name: str, arm: Arm) -> tuple[str, str]:
    of = estimate(arm)
    return WHICH, f"{name} gets {percent(of.mean)} % of the test images right; no other arm has been tested."


def _which(one: Comparison, arms: Mapping[str, Arm]) -> str:
    a, b = arms[one.a], arms[one.b]
    if is_level(one.apart.mean):
        return f"Neither {one.a} nor {one.b}: both get {percent(a.mean)} % of the test images right ({_trials(a, b)})."
    many = f", the best of {len(arms)} arms," if len(arms) >= LEAST_ARMS else ""
    more = f"{points(one.apart.mean)} more than {one.b}{in_images(one.apart.mean, a)}"
    start = f"{not_shown(one.adjusted, one.apart)}{one.a}{many} gets"
    return f"{start} {percent(a.mean)} % of the test images right, {more} ({_trials(a, b)})."


def not_shown(adjusted: float, of: Estimate) -> str:
    """How a sentence begins on a difference that is not shown to be more than chance."""
    if adjusted < ALPHA:
        return "As far as one trial tells: " if of.is_assumed else ""
    return "That is not shown: on these images "


def _trials(a: Arm, b: Arm) -> str:
    if max(a.n, b.n) == 1:
        return "one trial each"
    each = " against ".join("1 trial" if arm.n == 1 else f"the mean of {arm.n}" for arm in (a, b))
    return f"the means of {a.n} trials each" if a.n == b.n else each


def _other_images(one: Comparison, arms: Mapping[str, Arm], comparisons: int) -> str:
    return other_images(one.apart, (one.a, one.b), (arms[one.a].n, arms[one.b].n), one.adjusted, comparisons)


def other_images(
    of: Estimate, names: tuple[str, str], sizes: tuple[int, int], adjusted: float, comparisons: int
) -> str:
    """Whether the first of two would be ahead with other test images."""
    if of.networks.known:
        start = "Yes, these two networks" if of.networks.low > 0 else "Not certain: these two networks"
        return f"{start} would be {_range(of.networks)} apart; what other seeds would change is not in that."
    if of.images.known:
        start = f"Yes, {names[0]} again" if adjusted < ALPHA else "Not certain"
        if adjusted >= ALPHA and of.images.low > 0:
            start += f", as one of {comparisons:,} comparisons"
        one, many = names if sizes[0] == 1 else names[::-1]
        condition = f", if {one}'s seeds spread as {many}'s do" if of.is_assumed else ""
        with_others = f"with new seeds and new test images of the same kind, {names[0]} would be ahead by"
        return f"{start}: {with_others} {_range(of.images)}{condition}."
    if min(sizes) > 1 and not of.seeds.known:
        return "Not known: within each arm all trials have the same value, so nothing says how far others would fall."
    return "Not known: not every trial has left predictions, and only those tell what other images would change."


def _range(span: tuple[float, float]) -> str:
    return f"{between(*span, percent, '+')} points"


def _how_sure(one: Comparison, arms: Mapping[str, Arm], comparisons: int) -> str:
    sizes = arms[one.a].n, arms[one.b].n
    flatters = f" And the best of {len(arms)} arms looks better than it is." if len(arms) >= LEAST_ARMS else ""
    return how_sure(one.apart, (one.a, one.b), sizes, one.adjusted, comparisons) + flatters


def how_sure(of: Estimate, names: tuple[str, str], sizes: tuple[int, int], adjusted: float, comparisons: int) -> str:
    """What the numbers of trials allow to say of a difference."""
    if max(sizes) == 1:
        return "Not sure: with one trial each (n = 1), nothing says how far another seed would fall."
    if not of.seeds.known:
        return "Not sure: trials that all have the same value say nothing of how far others would fall."
    if of.is_assumed:
        one, many = names if sizes[0] == 1 else names[::-1]
        return (
            f"Less sure than it looks: {one} has one trial (n = 1), so how far another of its seeds would fall is "
            f"taken from {many}'s {max(sizes)} trials, not measured."
        )
    counted = f", counting all {comparisons} comparisons" if comparisons > 1 else ""
    if adjusted < ALPHA:
        return f"Fairly sure: equal arms would seldom differ by so much ({p_is(adjusted)}{counted})."
    return (
        f"Not sure: equal arms may differ by as much ({p_is(adjusted)}{counted}), and a difference of up to "
        f"{farthest(of)} points is not excluded."
    )
