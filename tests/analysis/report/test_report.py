"""raycifar.analysis.report: what the report says, from findings to pages. The sweeps are synthetic."""

import json
import re
import shutil
from collections.abc import Container
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from raycifar.analysis.figures.gap import gap
from raycifar.analysis.figures.style import Drawing, canvas
from raycifar.analysis.learning import blended_arms
from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.reference import load_reference
from raycifar.analysis.report.cautions import cautions
from raycifar.analysis.report.findings import answer, costs
from raycifar.analysis.report.pages import Picture, Report, markdown, pages
from raycifar.analysis.report.report import make_report, write_report
from raycifar.analysis.results import LEAK, MOST_ARMS, ResultsError, read_results
from raycifar.analysis.statistics.contrasts import estimate
from raycifar.analysis.statistics.formulas import sample
from raycifar.analysis.tables.accuracy import accuracy_by_trial, averages_by_arm, learning_speed
from raycifar.analysis.tables.against_reference import COMPARED, against_reference
from raycifar.analysis.tables.equal_cost import at_equal_cost
from raycifar.analysis.tables.gap import overfitting
from raycifar.analysis.tables.images import NO_PREDICTIONS
from raycifar.analysis.tables.table import MOST_ROWS, NOTHING_FINISHED, Column, Table, word
from raycifar.analysis.tested_arms import arms_of
from raycifar.analysis.wording import interval, number, percent, seconds
from raycifar.config.datasets import CIFAR10
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import History
from raycifar.texts import plain
from tests.support.arms import compared
from tests.support.paths import QUICK
from tests.support.sweep_folders import (
    REPORT_ARMS,
    add_predictions,
    begin_trial,
    trial_spec,
    write_failure,
    write_sweep,
)

HOSTILE = "boom <script>alert('x')</script> | `code` *bold* &amp; \x1b[31m\nnext"


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return write_sweep(tmp_path / "sweep")


def report_on(folder: SweepFolder) -> Report:
    return make_report(read_results(folder.path))


def table(report: Report, key: str) -> Table:
    return next(table for table in report.tables if table.key == key)


def cells(table: Table, row: str) -> dict[str, str]:
    return next(dict(zip(table.headings, cells, strict=True)) for cells in table.rows if row in cells)


