"""Three questions of a reader, answered in a sentence each: which is better, with other images too, and how sure."""

from collections.abc import Mapping

from raycifar.analysis.report.comparing import LEAST_ARMS, farthest, in_images, share
from raycifar.analysis.statistics.contrasts import ALPHA, Arm, Estimate, Span, estimate
from raycifar.analysis.statistics.families import Comparison
from raycifar.analysis.tested_arms import ComparedArms
from raycifar.analysis.wording import between, is_level, p_is, percent, points

WHICH, OTHER_IMAGES, HOW_SURE = "Which is better?", "With other test images, too?", "How sure is that?"
HOW_GOOD = "How accurate is it?"  # of an arm that has no other beside it
Answers = list[tuple[str, str]]  # questions and answers


def plainly(tested: ComparedArms) -> Answers:
    """Of the best arm and the baseline; where that is the best, of the next one. Nothing without a tested trial."""
    arms = tested.arms
    if len(arms) < 2:
        return [answer for name, arm in arms.items() for answer in _alone(name, arm, tested.planned.get(name, 0))]
    nearest = max(tested.with_best, key=lambda one: (one.b == tested.baseline, arms[one.b].mean))
    return [
        (WHICH, _which(nearest, tested)),
        (OTHER_IMAGES, _other_images(nearest, arms, tested.family.size)),
        (HOW_SURE, _how_sure(nearest, arms, tested.family.size)),
    ]


def _alone(name: str, arm: Arm, planned: int) -> Answers:
    of, trials = estimate(arm), _of_trials(arm.n, planned) + " trials" * (arm.n > 1 and arm.n >= planned)
    return [
        (HOW_GOOD, f"{name} gets {percent(of.mean)} % of the test images right ({trials}); no other arm is tested."),
        (OTHER_IMAGES, _alone_with_others(name, of)),
        (HOW_SURE, _alone_how_sure(arm.n, of)),
    ]


def _alone_with_others(name: str, of: Estimate) -> str:
    if of.networks.known:
        return f"This network would get {share(of.networks)} of other test images right; {OTHER_SEEDS}."
    if of.images.known:
        return f"With new seeds and new test images of the same kind, {name} would get {share(of.images)} right."
    return MISSING if of.seeds.known else NOT_KNOWN


def _alone_how_sure(n: int, of: Estimate) -> str:
    if n == 1:
        return "Not sure: with one trial (n = 1), nothing says how far another seed would fall."
    if not of.seeds.known:
        return ALIKE
    return f"By these {n} trials, the mean of many more would be {share(of.seeds)} on these images (95 % interval)."


def _which(one: Comparison, tested: ComparedArms) -> str:
    arms, planned = tested.arms, tested.planned
    a, b = arms[one.a], arms[one.b]
    trials = trials_of((a.n, b.n), (planned.get(one.a, 0), planned.get(one.b, 0)))
    if is_level(one.apart.mean):
        both = f"both get {percent(a.mean)} % of the test images right"
        return f"Neither {one.a} nor {one.b}: {both} ({trials})."
    many = f", the best of {len(arms)} arms," if len(arms) >= LEAST_ARMS else ""
    more = f"{points(one.apart.mean)} more than {one.b}{in_images(one.apart.mean, a)}"
    start = f"{not_shown(one.adjusted, one.apart)}{one.a}{many} gets"
    return f"{start} {percent(a.mean)} % of the test images right, {more} ({trials})."


def not_shown(adjusted: float, of: Estimate) -> str:
    """How a sentence begins on a difference that is not shown to be more than chance."""
    if adjusted < ALPHA:
        return "As far as one trial tells: " if of.is_assumed else ""
    return "Not shown: on these images "


def trials_of(n: tuple[int, int], planned: tuple[int, int]) -> str:
    """What is compared, of two arms of so many trials; with how many were planned, where some are missing."""
    if n[0] == n[1] and all(counted >= of for counted, of in zip(n, planned, strict=True)):
        return "one trial each" if n[0] == 1 else f"the means of {n[0]} trials each"
    return " against ".join(map(_of_trials, n, planned))


