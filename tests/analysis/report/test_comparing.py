"""Estimates as sentences. Each says what it knows, and what is left out of it."""

from collections.abc import Sequence

import numpy as np
import pytest

from raycifar.analysis.report.comparing import ahead, best_of_many, reached, what_can_be_found
from raycifar.analysis.report.plainly import HOW_GOOD, HOW_SURE, OTHER_IMAGES, WHICH, plainly, trials_of
from raycifar.analysis.statistics.contrasts import Arm, estimate
from raycifar.analysis.statistics.families import compare
from raycifar.analysis.statistics.formulas import difference, sample
from raycifar.analysis.tested_arms import ComparedArms

REPORT_TEST_ACCURACIES = [0.8573, 0.8600, 0.8611]  # the reference report's three transfer runs


def arm(*shares: float, images: int = 1000) -> Arm:
    """Networks of these accuracies; the images that are right come in turn, from another one on in each."""
    right = [np.roll(np.arange(images) < round(share * images), 7 * i) for i, share in enumerate(shares)]
    return Arm.of(np.array(right))


def known(shares: Sequence[float], images: int = 1000) -> Arm:
    """Without predictions."""
    return Arm(np.array(shares), None, images)


def sentence(**arms: Arm) -> str:
    """On the best of them and the next one."""
    family = compare(arms, "")
    one = max(family.comparisons, key=lambda one: arms[one.b].mean)
    return ahead((one.a, one.b), one.apart, (arms[one.a], arms[one.b]), one.adjusted, family.size)


def replies(**arms: Arm) -> dict[str, str]:
    return dict(plainly(ComparedArms.of(arms, next(iter(arms)))))


def test_an_arm_has_both_intervals() -> None:
    of = arm(0.70, 0.72, 0.74)
    text = reached("a", of, estimate(of), 3)
    assert text.startswith("a gets 72.00 % right on average over 3 trials (95 % interval over seeds, on these images, ")
    assert "67.03 to 76.97 %; with other test images " in text
    assert text.endswith("; standard deviation 2.00 points)")


@pytest.mark.parametrize(
    ("of", "planned", "says"),
    [
        (known([0.7, 0.8]), 3, "over 2 of its 3 trials (95 % interval over seeds, on these images, "),
        (known([0.7, 0.8]), 2, "%, cut at 100 %; what other test images would change is left out, for want of pred"),
        (known([0.5, 0.5]), 2, "50.00 % right on average over 2 trials (2 equal: no interval)"),
        (arm(1.0, 1.0), 2, "100.00 % right on average over 2 trials (2 equal: no interval)"),
        (
            arm(0.0),
            1,
            "0.00 % right in its one trial (n = 1: no spread over seeds; with other test images this network",
        ),
        (arm(0.0), 1, "would get 0.00 to 0.38 %)"),
        (arm(1.0), 1, "would get 99.62 to 100.00 %)"),
        (known([0.5], 0), 2, "the one of its 2 trials that has finished (n = 1: no spread over seeds)"),
    ],
)
def test_what_is_not_known_of_an_arm_is_said(of: Arm, planned: int, says: str) -> None:
    assert says in reached("a", of, estimate(of), planned)


def test_two_arms_with_repeats_get_both_intervals_and_a_verdict() -> None:
    text = sentence(a=arm(0.95, 0.951, 0.952), b=arm(0.92, 0.921, 0.922))
    assert text.startswith(
        "That puts a 3.00 percentage points ahead of b (95 % interval over seeds +2.77 to +3.23, Welch"
    )
    assert "; with other test images +" in text
    assert "both exclude 0). Of the 9 pairs of one trial each, a is above in 9." in text


def test_a_difference_that_is_not_shown_is_not_denied() -> None:
    text = sentence(a=known([0.9, 0.95]), b=known([0.91, 0.93]))
    welch = difference(sample([0.9, 0.95]), sample([0.91, 0.93]))
    assert "it includes 0, so these trials show no difference, and do not exclude one of up to " in text
    assert f"one of up to {100 * max(-welch.low, welch.high):.2f} points" in text
    assert welch.high > 0.001 - welch.low  # the farther end
    assert "Of the 4 pairs of one trial each, a is above in 2." in text
    level = sentence(a=known([0.9, 0.95]), b=known([0.9, 0.93]))
    assert "Of the 4 pairs of one trial each, a is above in 2." in level  # 90 % twice is no pair in which it is