class Page(HTMLParser):
    """The tags of a page, and what its pictures are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes))


def test_the_answer_is_computed_from_the_numbers_with_its_uncertainty(sweep: SweepFolder) -> None:
    trials = read_results(sweep.path).trials
    mean = trials.loc[trials["arm"] == "transfer", "test_accuracy"].mean()
    report = report_on(sweep)
    text = report.answer
    assert text.startswith("VGG16 trained on CIFAR-10, by arm (an arm is one configuration: all seeds of one recipe)")
    assert '"transfer" from ImageNet weights in 4 epochs, "scratch" from random weights in 6 epochs.' in text
    assert f"transfer gets {100 * mean:.2f} % right on average over 3 trials (95 % interval" in text
    assert "in its one trial (n = 1: no spread" in text
    assert "the sweep's wall clock is 205 s" in report.costs
    assert "minus test accuracy: +1.39 points for transfer" in report.costs
    assert "hints at over-fitting, it does not measure it." in report.costs


def test_the_cost_is_that_of_the_arms_that_the_answer_names(tmp_path: Path) -> None:
    report = report_on(write_sweep(tmp_path / "s", {f"arm-{epochs}": (1, epochs) for epochs in (1, 2, 3, 4, 5, 6)}))
    named = re.findall(r"(arm-\d) gets", report.answer)
    assert len(named) == 4
    assert named != ["arm-1", "arm-2", "arm-3", "arm-4"]
    assert re.findall(r" s for (arm-\d)", report.costs) == named


def test_the_recipe_has_what_no_default_explains(tmp_path: Path) -> None:
    recipe = table(report_on(write_sweep(tmp_path / "s", data={"train_images": 3000})), "recipe")
    assert recipe.headings == ["setting", "transfer", "scratch"]
    assert cells(recipe, "model.weights")["transfer"] == '"imagenet"'
    assert cells(recipe, "data.train_images")["scratch"] == "3000"
    assert not {"data.test_images", "data.validation", "deterministic"} & {row[0] for row in recipe.rows}


def test_averages_give_n_mean_deviation_and_interval_and_say_when_n_is_one(sweep: SweepFolder) -> None:
    rows = table(report_on(sweep), "averages").rows
    transfer = next(row for row in rows if row[:2] == ["transfer", "test accuracy, %"])
    scratch = next(row for row in rows if row[:2] == ["scratch", "test accuracy, %"])
    assert transfer[2] == "3"
    assert re.fullmatch(r"\d\d\.\d\d to \d\d\.\d\d", transfer[5])
    assert scratch[2:6] == ["1", scratch[3], "–", "n = 1: no spread"]
    assert re.fullmatch(r"\d\d\.\d\d to \d\d\.\d\d \(this network alone\)", scratch[6])


def test_combined_time_and_wall_clock_are_in_columns_of_their_own(sweep: SweepFolder) -> None:
    times = table(report_on(sweep), "time")
    transfer, whole = cells(times, "transfer"), cells(times, "the sweep")
    assert (
        transfer["mean training time, s"],
        transfer["combined training time, s"],
        transfer["wall clock, s"],
    ) == ("113", "339", "–")
    assert (whole["combined training time, s"], whole["wall clock, s"], whole["GPU-seconds"]) == ("507", "205", "507")


def test_a_cpu_sweep_says_so_instead_of_gpu_seconds(tmp_path: Path) -> None:
    times = table(report_on(write_sweep(tmp_path / "s", device_kind="cpu")), "time")
    assert cells(times, "transfer")["GPU-seconds"] == "none (CPU)"
    assert "The trials ran on the CPU: there are no GPU-seconds." in times.notes


def test_epochs_and_seconds_to_the_threshold_or_that_it_was_not_reached(tmp_path: Path) -> None:
    learning = table(report_on(write_sweep(tmp_path / "s", {"transfer": (1, 8), "scratch": (1, 3)})), "learning")
    assert cells(learning, "transfer")["epochs to 85 %"] == "5"
    assert cells(learning, "transfer")["seconds to 85 %"] == "138"
    assert cells(learning, "scratch")["epochs to 85 %"] == "not reached"


def test_the_reports_numbers_stand_beside_ours_with_footnotes_on_its_errors(tmp_path: Path) -> None:
    report = report_on(write_sweep(tmp_path / "s", REPORT_ARMS))
    compared = table(report, "reference")
    assert compared.headings[1:] == ["transfer, ours", "transfer, report", "scratch, ours", "scratch, report"]
    assert cells(compared, "test accuracy, %")["transfer, report"] == "85.95 ± 0.20"
    assert cells(compared, "test accuracy, %")["scratch, report"] == "86.56 (n = 1)"
    assert cells(compared, "combined training time, s [b]")["transfer, report"] == "1,390 (recomputed)"
    assert cells(compared, "time as stated, s [b] [c]")["transfer, report"] == "2,848"
    assert any(
        re.match(r"transfer: \d+\.\d\d percentage points .* the report's 85.95 % in test", n) for n in compared.notes
    )
    errata = dict(report.errata)
    assert "the report's validation set was its training set" in errata["a"]
    assert "not run times" in errata["b"]


def test_the_reference_averages_are_those_that_the_report_states() -> None:
    reference = load_reference()
    train = reference.values("transfer", "train_accuracy")
    assert sum(train) / 3 == pytest.approx(0.961193, abs=1e-6)
    assert sum(reference.values("transfer", "stated_seconds")) == pytest.approx(2847.563)


def test_a_full_size_sweep_compares_with_the_report(tmp_path: Path) -> None:
    assert report_on(write_sweep(tmp_path / "s", REPORT_ARMS)).cautions == []


def test_a_cut_down_sweep_says_that_it_does_not_compare(tmp_path: Path) -> None:
    data = {"train_images": 3000, "holdout_images": 500, "test_images": 1000}
    text = " ".join(report_on(write_sweep(tmp_path / "s", {"transfer": (1, 2), "scratch": (1, 3)}, data=data)).cautions)
    assert "3,000 training images instead of 50,000 (transfer, scratch)" in text
    assert "1,000 test images instead of 10,000 (transfer, scratch)" in text
    assert "2 epochs instead of 15 (transfer); 3 epochs instead of 125 (scratch)" in text


def test_enlarged_and_mixed_images_are_among_the_cautions(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s").path)
    transfer, *others = results.spec.trials
    changes = {"model": {"weights": "imagenet", "upsample": 7}, "augmentation": {"cutmix": 1.0}}
    changed = type(transfer).model_validate(transfer.model_dump() | changes)
    spec = results.spec.model_copy(update={"trials": (changed.model_copy(update={"arm": "larger"}), *others)})
    epochs = results.epochs.assign(arm=results.epochs["arm"].replace("transfer", "larger"))
    text = " ".join(cautions(replace(results, spec=spec, epochs=epochs)))
    assert "larger enlarges its images to 224 pixels a side" in text
    assert "by about 49" in text
    assert "larger trains on images blended of two" in text
    assert "blended" not in " ".join(cautions(results))
    without = epochs[epochs["arm"] != "larger"]
    text = " ".join(cautions(replace(results, spec=spec, epochs=without)))
    assert "enlarges" not in text  # there is nothing to misread yet
    assert "blended" not in text


def test_arms_tested_on_other_images_are_said_so_and_judged_by_their_own(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (2, 4), "scratch": (1, 4)})
    record = sweep.record()
    record.spec["trials"][2]["data"]["test_images"] = 100
    sweep.write_record(record)
    trial = sweep.trial("scratch")
    trial.write_summary(replace(trial.summary(), test_images=100, test_accuracy=0.7))
    results = read_results(sweep.path)
    assert "Of the 10,000 or 100 test images, transfer gets" in answer(*compared(results))
    assert "with other test images this network would get 60.42 to 78.11 %" in answer(*compared(results))
    assert "The arms are not tested on the same images: transfer on 10,000, scratch on 100." in cautions(results)


def test_trials_on_unlike_devices_are_among_the_cautions(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s")
    assert not any("devices" in caution for caution in cautions(read_results(sweep.path)))
    history = sweep.trial("scratch").history()
    sessions = [replace(session, device="Another GPU") for session in history.sessions]
    sweep.trial("scratch").write_history(History(history.epochs, sessions))
    said = "Times do not compare between trials on different devices: Synthetic GPU, Another GPU."
    assert said in cautions(read_results(sweep.path))


def test_what_slowed_a_trial_down_is_among_the_cautions(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s")
    assert not any("slower" in caution for caution in cautions(read_results(sweep.path)))
    history = sweep.trial("scratch").history()
    sessions = [replace(session, warnings=["no CUDA graph"]) for session in history.sessions * 2]
    sweep.trial("scratch").write_history(History(history.epochs, sessions))
    said = "Some trials were slower than they might have been: scratch (no CUDA graph)."
    assert said in cautions(read_results(sweep.path))


def test_arms_so_far_are_compared_at_the_newest_epoch_of_the_trials_that_have_not_failed(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (4, 9)}, running=True)
    write_failure(sweep, "transfer-1", "no more")
    for name, epochs in {"transfer-1": 1, "transfer-2": 5, "transfer-3": 6, "transfer-4": 0}.items():
        trial = sweep.trial(name)
        (trial.path / "summary.json").unlink(missing_ok=True)
        trial.write_history(History(trial.history().epochs[:epochs], trial.history().sessions))
    results = read_results(sweep.path)
    fifth = results.epochs[results.epochs["epoch"] == 5]["val_accuracy"].mean()
    assert answer(*compared(results)).endswith(f"transfer is at {100 * fifth:.2f} % (n = 2 of 4) after 5 of 9 epochs.")


def test_of_many_arms_of_which_none_has_finished_those_that_have_begun_are_shown(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {f"arm-{i}": (1, 2) for i in range(MOST_ARMS + 3)})
    for i in range(MOST_ARMS + 3):
        (sweep.trial(f"arm-{i}").path / "summary.json").unlink()
    for i in range(MOST_ARMS + 1):
        shutil.rmtree(sweep.trial(f"arm-{i}").path)
    results = read_results(sweep.path)
    assert {f"arm-{MOST_ARMS + 1}", f"arm-{MOST_ARMS + 2}"} < set(results.shown_arms)
    assert f"; arm-{MOST_ARMS + 2} is at" in answer(*compared(results))


def of_trials(failed: Container[int]) -> Table:
    """A table of a hundred trials."""
    columns: list[Column[int]] = [Column("trial", lambda i: word(f"trial-{i}"))]
    return Table.of("trials", "", range(100), columns, is_urgent=lambda i: i in failed)


def test_failed_trials_are_shown_where_not_all_can_be() -> None:
    table = of_trials(failed={3, 98}).head(10)
    shown = [row[0] for row in table.rows]
    assert len(shown) == 10
    assert {"trial-3", "trial-98"} < set(shown)
    assert shown == sorted(shown, key=lambda name: int(name[6:]))
    assert table.notes == [
        "10 of 100 rows, the first 2 of 2 failed trials, the others evenly taken; all are in tables/trials.csv."
    ]


def test_of_many_failed_trials_half_the_rows_are() -> None:
    table = of_trials(failed=range(50, 100)).head(10)
    assert [row[0] for row in table.rows] == [f"trial-{i}" for i in (0, 10, 20, 30, 40, 50, 51, 52, 53, 54)]


def test_where_most_trials_failed_all_others_are_shown() -> None:
    for failed in (range(90), range(100)):
        table = of_trials(failed).head(60)
        assert len(table.rows) == 60
        assert {row[0] for row in table.rows} >= {f"trial-{i}" for i in range(len(failed), 100)}


def test_a_leak_is_marked_in_every_table_and_among_the_cautions(tmp_path: Path) -> None:
    report = report_on(write_sweep(tmp_path / "s", data={"validation": "train"}))
    assert all(table.leak for table in report.tables)
    assert LEAK in report.cautions[0]


def test_files_without_any_finished_trial_still_say_what_there_is(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (1, 4), "scratch": (1, 6)})
    (sweep.trial("transfer").path / "summary.json").unlink()
    shutil.rmtree(sweep.trial("scratch").path)
    report = write_report(read_results(sweep.path), tmp_path / "out")
    assert report.answer.startswith("No trial has finished")
    assert "Epochs so far: 4, of 1 of the trials" in report.answer
    so_far = 100 * read_results(sweep.path).epochs["val_accuracy"].iloc[-1]
    assert report.answer.endswith(f"transfer is at {so_far:.2f} % (n = 1) after 4 of 4 epochs.")
    assert table(report, "averages").notes == table(report, "gap").notes == [NOTHING_FINISHED]
    assert [row[1] for row in table(report, "trials").rows] == ["interrupted", "not started"]
    assert (tmp_path / "out/figures/timeline.png").stat().st_size > 1000
    assert not (tmp_path / "out/figures/train-test-gap.png").exists()


def test_a_sweep_without_any_epoch_gets_a_report_without_figures(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (1, 4)})
    shutil.rmtree(sweep.trial("transfer").path)
    write_report(read_results(sweep.path), tmp_path / "out")
    assert "nothing to draw" in (tmp_path / "out/report.html").read_text()
    assert "nothing to draw" in (tmp_path / "out/report.md").read_text()


def test_means_leave_out_what_has_not_finished_and_say_so(sweep: SweepFolder) -> None:
    shutil.rmtree(sweep.trial("transfer-3").path)
    begin_trial(sweep, trial_spec(sweep, "transfer-3"), 1)
    report = report_on(sweep)
    assert "Finished trials: 3 of 4" in report.answer
    assert next(row for row in table(report, "averages").rows if row[0] == "transfer")[2] == "2 of 3"
    assert cells(table(report, "time"), "not finished, so far")["combined training time, s"] == "27.5"


def test_an_arm_with_one_of_three_trials_finished_does_not_pose_as_a_single_trial(sweep: SweepFolder) -> None:
    for name in ("transfer-1", "transfer-2"):
        shutil.rmtree(sweep.trial(name).path)
    assert "in the one of its 3 trials that has finished (n = 1" in report_on(sweep).answer


def test_a_broken_file_is_named_in_the_report(sweep: SweepFolder) -> None:
    path = sweep.trial("transfer-2").path / "summary.json"
    path.write_text("{")
    assert any(f"Unreadable: {path}" in caution for caution in report_on(sweep).cautions)


def test_hostile_text_stays_text_in_html_and_markdown(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (2, 1)})
    write_failure(sweep, "transfer-2", HOSTILE)
    texts = pages(report_on(sweep), [])
    html, md = texts["report.html"], texts["report.md"]
    assert "script" not in Page(html).tags
    assert "boom &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; | `code`" in html
    assert r"boom &lt;script&gt;alert('x')&lt;/script&gt; \| \`code\` \*bold\* &amp;amp;" in md
    assert "\x1b" not in html + md


def test_the_page_is_one_file_without_network_or_script_and_describes_its_pictures(tmp_path: Path) -> None:
    drawing = Drawing("name", "title", "caption", "what it shows", canvas("title")[0])
    sweep = write_sweep(tmp_path / "s", {"transfer": (1, 2)})
    text = pages(report_on(sweep), [Picture.of(drawing, tmp_path)])["report.html"]
    page = Page(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", text)
    assert [image["alt"] for image in page.images] == ["what it shows"]
    assert str(page.images[0]["src"]).startswith("data:image/svg+xml;base64,")
    assert page.tags.count("h1") == 1


def test_provenance_names_file_fingerprint_commit_seeds_and_commands(sweep: SweepFolder) -> None:
    report = report_on(sweep)
    about = dict(report.provenance)
    assert about["sweep file"] == "sweeps/sweep.toml"
    assert re.fullmatch(r"[0-9a-f]{16}", about["fingerprint of the settings"])
    assert about["seeds"] == "transfer: 1 to 3; scratch: 1"
    assert "torch 2.14.1" in about["versions"]
    assert report.commands == ["python run_sweep.py sweeps/sweep.toml"]


@pytest.mark.slow
def test_many_arms_and_trials_are_cut_where_they_are_shown_and_whole_in_the_tables_folder(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {f"arm-{i}": (1, 1) for i in range(70)})
    report = write_report(read_results(sweep.path), tmp_path / "out")
    assert len(table(report, "trials").rows) == MOST_ROWS
    assert table(report, "trials").notes[0] == f"{MOST_ROWS} of 70 rows, evenly taken; all are in tables/trials.csv."
    assert len(pd.read_csv(tmp_path / "out/tables/trials.csv")) == 70
    assert len(table(report, "reference").headings) == 1 + 2 * MOST_ARMS
    assert "the other 66 arms get no more right" in report.answer
    assert "these numbers picked it" in report.answer
    assert any(caution.startswith("70 arms: figures") for caution in report.cautions)
    assert dict(report.provenance)["seeds"].endswith("of 60 more arms: see trials.csv")
    assert not list((tmp_path / "out/figures").glob("trial-*"))


def test_trials_that_failed_alike_are_one_line(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (9, 1)})
    for i in range(1, 9):
        write_failure(sweep, f"transfer-{i}", "out of memory")
    trials = ", ".join(f"transfer-{i}" for i in range(1, 7))
    assert report_on(sweep).failures == [(f"{trials} and 2 more", "RuntimeError: out of memory")]


def test_many_unreadable_files_are_counted(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (12, 1)})
    for i in range(12):
        (sweep.trial(f"transfer-{i + 1}").path / "summary.json").write_text("{")
    cautions = report_on(sweep).cautions
    assert sum(caution.startswith("Unreadable: ") for caution in cautions) == 10
    assert cautions[-1] == "2 more files are unreadable; trials.csv names their trials."


def test_missing_optional_figures_leave_gaps_not_errors(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"transfer": (1, 2)})
    summary = sweep.trial("transfer").path / "summary.json"
    summary.write_text(summary.read_text().replace('"precision": "bf16"', '"unknown": 1, "precision": "bf16"'))
    (sweep.path / "invocations.json").unlink()
    report = write_report(read_results(sweep.path), tmp_path / "out")
    assert '"transfer" from ImageNet weights in 2 epochs. Of the 10,000' in report.answer
    assert NO_PREDICTIONS in table(report, "paired").notes
    assert table(report, "devices").rows[0][-1] == "–"


def test_plain_is_one_printable_line_and_markdown_means_nothing() -> None:
    assert plain(" a\n\tb\x00 ") == "a b�"
    assert markdown("a|b <c> [d](e)") == r"a\|b &lt;c&gt; \[d\](e)"


# The tables of a real sweep against its own files (tests/samples/README.md) ------------------------------------------


@pytest.fixture(scope="module")
def files() -> dict[str, list[dict[str, Any]]]:
    """Arm -> its trials' summary.json, and what follows from their history.json."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for name in ("transfer-1", "transfer-2", "transfer-3", "scratch"):
        of = json.loads((QUICK / name / "summary.json").read_text())
        epochs = json.loads((QUICK / name / "history.json").read_text())["epochs"]
        of |= {key: epochs[-1][key] for key in ("train_accuracy", "train_loss", "val_accuracy", "val_loss")}
        of["mean_train_accuracy"] = np.mean([epoch["train_accuracy"] for epoch in epochs])
        of["train_test_gap"] = epochs[-1]["train_accuracy"] - of["test_accuracy"]
        of["own_seconds"] = sum(of[f"{part}_seconds"] for part in ("train", "val", "checkpoint", "test"))
        images = sum(epoch["images_per_second"] * epoch["train_seconds"] for epoch in epochs)
        of["images_per_second"] = images / of["train_seconds"]
        arms.setdefault(of["arm"], []).append(of)
    return arms


