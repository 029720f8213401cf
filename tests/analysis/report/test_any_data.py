"""The report of data that is not like CIFAR-10: many, unequal or grouped classes, few images, unlike networks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import permutation_test

from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.figures.photographs import MOST_PIXELS, smaller
from raycifar.analysis.predictions import Predictions, read_predictions
from raycifar.analysis.report.report import make_report
from raycifar.analysis.results import read_results
from raycifar.analysis.statistics.answers import Answers
from raycifar.analysis.statistics.contrasts import Arm, arm_interval, estimate
from raycifar.analysis.statistics.formulas import group_test
from raycifar.analysis.tested_arms import arms_of
from tests.support.any_data import read_any, write_any
from tests.support.figures import problems_of_layout, shown_texts
from tests.support.sweep_folders import add_predictions, write_sweep

ARMS = {"transfer": (2, 2), "scratch": (2, 2)}
PLAIN = [250] * 10  # no caution is due


def made(folder):
    return make_report(*read_any(folder))


def table_of(report, key, whole=False):
    return next((table for table in (report.whole_tables if whole else report.tables) if table.key == key), None)


CAUTIONS = {
    "even classes, many images": (PLAIN, {}, []),
    "unequal classes": ([200] * 9 + [1_000], {}, ['who always answers "class 9" gets 35.71 % of the test images']),
    "few test images": ([50] * 10, {}, ["Few test images: with 500 images, differences below"]),
    "few of each kind": (PLAIN, {"near": 25}, ["25 of the 2,500 test images nearly equal", "Without them: transfer"]),
}


@pytest.mark.parametrize("case", CAUTIONS)
def test_what_is_wrong_with_the_images_is_said_and_else_nothing(tmp_path, case):
    counts, facts, lines = CAUTIONS[case]
    cautions = made(write_any(tmp_path / "s", counts, ARMS, **facts)).cautions
    assert all(any(line in caution for caution in cautions) for line in lines)
    assert bool(cautions) is bool(lines)


@pytest.mark.parametrize("grouped", [False, True])
def test_accuracies_without_near_images_have_both_intervals(tmp_path, grouped):
    folder = write_any(tmp_path / "s", PLAIN, ARMS, near=400, grouped=grouped)
    results, predictions = read_any(folder)
    far, groups = ~predictions.tests.near, predictions.tests.groups
    right = np.stack([tested.right[far] for tested in predictions.by_arm(["transfer"])["transfer"]])
    of = arm_interval(right, groups[far] if grouped else None)
    (line,) = (line for line in make_report(results, predictions).cautions if "nearly equal" in line)
    seeds, images = (f"{100 * span.low:.2f} to {100 * span.high:.2f} %" for span in (of.seeds, of.images))
    assert f"transfer {100 * right.mean():.2f} % (over seeds {seeds}, with other test images {images})" in line


def test_few_validation_images_choose_the_best_epoch_by_luck(tmp_path):
    folder = write_sweep(tmp_path / "s", ARMS, data={"holdout_images": 490})
    assert any("Only 490 validation images" in line for line in make_report(read_results(folder.path)).cautions)
    others = write_sweep(tmp_path / "others", ARMS, data={"holdout_images": 500})
    assert not any("validation images" in line for line in make_report(read_results(others.path)).cautions)


def test_the_page_says_what_was_read_skipped_and_dropped(tmp_path):
    read = {"skipped": 3, "dropped": 12, "groups": 250, "grouped": True, "made": "20 % cut for the test"}
    text = dict(made(write_any(tmp_path / "s", PLAIN, ARMS, **read)).provenance)["images"]
    for part in ("leaves: 5,000 training and 2,500 test", "3 files could", "12 images equal", "250 groups", "20 % cut"):
        assert part in text


def test_of_many_classes_the_worst_and_the_best_are_shown_and_all_are_in_the_file(tmp_path):
    report = made(write_any(tmp_path / "s", [40] * 100, ARMS))
    shown, whole = table_of(report, "classes"), table_of(report, "classes", whole=True)
    assert (len(shown.rows), len(whole.rows)) == (20, 100)
    means = {row[0].text: np.mean([cell.values[0] for cell in row[2:]]) for row in whole.cells}
    rising = sorted(means.values())
    assert [means[row[0]] for row in shown.rows] == pytest.approx(rising[:10] + rising[-10:])
    assert shown.notes[0].startswith("20 of 100 rows: the 10 worst and the 10 best classes")
    confused = table_of(report, "confused")
    assert [sum(row[0] == arm for row in confused.rows) for arm in ARMS] == [20, 20]
    assert len(table_of(report, "confused", whole=True).rows) == 200


def test_of_many_classes_figures_have_no_numbers_and_are_laid_out(tmp_path):
    drawings = {
        drawing.name: drawing for drawing in all_figures(*read_any(write_any(tmp_path / "s", [40] * 100, ARMS)))
    }
    for name in ("class-accuracy", "arm-transfer-confusion"):
        assert list(problems_of_layout(drawings[name])) == []
    texts = {text.get_text() for text in shown_texts(drawings["arm-transfer-confusion"])}
    assert not any(text.startswith("class ") for text in texts)
    assert len(drawings["class-accuracy"].figure.axes[0].get_yticks()) == 20


@pytest.mark.parametrize(("images", "mark"), [(9, "9*"), (10, "10")])
def test_a_class_with_few_images_is_marked(tmp_path, images, mark):
    table = table_of(made(write_any(tmp_path / "s", [images] + [300] * 9, ARMS)), "classes")
    assert table.rows[0][1] == mark
    assert any("fewer than 10 test images" in note for note in table.notes) is (images < 10)


def test_unequal_classes_have_three_measures_in_a_row_and_even_ones_no_such_table(tmp_path):
    table = table_of(made(write_any(tmp_path / "s", [50] * 9 + [1_000], ARMS)), "balance")
    assert [cell.values[0] is not None for cell in table.cells[0]] == [True] * len(table.columns)
    accuracy, balanced = (
        table.cells[0][table.headings.index(name)].values[0] for name in ("accuracy, %", "balanced accuracy, %")
    )
    assert accuracy > balanced + 5  # the large class is the easiest one
    assert table_of(made(write_any(tmp_path / "even", PLAIN, ARMS)), "balance") is None


def test_grouped_images_are_drawn_and_compared_by_whole_groups(tmp_path):
    folders = [write_any(tmp_path / str(grouped), PLAIN, ARMS, grouped=grouped) for grouped in (False, True)]
    alone, grouped = (table_of(made(folder), "paired").rows[0] for folder in folders)
    assert (alone[-1], grouped[-1]) == ("z of the means by image", "sign flips of whole groups")
    few = write_any(tmp_path / "few", [9] * 10, ARMS, grouped=True)
    row = table_of(made(few), "paired").rows[0]
    assert row[7:] == ["–", "–", "–", "none: fewer than 10 groups"]


def test_classes_and_confidence_have_intervals_of_whole_groups(tmp_path):
    results, predictions = read_any(write_any(tmp_path / "s", PLAIN, {**ARMS, "scratch": (1, 2)}, grouped=True))
    report, tests = make_report(results, predictions), predictions.tests
    trials, (single,) = predictions.by_arm(["transfer", "scratch"]).values()
    of = tests.labels == 3
    low, high = arm_interval(single.right[of], tests.groups[of]).networks
    assert table_of(report, "classes").cells[3][3].values[5:7] == pytest.approx((100 * low, 100 * high))
    above = np.stack([tested.confidence.astype(float) - tested.right for tested in trials])
    answers = Answers.of(above, tests.groups)
    seeds, images = estimate(Arm(above.mean(1))), estimate(Arm(above.mean(1), answers, are_single=False))
    assert images.images.low < seeds.seeds.low
    assert images.images != estimate(Arm(above.mean(1), Answers.of(above), are_single=False)).images
    row = table_of(report, "calibration").cells[0]
    assert row[6].values[:2] == pytest.approx(tuple(100 * np.array(images.images)))


def test_a_single_networks_interval_is_of_whole_groups(tmp_path):
    one = {"transfer": (1, 2)}
    results, predictions = read_any(write_any(tmp_path / "s", PLAIN, one, grouped=True))
    (tested,), (arm,) = predictions.trials, arms_of(results, predictions).values()
    by_group = tested.right.reshape(250, 10).mean(1)
    low, high = estimate(arm).networks
    assert (high - low) / 2 == pytest.approx(1.96 * by_group.std(ddof=1) / 250**0.5, rel=0.01)
    assert not estimate(arms_of(results, Predictions())["transfer"]).networks.known


def test_grouped_predictions_without_their_groups_are_not_used(tmp_path):
    folder = write_any(tmp_path / "s", PLAIN, ARMS)
    record = folder.record()
    folder.write_record(replace(record, facts={**record.facts, "grouped": True}))
    cautions = make_report(*_unchecked(folder)).cautions
    assert any("it lacks the groups of the images" in caution for caution in cautions)


def _unchecked(folder):
    results = read_results(folder.path)
    return results, read_predictions(results)


def test_sign_flips_are_scipys_of_the_groups_sums():
    rng = np.random.default_rng(0)
    a, b, groups = rng.random((2, 120)) < 0.7, rng.random((1, 120)) < 0.55, np.repeat(np.arange(12), 10)
    sums = (a.mean(0) - b.mean(0)).reshape(12, 10).sum(1)
    exact = permutation_test((sums,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert group_test(a, b, groups).p == pytest.approx(exact)


def test_unlike_networks_stand_side_by_side(tmp_path):
    folder = write_sweep(tmp_path / "s", {"vgg": (2, 2), "small": (1, 2)})
    record = folder.record()
    trials = [
        {**trial, "model": {**trial["model"], "name": "vgg11"}} if trial["arm"] == "small" else trial
        for trial in record.spec["trials"]
    ]
    folder.write_record(replace(record, spec={**record.spec, "trials": trials}))
    for name, parameters, flops in (("vgg-1", 14_719_818, 6.3e8), ("vgg-2", 14_719_818, 6.3e8), ("small", None, None)):
        trial = folder.trial(name)
        trial.write_summary(replace(trial.summary(), all_parameters=parameters, forward_flops=flops))
    results = read_results(folder.path)
    table = table_of(make_report(results), "networks")
    assert [row[:4] for row in table.rows] == [["vgg", "VGG16", "14.72", "0.630"], ["small", "VGG11", "–", "–"]]
    (drawing,) = (drawing for drawing in all_figures(results) if drawing.name == "accuracy-by-size")
    assert list(problems_of_layout(drawing)) == []
    assert "vgg 24.8 % with 14.7 parameters (millions)" in drawing.alt
    assert not drawing.figure.axes[0].lines
    add_predictions(folder)
    results, predictions = read_any(folder)
    table, averages = (table_of(make_report(results, predictions), key) for key in ("networks", "averages"))
    assert table.rows[0][5:7] == averages.rows[0][5:7]
    (drawing,) = (one for one in all_figures(results, predictions) if one.name == "accuracy-by-size")
    (line,) = drawing.figure.axes[0].lines
    assert tuple(line.get_ydata()) == pytest.approx(table.cells[0][6].values[:2])


def test_a_network_of_the_users_own_is_called_by_its_function_wherever_networks_differ(tmp_path):
    folder = write_sweep(tmp_path / "s", {"vgg": (1, 2), "small": (1, 2)})
    record = folder.record()
    for trial in record.spec["trials"]:
        trial["model"] |= {"source": "mylab.nets:small"} if trial["arm"] == "small" else {}
    folder.write_record(record)
    report = make_report(read_results(folder.path))
    assert [row[:2] for row in table_of(report, "networks").rows] == [["vgg", "VGG16"], ["small", "mylab.nets:small"]]
    assert '"small" (mylab.nets:small) from random weights' in report.answer


def test_networks_of_one_name_in_two_libraries_are_two(tmp_path):
    folder = write_sweep(tmp_path / "s", {"one": (1, 2), "other": (1, 2)})
    record = folder.record()
    for trial, library in zip(record.spec["trials"], ("torchvision", "timm"), strict=True):
        trial["model"] |= {"name": f"{library}/resnet18"}
    folder.write_record(record)
    table = table_of(make_report(read_results(folder.path)), "networks")
    assert [row[1] for row in table.rows] == ["torchvision/resnet18", "timm/resnet18"]


def test_large_images_are_shown_small():
    assert smaller(np.full((224, 224, 3), 9, np.uint8)).shape == (MOST_PIXELS, MOST_PIXELS, 3)
    assert smaller(np.full((32, 32, 3), 9, np.uint8)).shape == (32, 32, 3)