def _of_trials(n: int, planned: int) -> str:
    if n >= planned:
        return "1 trial" if n == 1 else f"the mean of {n}"
    return f"{'' if n == 1 else 'the mean of '}{n} of its {planned} trials"


def _other_images(one: Comparison, arms: Mapping[str, Arm], comparisons: int) -> str:
    pairs = len(arms) * (len(arms) - 1) // 2
    sizes = arms[one.a].n, arms[one.b].n
    return other_images(one.apart, (one.a, one.b), sizes, one.adjusted, comparisons if max(sizes) > 1 else pairs)


def other_images(
    of: Estimate, names: tuple[str, str], sizes: tuple[int, int], adjusted: float, comparisons: int
) -> str:
    """Whether the first of two would be ahead with other test images.

    Of one network each p is adjusted here, by Bonferroni, for so many `comparisons`: `adjusted` is not of networks.
    """
    if of.networks.known:
        start = _certain("Yes", of.networks, comparisons * of.p_networks, comparisons)
        return f"{start}: this network of {names[0]} would be {_ahead(of.networks)}; {OTHER_SEEDS}."
    if of.images.known:
        start = _certain(f"Yes, {names[0]} again", of.images, adjusted, comparisons)
        one, many = names if sizes[0] == 1 else names[::-1]
        condition = f", if {one} varies from seed to seed as {many} does" if of.is_assumed else ""
        with_others = f"with new seeds and new test images of the same kind, {names[0]} would be"
        return f"{start}: {with_others} {_ahead(of.images)}{condition}."
    if of.is_alike:
        return "Not known: the two networks differ by as much on every test image, which says nothing of others."
    return NOT_KNOWN if max(sizes) > 1 and not of.seeds.known else MISSING


OTHER_SEEDS = "what other seeds would change is not in that"
NOT_KNOWN = "Not known: within each arm all trials have the same value, so nothing says how far others would fall."
MISSING = (
    "Not known: only predictions of every trial on the same images tell what other images would change, and some are "
    "missing."
)
ALIKE = "Not sure: trials that all have the same value say nothing of how far others would fall."


def _certain(yes: str, span: Span, adjusted: float, comparisons: int) -> str:
    if adjusted < ALPHA:
        return yes
    alone = span.low > 0 and comparisons > 1
    return f"Not certain, as one of {comparisons:,} comparisons" if alone else "Not certain"


def _ahead(span: Span) -> str:
    if span.low >= 0:
        return f"ahead by {between(span.low, min(1.0, span.high), percent)} points"
    return f"between {percent(min(1.0, -span.low))} points behind and {percent(min(1.0, span.high))} points ahead"


def _how_sure(one: Comparison, arms: Mapping[str, Arm], comparisons: int) -> str:
    sizes = arms[one.a].n, arms[one.b].n
    flatters = f" And the best of {len(arms)} arms looks better than it is." if len(arms) >= LEAST_ARMS else ""
    return how_sure(one.apart, (one.a, one.b), sizes, one.adjusted, comparisons) + flatters


def how_sure(of: Estimate, names: tuple[str, str], sizes: tuple[int, int], adjusted: float, comparisons: int) -> str:
    """What the numbers of trials allow to say of a difference."""
    if max(sizes) == 1:
        return "Not sure: with one trial each (n = 1), nothing says how far another seed would fall."
    if not of.seeds.known:
        return ALIKE
    if of.is_assumed:
        one, many = names if sizes[0] == 1 else names[::-1]
        return (
            f"Less sure than it looks: {one} has one trial (n = 1), so how far another of its seeds would fall is "
            f"taken from {many}'s {max(sizes)} trials, not measured."
        )
    every = "both" if comparisons == 2 else f"all {comparisons:,}"
    counted = f", counting {every} comparisons" if comparisons > 1 else ""
    if adjusted < ALPHA:
        return f"Fairly sure: equal arms would seldom differ by so much ({p_is(adjusted)}{counted})."
    return (
        f"Not sure: equal arms may differ by as much ({p_is(adjusted)}{counted}), and a difference of up to "
        f"{farthest(of)} points is not excluded."
    )
