"""raycifar.analysis.wording: numbers, ranges, lists and comparisons as sentences."""

import math

import pytest

from raycifar.analysis.stats import sample
from raycifar.analysis.wording import (
    Format,
    above_or_below,
    compare,
    kilojoules,
    listed,
    number,
    percent,
    probability,
    ranges,
    seconds,
    signed,
    whole,
)

REPORT_TEST_ACCURACIES = [0.8573, 0.8600, 0.8611]  # the reference report's three transfer runs


def test_what_is_shown_as_no_difference_is_level() -> None:
    a, b = sample([0.9, 0.8]), sample([0.85, 0.85001])
    assert compare(("a", "b"), a, b).startswith("That puts b level with a (95 % interval")
    assert above_or_below(-0.00004) == "level with"
    assert above_or_below(-0.00006) == "0.01 percentage points below"


def test_two_arms_with_repeats_get_an_interval_and_a_verdict() -> None:
    text = compare(("a", "b"), sample([0.95, 0.951, 0.952]), sample([0.92, 0.921, 0.922]))
    assert text.startswith("That puts a 3.00 percentage points ahead of b (95 % interval +2.77 to +3.23")
    assert "excludes 0" in text
    assert "may be chance" in compare(("a", "b"), sample([0.9, 0.95]), sample([0.91, 0.93]))


@pytest.mark.parametrize(("single", "where"), [(0.8700, "outside"), (0.8656, "inside")])
def test_one_trial_against_three_is_placed_in_the_range_of_a_further_one(single: float, where: str) -> None:
    text = compare(("transfer", "scratch"), sample(REPORT_TEST_ACCURACIES), sample([single]))
    assert "With one scratch trial the difference has no interval" in text
    assert f"its {100 * single:.2f} % lies {where} the range of 84.98 to 86.92 %" in text


def test_the_better_arm_comes_first_whatever_the_order() -> None:
    a, b = sample([0.8]), sample([0.9])
    assert compare(("a", "b"), a, b) == compare(("b", "a"), b, a)
    assert "b 10.00 percentage points ahead of a" in compare(("a", "b"), a, b)
    assert "so the difference may be chance" in compare(("a", "b"), a, b)


def test_equal_values_are_said_to_be_the_reason_for_no_interval() -> None:
    a, b = sample([0.9, 0.9]), sample([0.8, 0.8])
    assert compare(("a", "b"), a, b).endswith(
        "ahead of b; within each arm all trials have the same value, so there is no interval."
    )
    assert compare(("a", "b"), a, sample([0.8])).endswith(
        "a trials that all have the same value, the difference has no interval."
    )


def test_probabilities_have_the_digits_that_say_something() -> None:
    assert [probability(p) for p in (1.0, 0.0213, 0.00043, 7.7e-143, 0.0)] == [
        *("1.000", "0.021", "0.0004", "< 0.0001", "< 0.0001")
    ]


def test_runs_of_seeds_are_drawn_together() -> None:
    assert ranges([3, 1, 2, 7, 9, 10]) == "1 to 3, 7, 9 to 10"
    assert ranges([5]) == "5"


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (percent, 0.93336, "93.34"),
        (percent, -0.1224, "−12.24"),
        (number, 0.8410, "0.8410"),
        (seconds, 99.94, "99.9"),
        (seconds, 20_309.4, "20,309"),
        (seconds, -31_651.2, "−31,651"),
        (whole, 10_000, "10,000"),
        (percent, math.nan, "–"),
        (percent, math.inf, "–"),
    ],
)
def test_numbers_are_written_in_one_way(show: Format, value: float, text: str) -> None:
    assert show(value) == text


def test_a_sign_is_a_minus_as_wide_as_the_plus() -> None:
    assert (percent(0.032, "+"), percent(-0.032, "+"), signed(-0.44, 1)) == ("+3.20", "−3.20", "−0.4")


def test_the_plain_number_has_the_unit_of_the_text_and_all_its_digits() -> None:
    assert (percent.plain(0.125), kilojoules.plain(2500.0), number.plain(math.nan)) == (12.5, 2.5, None)


def test_many_names_are_counted_and_none_is_said_twice() -> None:
    assert listed("abcb") == "a, b, c"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"