def test_no_difference_is_said_to_be_beyond_what_two_shares_can_be_apart() -> None:
    wide = {"a": known([0.1, 0.9]), "b": known([0.0, 0.8])}
    assert "95 % interval over seeds −100.00 to +100.00, cut at 100, Welch" in sentence(**wide)
    assert "one of up to 100.00 points" in sentence(**wide)
    predicted = {"a": arm(0.1, 0.9), "b": arm(0.05, 0.8)}
    assert "between 100.00 points behind and 100.00 points ahead" in replies(**predicted)[OTHER_IMAGES]


def test_after_many_comparisons_what_excludes_0_alone_may_be_chance() -> None:
    shares = {"a": (0.93, 0.932), "b": (0.92, 0.922), "c": (0.92, 0.923), "d": (0.919, 0.922)}
    arms = {name: known(of) for name, of in shares.items()}
    text = sentence(**arms)
    assert "alone it excludes 0, after Holm for 6 comparisons it does not (p = 0." in text
    assert text.split("): ")[1].startswith("it may be chance")
    shown = {name: known([of, of + 0.0001, of + 0.0002]) for name, of in (("a", 0.93), ("b", 0.92), ("c", 0.91))}
    assert "it excludes 0, also after Holm for 3 comparisons (p < 0.0001)" in sentence(**shown)


def test_seeds_that_agree_on_these_images_say_nothing_of_others() -> None:
    text = sentence(a=arm(0.760, 0.761, 0.762, images=1000), b=opposite(0.750, 0.751, 0.752))
    assert (
        "the first excludes 0, the second does not: with other images there may be no difference, or one of up" in text
    )


def opposite(*shares: float) -> Arm:
    """Right where `arm` is wrong, as far as that goes."""
    return Arm.of(np.array([np.arange(1000) >= 1000 - round(share * 1000) for share in shares]))


def test_one_trial_against_several_says_what_it_assumes() -> None:
    text = sentence(transfer=arm(*REPORT_TEST_ACCURACIES, images=10_000), scratch=arm(0.8700, images=10_000))
    assert text.startswith("That puts scratch 1.05 percentage points ahead of transfer. If scratch's seeds spread as")
    assert "transfer's do, the difference is +0.08 to +2.02 points (with other test images, too, " in text
    end = "if they spread twice as much, the first interval misses in 14 of 100 cases instead of 5."
    assert text.endswith(f"nothing here says whether they do, and {end}")
    alone = sentence(transfer=known(REPORT_TEST_ACCURACIES), scratch=known([0.8656]))
    assert "+1.58 points, which does not exclude that there is none; nothing here says whether they do, and" in alone


def test_the_better_arm_comes_first_whatever_the_order() -> None:
    a, b = arm(0.8), arm(0.9)
    assert sentence(a=a, b=b) == sentence(b=b, a=a)
    assert "b 10.00 percentage points ahead of a (on other test images these two networks would be +" in sentence(
        a=a, b=b
    )
    assert sentence(a=known([0.8]), b=known([0.9])) == "That puts b 10.00 percentage points ahead of a."


def test_few_images_are_counted() -> None:
    assert "0.10 percentage points ahead of a, which is 1 image of 1,000 (" in sentence(a=arm(0.8), b=arm(0.801))
    assert "level with" in sentence(a=arm(0.8), b=arm(0.8))


def test_equal_values_are_said_to_be_the_reason_for_no_interval() -> None:
    a, b = known([0.9, 0.9]), known([0.8, 0.8])
    assert sentence(a=a, b=b).endswith(
        "ahead of b; within each arm all trials have the same value, so there is no interval."
    )
    assert sentence(a=a, b=known([0.8])).endswith(
        "a trials that all have the same value, the difference has no interval."
    )


def test_the_best_of_many_looks_better_by_what_equal_arms_would_be_apart() -> None:
    two = {name: known([0.9, 0.902]) for name in "ab"}
    assert best_of_many(two) == ""
    text = best_of_many({name: known([0.9, 0.902, 0.904]) for name in "abcd"})
    assert text.startswith(
        "The best of 4 arms looks better than it is, since these numbers picked it: by about 0.12 points,"
    )
    assert best_of_many({name: known([0.9]) for name in "abc"}).endswith("one trial each nothing says by how much.")


