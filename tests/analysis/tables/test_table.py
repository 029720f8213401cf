from dataclasses import replace

import pytest

from raycifar.analysis.tables.table import Cell, Column, Table

NAMES = ["a: test", "a: loss", "b: test", "b: loss", "c: test", "c: loss"]


@pytest.fixture
def table():
    made = Table.of("some", "Some", NAMES, [Column("name", lambda name: Cell(name, (name,)))])
    return replace(made, groups=((0, 2, 4), (1, 3, 5)))


def shown(table, most):
    return [row[0].text for row in table.head(most).cells]


def test_rows_that_belong_together_are_shown_whole_or_not_at_all(table):
    assert shown(table, 6) == NAMES
    assert shown(table, 5) == shown(table, 3) == ["a: test", "b: test", "c: test"]
    assert table.head(5).notes == ["3 of 6 rows; all are in tables/some.csv."]


def test_where_the_first_of_them_have_no_room_rows_are_taken_evenly(table):
    assert shown(table, 2) == ["a: test", "b: loss"]
    assert "evenly taken" in table.head(2).notes[0]