def test_every_figure_of_a_trial_is_that_of_its_files(files: dict[str, list[dict[str, Any]]]) -> None:
    trials = [trial for of_arm in files.values() for trial in of_arm]
    assert [row[2:5] + row[6:] for row in accuracy_by_trial(read_results(QUICK)).rows] == [
        [
            *(percent(t[key]) for key in ("test_accuracy", "val_accuracy", "train_accuracy")),
            *(str(t["best_epoch"]), str(t["seed"]), percent(t["test_accuracy_flip"])),
            *(number(t[key]) for key in ("train_loss", "val_loss", "test_loss")),
        ]
        for t in trials
    ]
    assert [row[4:] for row in learning_speed(read_results(QUICK)).rows] == [
        [percent(t["best_val_accuracy"]), percent(t["mean_train_accuracy"]), seconds(t["images_per_second"])]
        for t in trials
    ]


def test_every_average_is_of_the_quantity_that_it_is_said_to_be_of(files: dict[str, list[dict[str, Any]]]) -> None:
    keys = ["test_accuracy", "test_accuracy_flip", "best_val_accuracy", "train_accuracy", "mean_train_accuracy"]
    shows = dict.fromkeys([*keys, "train_test_gap"], percent) | {"test_loss": number, "own_seconds": seconds}
    rows = averages_by_arm(*compared(QUICK)).rows
    for (arm, trials), of_arm in zip(files.items(), (rows[:8], rows[8:]), strict=True):
        for row, (key, show) in zip(of_arm, shows.items(), strict=True):
            of, sign = sample(trial[key] for trial in trials), "+" if key == "train_test_gap" else ""
            assert row[0] == arm
            assert row[2:6] == [str(len(trials)), show(of.mean, sign), show(of.sd), interval(of, show, sign)], row[1]