def test_the_size_of_the_best_of_many_is_that_of_simulated_sweeps() -> None:
    rng, truth, said = np.random.default_rng(0), [], []
    for _ in range(400):
        arms = {f"{i}": known(rng.normal(0.9, 0.002, 3)) for i in range(7)}
        truth.append(max(of.mean for of in arms.values()) - 0.9)
        said.append(float(best_of_many(arms).split("about ")[1].split(" ")[0]))
    assert np.mean(said) == pytest.approx(100 * np.mean(truth), abs=0.01)


def test_what_so_many_trials_find_is_said_with_how_well_the_spread_is_known() -> None:
    arms = {name: known([0.9, 0.902, 0.904]) for name in "ab"}
    assert what_can_be_found(arms, (arms["a"], arms["b"])) == (
        "With 3 trials each and a spread of 0.20 points (the trials show 0.20, by which it may be 0.12 to 0.57), only "
        "differences of 0.70 points or more are found in 4 of 5 cases on these images; 0.2 points take 17 trials each."
    )
    steady = {name: arm(0.9, 0.901, 0.902) for name in "ab"}  # seeds disagree on more images than their accuracies show
    of = steady["a"]
    assert of.disagreement_sd > np.std(of.accuracies, ddof=1)
    text = what_can_be_found(steady, (of, of))
    assert f"a spread of {100 * of.disagreement_sd:.2f} points (the trials show 0.10, by which" in text
    assert f"; that their networks disagree makes {100 * of.disagreement_sd:.2f} by itself), only" in text
    single = {name: known([0.9]) for name in "ab"}
    assert what_can_be_found(single, (single["a"], single["b"])) == ""


