"""raycifar.analysis.figures: what is drawn, from synthetic sweeps (see sweep_folders)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.figures.bands import accuracy_against_epochs
from raycifar.analysis.figures.gap import gap
from raycifar.analysis.figures.style import Drawing, in_words, ink, save, shorten, time_unit
from raycifar.analysis.figures.timeline import timeline
from raycifar.analysis.results import LEAK, read_results
from raycifar.storage.records import History
from tests.support.figures import problems_of_layout, shown_texts
from tests.support.paths import QUICK
from tests.support.sweep_folders import begin_trial, trial_spec, write_failure, write_sweep

LONG = "transfer-with-a-name-that-is-about-as-long-as-a-name-may-be"
SWEEPS = {
    "one-trial-one-epoch": ({"transfer": (1, 1)}, {}),
    "two-epochs-on-a-cpu": ({"transfer": (2, 2), "scratch": (1, 2)}, {"device_kind": "cpu", "lanes": 2}),
    "long-names-and-125-epochs": ({LONG: (1, 3), "scratch": (1, 125)}, {"lanes": 2}),
}


def drawings(folder: Path) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in all_figures(read_results(folder))}


def drawn(folder: Path, name: str) -> Drawing:
    """The figure of that name; those behind it are not drawn."""
    return next(drawing for drawing in all_figures(read_results(folder)) if drawing.name == name)


@pytest.fixture(scope="module")
def report_figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drawing]:
    return drawings(write_sweep(tmp_path_factory.mktemp("figures") / "s", lanes=2).path)


def test_a_mean_over_trials_of_unlike_length_ends_with_the_shortest_and_never_goes_back_in_time(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (3, 15)})
    (folder.trial("transfer-1").path / "summary.json").unlink()
    begin_trial(folder, trial_spec(folder, "transfer-1"), 5, train_seconds=100.0)
    for name in ("epochs", "seconds"):
        drawing = drawn(folder.path, f"validation-accuracy-against-{name}")
        mean, *ahead = (line for line in drawing.figure.axes[0].lines if len(line.get_xdata()) > 2)  # no threshold
        assert len(mean.get_xdata()) == 5
        assert all(np.diff(mean.get_xdata()) > 0)
        assert [len(line.get_xdata()) for line in ahead] == [11, 11], "the others' epochs 5 to 15"
        assert "thin: trials beyond the last epoch that all of their arm have" in drawing.caption


def test_a_failed_trial_does_not_speak_for_its_arm_where_there_are_others(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (3, 15)})
    begin_trial(folder, trial_spec(folder, "transfer-3"), 1)
    write_failure(folder, "transfer-3", "lost")
    captions = {name: drawing.caption for name, drawing in drawings(folder.path).items()}
    assert captions["validation-accuracy-against-epochs"].startswith("After 15 epochs transfer is at")
    assert "(n = 2)" in captions["validation-accuracy-against-epochs"]
    assert captions["arm-transfer-validation-accuracy"].startswith(
        "After 15 epochs the 2 of 3 trials that did not fail"
    )
    for name in ("transfer-1", "transfer-2"):
        write_failure(folder, name, "lost")
    assert "(n = 3)" in drawn(folder.path, "validation-accuracy-against-epochs").caption


def test_every_figure_of_the_reference_report_and_the_four_more_are_there(report_figures: dict[str, Drawing]) -> None:
    trials = ["transfer-1", "transfer-2", "transfer-3", "scratch"]
    expected = {f"trial-{trial}-{what}" for trial in trials for what in ("accuracy", "loss")}
    expected |= {f"arm-{arm}-{what}-accuracy" for arm in ("transfer", "scratch") for what in ("training", "validation")}
    expected |= {f"validation-accuracy-against-{what}" for what in ("epochs", "seconds")}
    expected |= {"time-by-arm", "timeline", "train-test-gap"}
    assert set(report_figures) == expected


@pytest.mark.parametrize("sweep", SWEEPS)
def test_no_text_is_clipped_or_overlaps_another(tmp_path: Path, sweep: str) -> None:
    arms, options = SWEEPS[sweep]
    folder = write_sweep(tmp_path / "s", arms, **options)
    assert [problem for drawing in drawings(folder.path).values() for problem in problems_of_layout(drawing)] == []


def test_axes_name_their_quantity_and_its_unit(report_figures: dict[str, Drawing]) -> None:
    axes = report_figures["trial-scratch-accuracy"].figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "accuracy (%)")
    assert report_figures["trial-scratch-loss"].figure.axes[0].get_ylabel() == "loss (nats)"
    assert report_figures["time-by-arm"].figure.axes[0].get_xlabel() == "time (s)"


def test_the_curves_are_the_epochs(report_figures: dict[str, Drawing], tmp_path: Path) -> None:
    epochs = read_results(write_sweep(tmp_path / "s", lanes=2).path).epochs
    expected = epochs.loc[epochs["trial"] == "scratch", "val_accuracy"] * 100
    validation = report_figures["trial-scratch-accuracy"].figure.axes[0].get_lines()[1]
    assert list(validation.get_ydata()) == list(expected)


def test_all_repeats_are_in_one_plot_in_colours_of_their_own(report_figures: dict[str, Drawing]) -> None:
    lines = report_figures["arm-transfer-training-accuracy"].figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["transfer-1", "transfer-2", "transfer-3"]
    assert len({to_hex(line.get_color()) for line in lines}) == 3


def test_many_repeats_become_thin_lines_and_their_mean(tmp_path: Path) -> None:
    figure = drawn(write_sweep(tmp_path / "s", {"transfer": (9, 3)}).path, "arm-transfer-validation-accuracy").figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["each trial", "mean"]


def test_the_bars_of_an_arm_add_up_to_its_own_time(report_figures: dict[str, Drawing]) -> None:
    bars = [p for p in report_figures["time-by-arm"].figure.axes[0].patches if abs(p.get_y() + 0.31) < 1e-6]
    own = sum(bar.get_width() for bar in bars if not bar.get_hatch())
    assert own == pytest.approx(3 * (4 * 27.5 + 3))
    assert sum(bar.get_width() for bar in bars if bar.get_hatch()) == pytest.approx(3 * 12)


def test_the_timeline_has_a_lane_for_each_gpu(report_figures: dict[str, Drawing]) -> None:
    labels = [label.get_text() for label in report_figures["timeline"].figure.axes[0].get_yticklabels()]
    assert labels == ["GPU 0", "GPU 1"]


def test_on_a_cpu_trials_share_as_few_lanes_as_overlap_allows(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"scratch": (5, 2)}, device_kind="cpu", lanes=2)
    labels = [label.get_text() for label in drawn(folder.path, "timeline").figure.axes[0].get_yticklabels()]
    assert labels == ["CPU (1)", "CPU (2)"]


def test_a_pause_between_two_calls_is_cut_out_and_marked(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"scratch": (1, 2)})
    first = sweep.invocations()[0]
    assert first.ended_at is not None
    later = replace(first, started_at=first.ended_at + 1e6, ended_at=first.ended_at + 1e6 + 50)
    sweep.write_invocations([first, later])
    history = sweep.trial("scratch").history()
    again = replace(history.sessions[0], started_at=later.started_at + 5, ended_at=later.started_at + 45)
    sweep.trial("scratch").write_history(History(history.epochs, [history.sessions[0], again]))
    axes = drawn(sweep.path, "timeline").figure.axes[0]
    assert axes.get_xlim()[1] < 200
    assert "stopped, then resumed" in axes.get_legend_handles_labels()[1]


def test_a_leak_is_marked_in_every_figure(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 2), "scratch": (1, 2)}, data={"validation": "train"})
    for drawing in drawings(folder.path).values():
        assert LEAK in [text.get_text() for text in shown_texts(drawing)], drawing.name
        assert LEAK in drawing.caption


def test_no_leak_no_mark(report_figures: dict[str, Drawing]) -> None:
    assert all(LEAK not in text.get_text() for d in report_figures.values() for text in shown_texts(d))


def test_the_same_numbers_give_the_same_files(report_figures: dict[str, Drawing], tmp_path: Path) -> None:
    drawing = report_figures["train-test-gap"]
    first = [path.read_bytes() for path in save(drawing, tmp_path / "a")]
    assert [path.read_bytes() for path in save(drawing, tmp_path / "b")] == first
    assert b"<text" in first[1]  # text stays text


def test_durations_long_names_and_ink_read_well() -> None:
    assert [time_unit(seconds)[1] for seconds in (50, 3_600, 100_000)] == ["s", "min", "h"]
    assert shorten("transfer-1") == "transfer-1"
    assert len(shorten(LONG)) == 28
    assert (ink("#0072B2"), ink("#E69F00")) == ("#FFFFFF", "#000000")


def test_captions_say_what_the_figures_show_in_numbers(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s", lanes=2).path)
    at_four = 100 * results.epochs[results.epochs["epoch"] == 4].groupby("arm")["val_accuracy"].mean()
    captions = {drawing.name: drawing.caption for drawing in all_figures(results)}
    n = {"transfer": 3, "scratch": 1}
    both = ", ".join(f"{arm} is at {at_four[arm]:.1f} % (n = {n[arm]})" for arm in n)
    assert captions["validation-accuracy-against-epochs"].startswith(f"After 4 epochs {both}.")
    gaps = 100 * results.finished.groupby("arm", sort=False)["train_test_gap"].mean()
    shown = ", ".join(f"{gap:+.1f} points for {arm}".replace("-", "\u2212") for arm, gap in gaps.items())
    assert captions["train-test-gap"].startswith(f"The gap is {shown} on average.")
    own, wall = results.trials["own_seconds"].sum(), results.wall_seconds
    assert captions["time-by-arm"].startswith(
        f"{in_words(own)} of training time and 48 s of start-up in {in_words(wall)} of"
    )
    fourth = 100 * results.epochs[results.epochs["epoch"] == 4].set_index("arm").loc["transfer", "val_accuracy"]
    assert (
        f"After 4 epochs the 3 trials are at {fourth.min():.1f} % to {fourth.max():.1f} %"
        in (captions["arm-transfer-validation-accuracy"])
    )
    tested = results.finished.set_index("trial").loc["scratch"]
    assert f"Tested with the weights of epoch {tested['best_epoch']} of 6" in captions["trial-scratch-accuracy"]


def test_captions_of_a_running_sweep_compare_trials_at_the_epochs_and_seconds_that_all_have_had(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (3, 15)}, running=True)
    for name, (epochs, pace) in {"transfer-1": (15, 10.0), "transfer-2": (2, 100.0), "transfer-3": (3, 10.0)}.items():
        trial = folder.trial(name)
        (trial.path / "summary.json").unlink()
        done = [
            replace(
                epoch, train_seconds=pace, val_accuracy=0.5 + epoch.epoch / 100, checkpoint_seconds=0.0, val_seconds=0.0
            )
            for epoch in trial.history().epochs[:epochs]
        ]
        trial.write_history(History(done, trial.history().sessions))
    captions = {drawing.name: drawing.caption for drawing in all_figures(read_results(folder.path))}
    at_two = "After 2 epochs transfer is at 52.0 % (n = 3)."
    assert captions["validation-accuracy-against-epochs"].startswith(at_two)
    at_thirty = "After 30 s transfer is not comparable: only 2 of 3 had finished an epoch."
    assert captions["validation-accuracy-against-seconds"].startswith(at_thirty)
    assert captions["arm-transfer-validation-accuracy"].startswith("After 2 epochs the 3 trials are at 52.0 %:")


@pytest.mark.filterwarnings("ignore:Attempting to set identical")  # no device, no lane
def test_the_share_of_the_time_that_devices_held_a_trial_is_in_the_timelines_caption(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s", {"transfer": (3, 4)}, lanes=2).path)
    sessions = results.sessions.assign(devices=[[f"gpu-node-{x}.cluster.example.com:0"] for x in "aba"])
    held = (sessions["ended_at"] - sessions["started_at"]).sum() / (2 * results.wall_seconds)
    caption = timeline(sessions, results.arms, results.active).caption
    assert caption.startswith(f"On average the 2 devices held a trial for {100 * held:.0f} % of the time.")
    one = timeline(sessions[:1], results.arms, results.active).caption
    assert one.startswith("The one device held a trial for ")
    assert timeline(sessions.assign(devices=[[]] * 3), results.arms, results.active).caption.startswith(
        "Empty stretches"
    )


def test_gaps_of_many_trials_are_averages_and_say_so(tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s", {"transfer": (41, 1)}).path)
    assert " points for transfer on average." in gap(results.finished, results.arms).caption


def test_the_mean_of_many_repeats_ends_with_the_shortest(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (9, 6)})
    (folder.trial("transfer-1").path / "summary.json").unlink()
    begin_trial(folder, trial_spec(folder, "transfer-1"), 2)
    lines = drawn(folder.path, "arm-transfer-validation-accuracy").figure.axes[0].lines
    (mean,) = (line for line in lines if line.get_label() == "mean")
    assert list(mean.get_xdata()) == [1, 2]


def test_the_band_of_very_many_repeats_holds_nine_of_ten(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (41, 1)})
    (band,) = drawn(folder.path, "arm-transfer-validation-accuracy").figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    expected = 100 * read_results(folder.path).epochs["val_accuracy"].quantile([0.05, 0.95])
    assert [heights.min(), heights.max()] == pytest.approx(expected.tolist())


def test_minutes_are_minutes_in_every_line_and_bar(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 3)}, seconds={"transfer": 597.5}, lanes=2)
    (folder.trial("transfer-2").path / "summary.json").unlink()
    begin_trial(folder, trial_spec(folder, "transfer-2"), 2, train_seconds=597.5)
    mean, ahead, *_ = drawn(folder.path, "validation-accuracy-against-seconds").figure.axes[0].lines
    assert list(mean.get_xdata()) == pytest.approx([10, 20])
    assert list(ahead.get_xdata()) == pytest.approx([20, 30])
    bars = [bar for bar in drawn(folder.path, "time-by-arm").figure.axes[0].patches if not bar.get_hatch()]
    own, wall = (sum(bar.get_width() for bar in bars if abs(bar.get_y() + 0.31 - y) < 1e-6) for y in (0, 1))
    assert own == pytest.approx(5 * 10 + 3 / 60)
    assert wall == pytest.approx(read_results(folder.path).wall_seconds / 60)


def test_marks_labels_and_legends_of_a_real_sweep_have_its_numbers() -> None:
    found, finished = drawings(QUICK), read_results(QUICK).finished
    (mark,) = found["trial-scratch-accuracy"].figure.axes[0].collections  # the tested epoch, on the validation curve
    assert mark.get_offsets().tolist() == [[2, pytest.approx(10.8)]]
    gaps = [f"{100 * gap:+.1f}".replace("-", "\u2212") for gap in finished["train_test_gap"]]
    assert [text.get_text() for text in found["train-test-gap"].figure.axes[0].texts] == gaps
    (legend,) = found["validation-accuracy-against-epochs"].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["transfer (n = 3)", "scratch (n = 1)"]


def test_a_goal_that_no_arm_crosses_is_not_drawn_and_one_that_is_has_a_label(tmp_path: Path) -> None:
    epochs = read_results(write_sweep(tmp_path / "s", {"transfer": (1, 6)}).path).epochs
    assert epochs["val_accuracy"].min() < 0.85 < epochs["val_accuracy"].max()
    for scale, label in ((1.0, ["85 % (epochs-to table)"]), (0.9, [])):
        scaled = epochs.assign(val_accuracy=scale * epochs["val_accuracy"])
        (axes,) = accuracy_against_epochs(scaled, ["transfer"]).figure.axes
        assert [text for text in axes.get_legend_handles_labels()[1] if text.startswith("85")] == label
        assert (axes.get_ylim()[1] > 85) == bool(label)  # else the axis would be stretched


@pytest.mark.parametrize(("twin", "hidden"), [("swa", ["base"]), ("other", [])])
def test_an_arm_on_which_another_lies_is_drawn_on_top_in_dashes(tmp_path: Path, twin: str, hidden: list[str]) -> None:
    epochs = read_results(write_sweep(tmp_path / "s", {"base": (1, 6)}).path).epochs
    shift = 0.0 if twin == "swa" else 0.05
    both = pd.concat([epochs, epochs.assign(arm=twin, trial=twin, val_accuracy=epochs["val_accuracy"] + shift)])
    (axes,) = accuracy_against_epochs(both, ["base", twin]).figure.axes
    lines = {str(line.get_label()).split(" ")[0]: line for line in axes.get_lines()}
    assert [name for name in ("base", twin) if lines[name].is_dashed()] == hidden
    if hidden:
        assert lines["base"].get_zorder() > lines[twin].get_zorder()