def test_the_answer_and_the_costs_have_the_numbers_of_the_files(files: dict[str, list[dict[str, Any]]]) -> None:
    results = read_results(QUICK)
    transfer, scratch = (sample(t["test_accuracy"] for t in files[arm]) for arm in ("transfer", "scratch"))
    predictions = read_predictions(results)
    text = answer(*compared(results, predictions))
    assert f"That puts transfer {100 * (transfer.mean - scratch.mean):.2f} percentage points ahead of scratch" in text
    both = estimate(arms_of(results, predictions)["transfer"])
    assert (
        f"over seeds, on these images, {100 * transfer.low:.2f} to {100 * transfer.high:.2f} %; with other test images "
        f"{100 * both.images.low:.2f} to {100 * both.images.high:.2f} %; standard deviation {100 * transfer.sd:.2f}"
    ) in text
    assert text.count("left out") == 0
    assert answer(*compared(results)).count("what other test images would change is left out") == 1
    own, (alone,) = [t["own_seconds"] for t in files["transfer"]], [t["own_seconds"] for t in files["scratch"]]
    assert costs(*compared(results)).startswith(
        "The training time of a trial (training steps, validation, checkpointing and test, without start-up) was "
        f"{np.mean(own):,.0f} s for transfer ({sum(own):,.0f} s combined), {alone:,.0f} s for"
    )
    averages = averages_by_arm(*compared(results, predictions)).rows
    (seeds, images), (_, single) = (row[5:7] for row in averages if row[1] == "training − test, points")
    text = costs(*compared(results, predictions))
    assert f" points for transfer (95 % interval over seeds {seeds}, with other test images {images})" in text
    assert (
        f" points for scratch (this network with other test images {single.removesuffix(' (this network alone)')})"
        in text
    )


