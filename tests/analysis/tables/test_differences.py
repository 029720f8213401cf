"""Every arm against the best and the baseline; and what the tables say of both intervals. Sweeps are synthetic."""

from dataclasses import replace
from pathlib import Path

import pytest

from raycifar.analysis.figures.differences import difference_figures
from raycifar.analysis.predictions import Predictions, read_predictions
from raycifar.analysis.report.findings import answer, named_arms
from raycifar.analysis.results import Results, read_results
from raycifar.analysis.several_sweeps import accuracy_contrasts
from raycifar.analysis.tables.accuracy import averages_by_arm
from raycifar.analysis.tables.differences import ALONE, differences
from raycifar.analysis.tables.equal_cost import WITH_OTHERS, at_equal_cost
from raycifar.analysis.tables.gap import overfitting
from raycifar.analysis.tested_arms import compared_arms
from raycifar.analysis.wording import probability
from tests.support.arms import compared
from tests.support.paths import QUICK
from tests.support.sweep_folders import add_predictions, write_failure, write_sweep

THREE = {"scratch": (3, 2), "transfer": (3, 2), "third": (3, 3)}


def predicted(path: Path, arms: dict[str, tuple[int, int]], images: int = 160) -> tuple[Results, Predictions]:
    folder = write_sweep(path, arms, data={"test_images": images})
    add_predictions(folder)
    results = read_results(folder.path)
    return results, read_predictions(results)


def test_every_arm_is_against_the_best_and_the_first_with_p_for_all_of_them(tmp_path: Path) -> None:
    results, predictions = predicted(tmp_path / "s", THREE)
    table = differences(*compared(results, predictions))
    family = compared_arms(results, predictions).family
    assert [row[:2] for row in table.rows] == [[one.a, one.b] for one in family.comparisons]
    assert [row[7] for row in table.rows] == [probability(one.adjusted) for one in family.comparisons]
    assert [row[7].values for row in table.cells] == [(one.adjusted,) for one in family.comparisons]
    assert any(one.adjusted > one.apart.p for one in family.comparisons)
    assert [row[8] for row in table.rows] == ["3", "3", "3"]
    assert "adjusted after Holm for all 3 pairs of arms" in table.notes[1]
    assert [row[10] for row in table.rows] == ["Welch"] * 3


def test_as_many_comparisons_are_told_as_there_are_pairs_of_arms_not_rows(tmp_path: Path) -> None:
    results, predictions = predicted(tmp_path / "s", {**THREE, "fourth": (3, 4)})
    table = differences(*compared(results, predictions))
    assert len(table.rows) == 5
    assert {row[8] for row in table.rows} == {"6"}


def test_single_trials_have_no_p_and_an_interval_of_their_networks(tmp_path: Path) -> None:
    table = differences(*compared(*predicted(tmp_path / "s", {"transfer": (1, 2), "scratch": (1, 2)})))
    (row,) = table.rows
    assert row[4] == "–"
    assert row[5].endswith(" (these two networks alone)")
    assert row[6:9] == ["–", "–", "–"]
    assert row[10] == "n = 1: no spread"
    assert table.cells[0][5].values[2] == "these two networks alone"


def test_one_arm_says_why_the_table_is_empty(tmp_path: Path) -> None:
    table = differences(*compared(*predicted(tmp_path / "s", {"transfer": (2, 2)})))
    assert (table.rows, table.notes) == ([], [ALONE])


def test_the_answer_always_names_the_first_arm_and_the_best_and_else_those_that_validate_best(tmp_path: Path) -> None:
    arms = {f"arm-{epochs}": (1, epochs) for epochs in (1, 2, 3, 4, 5, 6)}
    results = read_results(write_sweep(tmp_path / "s", arms).path)
    validation = results.finished.set_index("arm")["best_val_accuracy"].sort_values(ascending=False)
    best = results.finished.set_index("arm")["test_accuracy"].idxmax()
    named = named_arms(*compared(results))
    assert len(named) == 4
    assert {"arm-1", best} <= set(named)
    assert validation.index[-1] == "arm-1"
    assert set(named) - {"arm-1"} <= set(validation.index[:3])


