"""Text of others in a terminal, in Markdown and in CSV: it is seen, and does nothing."""

import csv
import io
from email.message import Message
from urllib.error import HTTPError

import pandas as pd
import pytest

from raycifar.analysis.report.formats import write_frames, write_rows
from raycifar.texts import MOST_SHOWN, csv_cell, filtered, in_one_line, markdown, plain, printable

HOSTILE = {
    "escape": ("\x1b]0;owned\x07\x1b[2J", "�]0;owned��[2J", "�\\]0;owned��\\[2J"),
    "direction": ("a\u202eb\u2066c", "a�b�c", "a�b�c"),
    "lines": ("a\n# b\r\n| c |\x0b\x85d\u2028e", "a # b | c | d e", "a # b \\| c \\| d e"),
    "a heading": ("# a", "# a", "&#35; a"),
    "a list": ("- a", "- a", "&#45; a"),
    "a number": ("1. a", "1. a", "&#49;. a"),
    "a rule": ("=== a", "=== a", "&#61;== a"),
    "a fence": ("~~~ `a`", "~~~ `a`", "&#126;~~ \\`a\\`"),
    "a script": ("<script>a&b", "<script>a&b", "&lt;script&gt;a&amp;b"),
    "a link": ("[a](javascript:b)", "[a](javascript:b)", "\\[a\\](javascript:b)"),
    "a decimal": ("1.5 a", "1.5 a", "1.5 a"),
    "a number with its sign": ("+1.5", "+1.5", "+1.5"),
    "a word": ("vgg16-1e4ef.safetensors", "vgg16-1e4ef.safetensors", "vgg16-1e4ef.safetensors"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_text_is_one_printable_line_that_means_nothing(what):
    text, in_terminal, in_markdown = HOSTILE[what]
    assert plain(text) == in_terminal
    assert markdown(text) == in_markdown
    assert printable(text).isprintable()


@pytest.mark.parametrize("text", ["x" * 9_000_000, "\x1b" * 9_000_000, " x" * 5_000])
def test_a_long_text_is_shown_by_its_beginning(text):
    assert len(plain(text)) < MOST_SHOWN + 50
    assert plain(text).endswith(f" ... ({len(text):,} characters)")


CELLS = {
    "=1+1": "'=1+1",
    "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
    "-2+3": "'-2+3",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t=1",
    "\r=1": "'\n=1",
    "a\r=1": "a\n=1",
    " =1": "' =1",
    "＝1": "'＝1",
    "-0.5": "-0.5",
    "+3": "+3",
    "-1e-05": "-1e-05",
    "-inf": "-inf",
    "a=b": "a=b",
    "": "",
    "--": "'--",
    "-1_0": "'-1_0",
}


@pytest.mark.parametrize("text", CELLS)
def test_a_cell_is_no_formula_and_a_number_stays_one(text):
    assert csv_cell(text) == CELLS[text]


def test_every_csv_file_goes_through_the_filter(tmp_path):
    write_rows(tmp_path / "rows.csv", [["a", "b"], list(CELLS)])
    assert next(csv.reader(io.StringIO((tmp_path / "rows.csv").read_text("utf-8-sig")))) == ["a", "b"]
    write_frames({"frame": pd.DataFrame({"text": list(CELLS), "number": [-0.5] * len(CELLS)})}, tmp_path)
    rows = list(csv.reader(io.StringIO((tmp_path / "rows.csv").read_bytes().decode("utf-8-sig"), newline="")))
    frame = list(csv.reader(io.StringIO((tmp_path / "frame.csv").read_bytes().decode("utf-8-sig"), newline="")))
    assert rows[1] == list(CELLS.values())
    assert [row[0] for row in frame[1:]] == list(CELLS.values())
    assert {row[1] for row in frame[1:]} == {"-0.5"}


def test_texts_are_filtered_wherever_they_lie_in_a_record():
    assert filtered({"a*": ["b*", 1, {"c": "d*"}]}, markdown) == {"a\\*": ["b\\*", 1, {"c": "d\\*"}]}


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError(" two\n  lines\t"), "two lines"), (OSError(), "OSError"), (ValueError(20 * "x"), 9 * "x")],
    ids=["lines", "nothing", "long"],
)
def test_an_error_is_told_in_one_line(error, line):
    assert in_one_line(error, most=9) == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file", "/a\nb"), "No such file: /a b"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (HTTPError("http://h/f", 404, "Not Found", Message(), None), "HTTP Error 404: Not Found"),
        (RuntimeError("enforce fail\nframe #0: c10::Throw\nframe #1: main"), "enforce fail"),
    ],
    ids=["of a file", "of no file", "of a host", "with a stack"],
)
def test_what_an_error_says_of_its_cause_is_kept(error, line):
    assert in_one_line(error) == line