def test_ours_beside_the_report_is_of_the_same_quantity(files: dict[str, list[dict[str, Any]]]) -> None:
    table = against_reference(read_results(QUICK), load_reference())
    rows = {row[0]: row[1:] for row in table.rows}
    assert (rows["trials (n)"], rows["epochs planned"]) == (["3", "3", "1", "1"], ["2", "15", "3", "125"])
    keys = ["train_accuracy", "train_loss", "val_accuracy", "best_val_accuracy", "val_loss", "test_accuracy"]
    keys += ["test_loss", "train_test_gap", "mean_train_accuracy"]
    for key, (name, _, show, sign) in zip(keys, COMPARED, strict=True):
        of = sample(t[key] for t in files["transfer"])
        assert rows[name][0] == f"{show(of.mean, sign)} ± {show(of.sd)}", name
        assert rows[name][2] == f"{show(files['scratch'][0][key], sign)} (n = 1)", name
    assert rows["combined training time, s [b]"][0] == seconds(sum(t["own_seconds"] for t in files["transfer"]))
    theirs = load_reference().values("transfer", "test_accuracy")
    found = scipy_stats.ttest_ind([t["test_accuracy"] for t in files["transfer"]], theirs, equal_var=False)
    low, high = (f"{100 * end:+.2f}".replace("-", "\u2212") for end in found.confidence_interval(0.95))
    assert (
        "transfer: 14.48 percentage points below the report's 85.95 % in test accuracy (95 % interval over seeds "
        f"{low} to {high} points, Welch; what other test images would change is left out, for want of the report's "
        "predictions)."
    ) in table.notes
    assert any(note.startswith("scratch: ") and "(n = 1: no spread; what other test" in note for note in table.notes)
    assert rows["training − test accuracy, points"][1::2] == ["+10.17 ± 0.62", "+8.38 (n = 1)"]
    assert rows["test loss"][1::2] == ["0.8058 ± 0.0978", "0.5767 (n = 1)"]
    assert load_reference().recomputed == {"transfer": {"seconds": 15 * 29, "combined_seconds": 1390}}