def test_an_arm_that_tests_well_but_validates_badly_is_not_named_for_it(tmp_path: Path) -> None:
    arms = {f"arm-{epochs}": (1, epochs) for epochs in (1, 2, 3, 4, 5, 6)}
    folder = write_sweep(tmp_path / "s", arms)
    for name, accuracy in (("arm-2", 0.97), ("arm-3", 0.98), ("arm-6", 0.99)):  # 2 and 3 validate worst but for arm-1
        summary = folder.trial(name).summary()
        assert summary is not None
        folder.trial(name).write_summary(replace(summary, test_accuracy=accuracy))
    assert named_arms(*compared(read_results(folder.path))) == ["arm-1", "arm-4", "arm-5", "arm-6"]


def test_failed_trials_are_said_to_flatter(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (3, 2)})
    flatters = "Failed trials are left out, which flatters an arm whose bad seeds fail."
    results = read_results(folder.path)
    assert flatters not in [*averages_by_arm(*compared(results)).notes, answer(*compared(results))]
    write_failure(folder, "transfer-2", "lost")
    results = read_results(folder.path)
    assert flatters in averages_by_arm(*compared(results)).notes
    assert flatters in answer(*compared(results))
    assert "over 2 of its 3 trials" in answer(*compared(results))
    for table in (averages_by_arm(*compared(results)), overfitting(*compared(results))):
        cell = table.cells[0][table.headings.index("n")]
        assert (cell.text, cell.values) == ("2 of 3", (2, 3))


def test_the_averages_say_what_varies_between_seeds_and_how_far_networks_disagree(tmp_path: Path) -> None:
    results, predictions = predicted(tmp_path / "s", {"transfer": (2, 2)})
    a, b = (tested.right for tested in predictions.trials)
    notes = averages_by_arm(*compared(results, predictions)).notes
    assert any(note.startswith("Seeds vary the initial weights") for note in notes)
    assert any(f"transfer: two of its networks disagree on {100 * (a != b).mean():.1f} % of" in note for note in notes)
    assert not any("disagree on" in note for note in averages_by_arm(*compared(results)).notes)


def test_the_row_with_other_images_has_the_wider_interval() -> None:
    results = read_results(QUICK)
    predictions = read_predictions(results)
    over_seeds, with_images = averages_by_arm(*compared(results, predictions)).rows[0][5:7]
    assert over_seeds != with_images
    assert f"({with_images}, n = 3)" in at_equal_cost(*compared(results, predictions)).rows[-1][1]


def test_the_test_at_the_end_has_a_row_with_other_images_and_longer_plans_are_named(tmp_path: Path) -> None:
    results, predictions = predicted(tmp_path / "s", {"transfer": (3, 2), "scratch": (1, 3)})
    table = at_equal_cost(*compared(results, predictions))
    averages = averages_by_arm(*compared(results, predictions))
    assert table.rows[-1][0] == WITH_OTHERS
    assert f"({averages.rows[0][6]}, n = 3)" in table.rows[-1][1]
    assert "this network alone" in table.rows[-1][2]
    assert table.cells[-1][2].values[1:3] == (None, None)
    assert any(note.startswith("Planned for more epochs: scratch.") for note in table.notes)
    assert at_equal_cost(*compared(results)).rows[-1][0] != WITH_OTHERS


@pytest.mark.parametrize(("n", "lines", "face"), [((3, 3), 2, "filled"), ((3, 1), 2, "white"), ((1, 1), 1, "white")])
def test_the_figure_shows_both_intervals(tmp_path: Path, n: tuple[int, int], lines: int, face: str) -> None:
    arms = [{"transfer": (size, 2 + i)} for i, size in enumerate(n)]
    sweeps = [predicted(tmp_path / name, of) for name, of in zip("ab", arms, strict=True)]
    results, predictions = [one[0] for one in sweeps], [one[1] for one in sweeps]
    (drawing,) = difference_figures(results, accuracy_contrasts(results, predictions))
    *intervals, point, _zero = drawing.figure.axes[0].lines
    assert len(intervals) == lines
    assert (point.get_markerfacecolor() == "white") is (face == "white")
    assert ("with other test images" in drawing.alt) is (lines == 2)
