"""Sweeps side by side in words, tables and files. The sweeps are synthetic (see sweep_folders)."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.text import Text

from raycifar.analysis.figures.differences import MOST_DRAWN, difference_figures
from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.report.side_by_side import compare_sweeps, write_comparison
from raycifar.analysis.results import LEAK, read_results
from raycifar.analysis.several_sweeps import accuracy_contrasts
from raycifar.analysis.statistics.formulas import holm
from tests.support.figures import problems_of_layout
from tests.support.sweep_folders import add_predictions, write_failure, write_sweep


def sweep(path, *arguments, **settings):
    return read_results(write_sweep(path, *arguments, **settings).path)


def drawn(sweeps):
    return difference_figures(sweeps, accuracy_contrasts(sweeps, [read_predictions(results) for results in sweeps]))


def table(report, key):
    return next(table for table in report.tables if table.key == key)


def test_two_sweeps_make_one_report_in_the_files_that_a_report_has(tmp_path):
    a, b = sweep(tmp_path / "a"), sweep(tmp_path / "b", {"transfer": (3, 5), "scratch": (1, 6)})
    write_comparison([a, b], tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.md", "report.html", "epochs.csv", "trials.csv", "tables", "figures"}
    assert {path.name for path in (tmp_path / "out/figures").iterdir()} == {"differences.png", "differences.svg"}
    assert pd.read_csv(tmp_path / "out/trials.csv")["sweep"].tolist() == ["A"] * 4 + ["B"] * 4
    assert "| transfer | B | 3 |" in (tmp_path / "out/report.md").read_text()


def test_the_answer_says_how_far_apart_how_sure_and_by_what_comparison(tmp_path):
    report = compare_sweeps([sweep(tmp_path / "a"), sweep(tmp_path / "b", {"transfer": (3, 5), "scratch": (2, 6)})])
    assert "transfer: B is 3.42 percentage points above A" in report.answer
    assert (
        "(95 % interval over seeds +2.86 to +3.97, Welch; what other test images would change is left" in report.answer
    )
    assert "it excludes 0, also after Holm for 2 comparisons (p = " in report.answer
    assert "Of the 9 pairs of one trial each, B is above in 9." in report.answer
    assert "scratch: B is 0.28 percentage points below A" in report.answer
    assert "If A's seeds spread as B's do, the difference is" in report.answer


def test_a_sweep_beside_its_copy_is_apart_by_nothing_and_differs_in_nothing(tmp_path):
    report = compare_sweeps([sweep(tmp_path / "a"), sweep(tmp_path / "b")])
    assert "B is level with A in test accuracy (95 % interval over seeds" in report.answer
    assert "it includes 0, so these trials show no difference, and do not exclude one of up to" in report.answer
    assert "scratch: B is level with A in test accuracy, but with n = 1 there is no spread" in report.answer
    assert report.cautions == []
    assert table(report, "recipes").rows == table(report, "surroundings").rows == []


def test_every_sweep_after_the_first_is_compared_with_the_first(tmp_path):
    sweeps = [sweep(tmp_path / name, {"transfer": (2, epochs)}) for name, epochs in (("a", 2), ("b", 3), ("c", 4))]
    rows = table(compare_sweeps(sweeps), "test-accuracy").rows
    assert [row[1] for row in rows] == ["A", "B", "C"]
    apart = [float(row[5].replace("−", "-")) for row in rows[1:]]
    means = [float(row[3]) for row in rows]
    assert apart == pytest.approx([means[1] - means[0], means[2] - means[0]], abs=0.011)


def test_failed_trials_of_a_sweep_are_told_beside_the_others(tmp_path):
    folders = [write_sweep(tmp_path / name, {"transfer": (3, 2)}) for name in "ab"]
    write_failure(folders[1], "transfer-2", "lost")
    report = compare_sweeps([read_results(folder.path) for folder in folders])
    assert "of its 3 trials" in dict(report.plainly)["Which is better?"]
    assert "B: failed trials are left out, which flatters an arm whose bad seeds fail." in report.cautions
    assert [row[2] for row in table(report, "test-accuracy").rows] == ["3", "2 of 3"]


@pytest.mark.parametrize(("arms", "start"), [(1, "Yes: "), (3, "arm-1: Not certain, as one of 3 comparisons: ")])
def test_a_network_of_another_sweep_is_ahead_only_after_as_many_comparisons(tmp_path, arms, start):
    sweeps = []
    for name, accuracy in (("a", 0.5), ("b", 0.53125)):  # apart on 5 of 160 images: p = 0.02 by itself
        folder = write_sweep(
            tmp_path / name, {f"arm-{i}": (1, 2) for i in range(1, 1 + arms)}, data={"test_images": 160}
        )
        for i in range(1, 1 + arms):
            trial = folder.trial(f"arm-{i}")
            trial.write_summary(replace(trial.summary(), test_accuracy=accuracy))
        add_predictions(folder)
        sweeps.append(read_results(folder.path))
    reply = dict(compare_sweeps(sweeps).plainly)["With other test images, too?"]
    assert reply.startswith(f"{start}this network of B would be ahead by 0.4")


def test_the_mean_of_each_sweep_has_its_own_two_intervals(tmp_path):
    arms = {"a": {"transfer": (3, 2)}, "b": {"transfer": (3, 3)}}
    folders = [write_sweep(tmp_path / name, of, data={"test_images": 160}) for name, of in arms.items()]
    for folder in folders:
        add_predictions(folder)
    sweeps = [read_results(folder.path) for folder in folders]
    for row, results in zip(table(compare_sweeps(sweeps), "test-accuracy").cells, sweeps, strict=True):
        of = results.accuracies().iloc[0]
        assert row[11].values == pytest.approx((100 * of["seeds_low"], 100 * of["seeds_high"]))
        assert row[12].values[:2] == pytest.approx((100 * of["images_low"], 100 * of["images_high"]))


def test_what_may_explain_a_difference_is_said_before_it(tmp_path):
    a = sweep(tmp_path / "a")
    other = {"data": {"validation": "train", "test_images": 100}, "device_kind": "cpu"}
    b = sweep(tmp_path / "b", {"transfer": (3, 9), "scratch": (1, 6)}, **other)
    cautions = "\n".join(compare_sweeps([a, b]).cautions)
    assert f"B: {LEAK}." in cautions
    assert "The protocols differ (data.validation, data.test_images)" in cautions
    assert "The numbers of epochs differ: transfer: 9 epochs in B, 4 in A." in cautions
    assert "so no difference can be attributed to one of them alone: transfer in B (3), scratch in B (2)." in cautions
    assert "Times do not compare as they stand: the sweeps differ in device." in cautions


def test_settings_of_different_comparisons_do_not_add_up(tmp_path):
    datas = {"a": {}, "b": {"train_images": 1000}, "c": {"test_images": 100}}
    sweeps = [sweep(tmp_path / name, {"transfer": (2, 3)}, data=data) for name, data in datas.items()]
    assert "Several" not in "".join(compare_sweeps(sweeps).cautions)


def test_an_arm_that_one_sweep_has_not_tested_explains_nothing(tmp_path):
    a, b = (write_sweep(tmp_path / name, {"transfer": (2, 3), "scratch": (1, n)}) for name, n in (("a", 6), ("b", 9)))
    assert "scratch: 9 epochs in B" in "".join(compare_sweeps([read_results(a.path), read_results(b.path)]).cautions)
    shutil.rmtree(a.path / "scratch")
    assert "scratch" not in "".join(compare_sweeps([read_results(a.path), read_results(b.path)]).cautions)


def test_a_leak_is_marked_in_every_table_and_the_figure(tmp_path):
    a, b = (sweep(tmp_path / name, data={"validation": "train"}) for name in "ab")
    report = compare_sweeps([a, b])
    assert all(table.leak for table in report.tables)
    (drawing,) = drawn([a, b])
    texts = [text.get_text() for text in drawing.figure.findobj(Text)]
    assert LEAK in texts
    assert LEAK in drawing.caption
    assert LEAK in drawing.alt


def test_long_names_and_many_arms_leave_the_figure_readable(tmp_path):
    arms = {f"transfer-with-a-name-that-is-about-as-long-as-one-may-be-{i}": (1, 1) for i in range(MOST_DRAWN + 2)}
    a, b = sweep(tmp_path / "a", arms), sweep(tmp_path / "b", arms)
    (drawing,) = drawn([a, b])
    assert not list(problems_of_layout(drawing))
    assert len(drawing.figure.axes[0].get_yticks()) == MOST_DRAWN
    assert "; 2 more are in the table." in drawing.caption


def test_trials_that_are_not_finished_are_said_and_left_out(tmp_path):
    write_failure(write_sweep(tmp_path / "b"), "transfer-2", "lost")
    report = compare_sweeps([sweep(tmp_path / "a"), read_results(tmp_path / "b")])
    assert "B is 0.14 percentage points below A in test accuracy (95 % interval over seeds −0.69 to" in report.answer
    assert "Of the 6 pairs of one trial each, B is above in" in report.answer
    assert "B is not complete: 3 finished, 1 failed." in report.cautions
    assert table(report, "test-accuracy").rows[1][-1] == "Welch"
    assert table(report, "own-seconds").rows[1][:3] == ["transfer", "B", "2"]


def test_sweeps_without_an_arm_in_common_are_not_compared(tmp_path):
    report = compare_sweeps([sweep(tmp_path / "a", {"transfer": (1, 1)}), sweep(tmp_path / "b", {"scratch": (1, 1)})])
    assert report.answer.startswith("No arm of A is in another sweep")
    assert [row[5] for row in table(report, "test-accuracy").rows] == ["–", "–"]


def test_a_loss_is_as_sure_as_a_gain_and_every_quantity_is_its_own(tmp_path):
    a, b = (sweep(tmp_path / name, {"transfer": (3, epochs)}) for name, epochs in (("a", 5), ("b", 4)))
    report = compare_sweeps([a, b])
    assert (
        "B is 3.42 percentage points below A in test accuracy (95 % interval over seeds −3.97 to −2.86" in report.answer
    )
    left_out = "what other test images would change is left out, for want of predictions of each trial on the same"
    assert f"Welch; {left_out} images: it excl" in report.answer
    times = table(report, "own-seconds").rows
    assert [row[3] for row in times] == ["140", "113"]
    assert times[1][5] == "−27.5"
    for key in ("best_val_accuracy", "test_accuracy_flip"):
        ours, theirs = (100 * results.trials[key].mean() for results in (b, a))
        row = table(report, key.replace("_", "-")).rows[1]
        assert (row[3], row[5]) == (f"{ours:.2f}", f"{ours - theirs:+.2f}".replace("-", "−"))


def test_the_figure_has_the_difference_and_its_interval_in_points(tmp_path):
    a, b = (sweep(tmp_path / name, {"transfer": (3, epochs)}) for name, epochs in (("a", 4), ("b", 5)))
    interval, point, _ = drawn([a, b])[0].figure.axes[0].lines
    assert list(interval.get_xdata()) == pytest.approx([2.86, 3.97], abs=0.01)
    assert list(point.get_xdata()) == pytest.approx([3.42], abs=0.01)


def test_p_in_the_table_is_adjusted_for_every_arm_and_sweep_of_it(tmp_path):
    epochs = {"a": (4, 4), "b": (5, 4), "c": (6, 5)}
    sweeps = [sweep(tmp_path / s, {"transfer": (3, t), "scratch": (2, o)}) for s, (t, o) in epochs.items()]
    headings, *cells = table(compare_sweeps(sweeps), "test-accuracy").plain_rows()
    rows = pd.DataFrame(cells, columns=headings)
    compared = rows[rows["sweep"] != "A"].astype({"p": float, "p_after_holm": float})
    assert compared["p_after_holm"].tolist() == pytest.approx(holm(compared["p"].tolist()))
    assert compared["comparisons"].tolist() == ["4"] * 4
    assert (compared["p_after_holm"] > compared["p"]).any()