def test_the_gap_is_training_minus_test(files: dict[str, list[dict[str, Any]]]) -> None:
    row = overfitting(*compared(QUICK)).rows[0]
    train, test, gap = (
        float(np.mean([t[key] for t in files["transfer"]]))
        for key in ("train_accuracy", "test_accuracy", "train_test_gap")
    )
    assert row[:5] == ["transfer", "3", percent(train), percent(test), percent(gap, "+")]


def test_last_epoch_and_test_have_rows_of_their_own(files: dict[str, list[dict[str, Any]]]) -> None:
    (scratch,) = files["scratch"]
    cells = [row[2] for row in at_equal_cost(*compared(QUICK)).rows[2:]]
    assert cells == [f"{percent(scratch[key])} (n = 1)" for key in ("val_accuracy", "test_accuracy")]


VARIED = {
    "none": ([], "images and their augmentation. The split, the test images"),
    "one": (["scratch"], "augmentation; of scratch also which images train and validate. The test images"),
    "all": (["transfer", "scratch"], "images, their augmentation and which images train and validate. The test images"),
}


@pytest.mark.parametrize(("arms", "words"), VARIED.values(), ids=VARIED)
def test_the_averages_say_whether_seeds_vary_the_split(tmp_path: Path, arms: list[str], words: str) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 4), "scratch": (1, 4)})
    record = folder.record()
    assert record is not None
    for trial in record.spec["trials"]:
        trial["data"]["split_seed"] = "trial" if trial["arm"] in arms else 0
    folder.write_record(record)
    assert words in " ".join(averages_by_arm(*compared(folder.path)).notes)


