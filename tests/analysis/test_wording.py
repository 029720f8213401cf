"""raycifar.analysis.wording: numbers, ranges, lists and comparisons as sentences."""

import math

import pytest

from raycifar.analysis.wording import (
    Format,
    above_or_below,
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


def test_what_is_shown_as_no_difference_is_level() -> None:
    assert above_or_below(-0.00004) == "level with"
    assert above_or_below(-0.00006) == "0.01 percentage points below"


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
