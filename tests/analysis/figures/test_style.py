"""How figures look: units, names, legends and files."""

import re
from pathlib import Path

import pytest
from matplotlib.patches import Patch

from raycifar.analysis.figures.style import (
    BLUE,
    PALETTE,
    Drawing,
    canvas,
    epoch_axis,
    in_words,
    ink,
    legend,
    mark,
    save,
    shorten,
)
from raycifar.analysis.results import LEAK


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (19.9, "19.9 s"),
        (20.4, "20 s"),
        (599, "599 s"),
        (600, "10.0 min"),
        (14_399, "240.0 min"),
        (14_400, "4.0 h"),
        (36_000_000, "10,000.0 h"),
    ],
)
def test_a_duration_has_the_unit_in_which_it_reads_well(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_long_name_loses_its_middle() -> None:
    assert shorten("transfer-with-a-long-name-12", 28) == "transfer-with-a-long-name-12"
    assert shorten("transfer-with-a-long-name-123", 28) == "transfer-with…-long-name-123"


def contrast(ink_colour: str, paper: str) -> float:
    """WCAG 2's, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(ink_colour), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("paper", [*PALETTE, "#808080", "#6B6B6B", "#FFFFFF"])
def test_ink_is_the_one_of_black_and_white_that_stands_out_more(paper: str) -> None:
    assert contrast(ink(paper), paper) == max(contrast(colour, paper) for colour in ("#000000", "#FFFFFF"))


def columns(labels: list[str], patches: list[Patch] | None = None) -> int:
    """In how many columns the legend of lines with these names is set."""
    figure, axes = canvas("t")
    for label in labels:
        axes.plot([0, 1], label=label)
    legend(figure, axes, patches or [])
    (found,) = figure.legends
    assert [text.get_text() for text in found.get_texts()] == labels + [str(p.get_label()) for p in patches or []]
    return int(found._ncols)  # type: ignore[attr-defined]


def test_a_legend_is_one_row_if_it_fits_and_else_as_many_columns_as_do() -> None:
    assert columns(["transfer", "scratch"], [Patch(label="stopped")]) == 3
    assert columns(["a" * 9] * 5) == 5  # 16 characters each with their symbols, of 80
    assert columns(["a" * 9] * 6) == 5
    assert columns(["a" * 10] + ["b" * 9] * 6) == 4
    assert columns(["a" * 100, "b"]) == 1


def test_axes_without_names_get_no_legend() -> None:
    figure, axes = canvas("t")
    axes.plot([0, 1])
    legend(figure, axes)
    assert figure.legends == []


@pytest.mark.parametrize("epochs", [1, 2, 3, 15, 125])
def test_epochs_are_whole_and_have_room_at_both_ends(epochs: int) -> None:
    figure, axes = canvas("t")
    epoch_axis(axes, epochs)
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert low < 1
    assert high > epochs
    assert high - low < 1.1 * epochs + 1
    assert high - low >= 1  # also around a single point
    assert shown
    assert all(tick == int(tick) for tick in shown)
    assert axes.get_xlabel() == "epoch"


def test_a_leak_is_written_between_the_title_and_the_axes() -> None:
    figure, axes = canvas("the title", leak=True)
    figure.draw_without_rendering()
    (note,) = axes.texts
    assert note.get_text() == LEAK
    title = axes._left_title  # type: ignore[attr-defined]
    assert axes.bbox.y1 < note.get_window_extent().y0 < note.get_window_extent().y1 < title.get_window_extent().y0
    assert mark(leak=True) == f" — {LEAK}"
    assert mark(leak=False) == ""


def test_a_drawing_becomes_two_files_without_a_date_and_nothing_beside_them(tmp_path: Path) -> None:
    figure, axes = canvas("the title")
    axes.plot([0, 1], color=BLUE)
    paths = save(Drawing("name", "heading", "caption", "alt", figure), tmp_path / "analysis/figures")
    assert sorted(path.name for path in (tmp_path / "analysis/figures").iterdir()) == ["name.png", "name.svg"]
    png, svg = (path.read_bytes() for path in paths)
    assert png.startswith(b"\x89PNG")
    assert b"Software" not in png
    assert not re.search(rb"<dc:date>|\d{4}-\d\d-\d\dT", svg)
    assert b">the title<" in svg  # text, not outlines: it can be searched and read aloud