SPLITS = {"the same": (0, 0, 0), "two numbers": (0, 1, 1), "a number and the trial's": (0, "trial", 1)}


@pytest.mark.parametrize(("one", "other", "lines"), SPLITS.values(), ids=SPLITS)
def test_arms_whose_training_images_are_other_draws_are_among_the_cautions(
    tmp_path: Path, one: int, other: int | str, lines: int
) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 4), "scratch": (1, 4)})
    record = folder.record()
    assert record is not None
    for trial in record.spec["trials"]:
        trial["data"]["split_seed"] = other if trial["arm"] == "scratch" else one
    folder.write_record(record)
    said = [line for line in cautions(read_results(folder.path)) if "data.split_seed" in line]
    assert len(said) == lines
    assert all("transfer with 0, scratch with" in line for line in said)


def test_the_largest_gap_is_named(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 4), "scratch": (1, 4)})
    trial = folder.trial("scratch")
    trial.write_summary(replace(trial.summary(), test_accuracy=0.0))
    notes = overfitting(*compared(folder.path)).notes
    assert any(note.startswith("The largest gap is that of scratch: +") for note in notes)


def test_the_gap_on_plain_training_images_stands_beside_where_it_was_measured(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 4), "scratch": (1, 4)})
    assert not [column for column in overfitting(*compared(folder.path)).columns if "plain" in column.heading]
    for name, accuracy in (("transfer-1", 0.9), ("transfer-2", 0.92)):
        trial = folder.trial(name)
        trial.write_summary(replace(trial.summary(), plain_train_accuracy=accuracy, test_accuracy=0.8))
    results = read_results(folder.path)
    table = overfitting(*compared(results))
    assert cells(table, "transfer")["plain training %"] == "91.00"
    add_predictions(folder)
    results = read_results(folder.path)
    row = overfitting(*compared(results, read_predictions(results))).cells[0]
    assert row[6].values[1] - row[6].values[0] != pytest.approx(row[10].values[1] - row[10].values[0])
    assert row[10].values[0] <= row[9].values[0] < row[9].values[1] <= row[10].values[1]
    assert cells(table, "transfer")["plain gap, points"] == "+11.00"
    assert cells(table, "scratch")["plain gap, points"] == "–"
    assert "+11.0 points for transfer" not in gap(results.finished, results.arms).caption  # not all have it
    of_transfer = gap(results.finished[results.finished["arm"] == "transfer"], results.arms)
    assert "+11.0 points for transfer on average" in of_transfer.caption
    assert "training is measured as test is" in of_transfer.caption


BLENDED = "scratch trains on images blended of two (Mixup, CutMix), which are harder than the test images: its gap is"
GAPS = {
    "all blended": ({"scratch": (1, 4)}, []),
    "one other": ({"transfer": (1, 4), "scratch": (1, 4)}, []),
    "two others": (
        {"transfer": (1, 4), "transfer-b": (1, 4), "scratch": (1, 4)},
        ["The largest gap of the others is that of transfer-b: +5.00 points."],
    ),
    "another that does not": ({"quiet": (1, 4), "scratch": (1, 4)}, []),
}


@pytest.mark.parametrize(("arms", "verdict"), GAPS.values(), ids=GAPS)
def test_gaps_on_blended_images_are_marked_and_not_ranked(
    tmp_path: Path, arms: dict[str, tuple[int, int]], verdict: list[str]
) -> None:
    folder = write_sweep(tmp_path / "s", arms)
    record = folder.record()
    assert record is not None
    for trial in record.spec["trials"]:
        trial["augmentation"]["cutmix"] = 1.0 if trial["arm"] == "scratch" else 0.0
        files = folder.trial(trial["name"])
        summary, train = files.summary(), files.history().epochs[-1].train_accuracy
        assert summary is not None
        over = {"transfer": 0.03, "transfer-b": 0.05, "scratch": -0.12, "quiet": -0.01}[trial["arm"]]
        files.write_summary(replace(summary, test_accuracy=train - over))
    folder.write_record(record)
    results = read_results(folder.path)
    table = overfitting(*compared(results))
    assert cells(table, "scratch")["gap, points"] == "not given (blended images)"
    add_predictions(folder)
    predicted = compared(results, read_predictions(results))
    (scratch,) = (row for row in overfitting(*predicted).cells if row[0].text == "scratch")
    assert [cell.text for cell in scratch[5:7]] == ["–", "–"]
    assert not [
        row for row in averages_by_arm(*compared(results)).rows if row[:2] == ["scratch", "training − test, points"]
    ]
    (why, *rest) = table.notes[1:]
    assert why.startswith(BLENDED)
    assert rest == verdict
    assert "not given for scratch, whose images are blended of two (Mixup, CutMix)." in costs(*compared(results))
    assert BLENDED in gap(results.finished, results.arms, blended_arms(results.spec)).caption