SURE = {
    "several": (
        {"a": arm(0.95, 0.951, 0.952), "b": arm(0.90, 0.901, 0.902)},
        ("a gets 95.10 % of the test images right, 5.00 percentage points more than b (the means of 3 trials each).",
         "Yes, a again: with new seeds and new test images of the same kind, a would be ahead by ",
         "Fairly sure: equal arms would seldom differ by so much (p "),
    ),
    "not shown": (
        {"a": arm(0.90, 0.95), "b": arm(0.89, 0.93)},
        ("Not shown: on these images a gets", "Not certain: with new seeds and new test images of the",
         "Not sure: equal arms may differ by as much (p = "),
    ),
    "one against several": (
        {"a": arm(0.90, 0.901, 0.902), "b": arm(0.8)},
        ("As far as one trial tells: a gets 90.10 % of the test images right, 10.10 percentage points more than b (the "
         "mean of 3 against 1 trial).",
         "points, if b varies from seed to seed as a does.",
         "Less sure than it looks: b has one trial (n = 1), so how far another of its seeds would fall is taken"),
    ),
    "one each": (
        {"a": arm(0.81), "b": arm(0.8)},
        ("(one trial each).", "Yes: this network of a would be ahead by 0.38 to 1.62 points;",
         "Not sure: with one trial each (n = 1)"),
    ),
    "no predictions": (
        {"a": known([0.81, 0.82]), "b": known([0.7, 0.71])},
        ("a gets", "Not known: only predictions of every trial on the same images tell", "Fairly sure"),
    ),
    "all alike": (
        {"a": arm(0.9, 0.9), "b": known([0.8, 0.8])},
        ("on these images a gets", "Not known: within each arm all trials have the same", "Not sure: trials that"),
    ),
    "level": (
        {"a": arm(0.9), "b": arm(0.9)},
        ("Neither a nor b: both get 90.00 %", "Not known: the two networks differ by as much", "Not sure"),
    ),
    "sure alone, not among three": (
        {"a": arm(0.930, 0.931), "b": arm(0.9, 0.8), "c": arm(0.9225, 0.9235)},
        ("Not shown: on these images a, the best of 3 arms, gets",
         "Not certain, as one of 3 comparisons: with new seeds and new test images of the same kind, a would be",
         "Not sure: equal arms may differ by as much (p = "),
    ),
    "best of three": (
        {"a": known([0.9, 0.901]), "b": known([0.8, 0.81]), "c": known([0.95, 0.951])},
        ("c, the best of 3 arms, gets", "Not known", "And the best of 3 arms looks better than it is."),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arms", "says"), SURE.values(), ids=SURE)
def test_three_questions_have_an_answer_each(arms: dict[str, Arm], says: tuple[str, ...]) -> None:
    found = replies(**arms)
    assert list(found) == [WHICH, OTHER_IMAGES, HOW_SURE]
    for reply, part in zip(found.values(), says, strict=True):
        assert part in reply


ALONE = {
    "one trial": (
        arm(0.9),
        ("a gets 90.00 % of the test images right (1 trial); no other arm is tested.",
         "This network would get 87.98 to 91.71 % of other test images right; what other seeds would change is not in",
         "Not sure: with one trial (n = 1), nothing says how far another seed would fall."),
    ),
    "several": (
        arm(0.70, 0.72, 0.74),
        ("a gets 72.00 % of the test images right (the mean of 3 trials); no other arm is tested.",
         "With new seeds and new test images of the same kind, a would get ",
         "By these 3 trials, the mean of many more would be 67.03 to 76.97 % on these images (95 % interval)."),
    ),
    "without predictions": (
        known([0.7, 0.72]),
        ("a gets 71.00 %", "Not known: only predictions of every trial on the same images", "By these 2"),
    ),
    "all alike": (
        arm(0.7, 0.7),
        ("a gets 70.00 %", "Not known: within each arm all trials have the same value", "Not sure: trials that"),
    ),
    "all right": (
        arm(1.0), ("a gets 100.00 %", "This network would get 99.62 to 100.00 % of", "Not sure: with one trial")
    ),
}  # fmt: skip


@pytest.mark.parametrize(("of", "says"), ALONE.values(), ids=ALONE)
def test_an_arm_by_itself_has_three_answers_too(of: Arm, says: tuple[str, ...]) -> None:
    found = replies(a=of)
    assert list(found) == [HOW_GOOD, OTHER_IMAGES, HOW_SURE]
    for reply, part in zip(found.values(), says, strict=True):
        assert part in reply


TRIALS = {
    ((3, 3), (3, 3)): "the means of 3 trials each",
    ((1, 1), (1, 1)): "one trial each",
    ((3, 1), (3, 1)): "the mean of 3 against 1 trial",
    ((2, 3), (3, 3)): "the mean of 2 of its 3 trials against the mean of 3",
    ((2, 2), (3, 2)): "the mean of 2 of its 3 trials against the mean of 2",
    ((1, 1), (3, 1)): "1 of its 3 trials against 1 trial",
    ((2, 2), (0, 0)): "the means of 2 trials each",  # how many were planned is not known
}


@pytest.mark.parametrize(("of", "says"), TRIALS.items())
def test_missing_trials_are_told_with_the_planned_ones(of: tuple[tuple[int, int], tuple[int, int]], says: str) -> None:
    assert trials_of(*of) == says


def test_the_first_screen_tells_that_trials_are_missing() -> None:
    arms = {"a": arm(0.9, 0.91), "b": arm(0.8, 0.81)}
    which = dict(plainly(ComparedArms.of(arms, "b", {"a": 3, "b": 2})))[WHICH]
    assert which.endswith("(the mean of 2 of its 3 trials against the mean of 2).")
    alone = dict(plainly(ComparedArms.of({"a": arms["a"]}, "a", {"a": 3})))[HOW_GOOD]
    assert "(the mean of 2 of its 3 trials); no other arm" in alone


def test_without_a_tested_arm_nothing_is_answered() -> None:
    assert plainly(ComparedArms.of({}, "a")) == []


def test_of_many_single_networks_the_best_is_ahead_only_after_as_many_comparisons_as_were_made() -> None:
    pair = {"a": arm(0.81), "b": arm(0.8)}
    assert replies(**pair)[OTHER_IMAGES].startswith("Yes: this network of a would be ahead by 0.38 to 1.62 points;")
    many = {**{f"c{i}": arm(0.5) for i in range(18)}, **pair}
    assert replies(**{"b": pair["b"], **many})[OTHER_IMAGES].startswith(
        "Not certain, as one of 190 comparisons: this network of a would be ahead by 0.38 to 1.62 points;"
    )
    far = {**many, "a": arm(0.9)}
    assert replies(**{"b": pair["b"], **far})[OTHER_IMAGES].startswith("Yes: this network of a")


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.7, 0.7)], ids=["all and none right", "the same images right"])
def test_networks_that_are_as_far_apart_on_every_image_say_nothing_of_others(shares: tuple[float, float]) -> None:
    arms = {name: arm(share) for name, share in zip("ab", shares, strict=True)}
    assert replies(**arms)[OTHER_IMAGES].startswith("Not known: the two networks differ by as much on every test image")
    assert "would be" not in sentence(**arms)


def test_one_trial_against_several_that_are_all_alike_says_so() -> None:
    assert replies(a=arm(0.9, 0.9), b=arm(0.8))[OTHER_IMAGES].startswith("Not known: within each arm all trials have")