def test_a_trial_that_stopped_early_says_so(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 4)})
    trial = folder.trial("transfer")
    trial.write_summary(replace(trial.summary(), stopped_early=True, epochs_planned=9))
    assert accuracy_by_trial(read_results(folder.path)).rows[0][5] == "4 of 9, stopped early"


def test_ours_beside_the_report_counts_finished_trials(sweep: SweepFolder) -> None:
    write_failure(sweep, "transfer-2", "lost")
    assert cells(table(report_on(sweep), "reference"), "trials (n)")["transfer, ours"] == "2"


def test_the_best_epoch_so_far_is_named(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 4)})
    (folder.trial("transfer").path / "summary.json").unlink()
    assert "the best validation accuracy is 82.84 % (transfer, epoch 4)." in answer(*compared(folder.path))


def test_one_trial_that_leaks_marks_what_it_is_in(sweep: SweepFolder) -> None:
    record, trial = sweep.record(), sweep.trial("scratch")
    record.spec["trials"][3]["data"]["validation"] = "train"
    sweep.write_record(record)
    trial.write_summary(replace(trial.summary(), validation="train"))
    report = report_on(sweep)
    assert report.cautions[0].startswith(f"scratch: {LEAK}.")
    assert all(table.leak for table in report.tables)


def test_a_leak_is_marked_at_every_table_of_both_pages(tmp_path: Path) -> None:
    report = report_on(write_sweep(tmp_path / "s", {"transfer": (1, 2)}, data={"validation": "train"}))
    texts = pages(report, [])
    assert texts["report.md"].count(f" — {LEAK}\n") == len(report.tables)
    assert texts["report.html"].count(f'<p class="mark">{LEAK}</p>') == len(report.tables)


def of_leaves(folder: SweepFolder, network: str = "vgg11") -> SweepFolder:
    """The same sweep, as if it had trained another network on other images."""
    facts = CIFAR10.model_copy(update={"name": "leaves", "title": "leaves", "mirror": True, "digest": "ab" * 32})
    record = folder.record()
    assert record is not None
    for trial in record.spec["trials"]:
        trial["model"] |= {"name": network, "weights": "random"}
        trial["data"]["name"] = "fashion_mnist"
    folder.write_record(replace(record, facts=facts.model_dump(mode="json"), data=facts.digest))
    return folder


def test_a_report_speaks_of_what_was_run(sweep: SweepFolder) -> None:
    before, report = report_on(sweep), report_on(of_leaves(sweep))
    assert "VGG16 trained on CIFAR-10" in before.answer
    assert "VGG11 trained on leaves" in report.answer
    text = pages(report, [])["report.md"]
    assert not re.search("VGG16|CIFAR", text)


def test_where_networks_differ_the_answer_says_which_arm_trains_which(sweep: SweepFolder) -> None:
    record = sweep.record()
    assert record is not None
    record.spec["trials"][-1]["model"]["name"] = "vgg11"
    sweep.write_record(record)
    said = report_on(sweep).answer
    assert said.startswith("VGG16, VGG11 trained on CIFAR-10")
    assert '"transfer" (VGG16) from ImageNet weights' in said
    assert '"scratch" (VGG11) from random weights' in said


def test_only_vgg16_on_cifar10_is_compared_with_the_reference_report(sweep: SweepFolder) -> None:
    assert "reference" in [table.key for table in report_on(sweep).tables]
    report = report_on(of_leaves(sweep))
    assert "reference" not in [table.key for table in report.tables]
    assert not report.errata
    assert not [caution for caution in report.cautions if "reference" in caution]


def test_a_record_whose_facts_cannot_be_read_is_refused_in_one_line(sweep: SweepFolder) -> None:
    record = sweep.record()
    assert record is not None
    sweep.write_record(replace(record, facts={"name": "x"}))
    with pytest.raises(ResultsError, match=r"sweep\.json: ") as error:
        read_results(sweep.path)
    assert "\n" not in str(error.value)
