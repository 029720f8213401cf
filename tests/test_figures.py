"""raycifar.figures and time_figures: what is drawn, from synthetic sweeps (see sweep_folders)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from raycifar.figures import all_figures
from raycifar.plotting import Drawing, ink, save, shorten, style, time_unit
from raycifar.records import History
from raycifar.results import LEAK, read_results
from tests.sweep_folders import write_sweep

LONG = "transfer-with-a-name-that-is-about-as-long-as-a-name-may-be"
SWEEPS = {
    "one-trial-one-epoch": ({"transfer": (1, 1)}, {}),
    "two-epochs-on-a-cpu": ({"transfer": (2, 2), "scratch": (1, 2)}, {"device_kind": "cpu", "lanes": 2}),
    "long-names-and-125-epochs": ({LONG: (1, 3), "scratch": (1, 125)}, {"lanes": 2}),
}


def drawings(folder: Path) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in all_figures(read_results(folder))}


@pytest.fixture(scope="module")
def report_figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drawing]:
    return drawings(write_sweep(tmp_path_factory.mktemp("figures") / "s", lanes=2).path)


def shown_texts(drawing: Drawing) -> list[Text]:
    """All texts of a figure but the labels of ticks outside the axes, which matplotlib keeps and does not draw."""
    hidden: set[int] = set()
    for axes in drawing.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            outside = [tick for tick in axis.get_major_ticks() if not low - 1e-9 <= tick.get_loc() <= high + 1e-9]
            hidden |= {id(label) for tick in outside for label in (tick.label1, tick.label2)}
    texts = drawing.figure.findobj(Text)
    return [t for t in texts if id(t) not in hidden and isinstance(t, Text) and t.get_text().strip()]


def problems_of_layout(drawing: Drawing) -> Iterator[str]:
    canvas = FigureCanvasAgg(drawing.figure)
    with style():
        canvas.draw()
    width, height = canvas.get_width_height()
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in shown_texts(drawing)]
    for i, (text, box) in enumerate(boxes):
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5:
            yield f"{drawing.name}: {text!r} is clipped"
        for other, its in boxes[i + 1 :]:
            if min(box.x1, its.x1) - max(box.x0, its.x0) > 1 and min(box.y1, its.y1) - max(box.y0, its.y0) > 1:
                yield f"{drawing.name}: {text!r} overlaps {other!r}"


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
    figure = drawings(write_sweep(tmp_path / "s", {"transfer": (9, 3)}).path)["arm-transfer-validation-accuracy"].figure
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
    labels = [label.get_text() for label in drawings(folder.path)["timeline"].figure.axes[0].get_yticklabels()]
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
    axes = drawings(sweep.path)["timeline"].figure.axes[0]
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


def test_captions_say_what_the_figures_show_in_numbers(report_figures: dict[str, Drawing], tmp_path: Path) -> None:
    results = read_results(write_sweep(tmp_path / "s", lanes=2).path)
    at_four = 100 * results.epochs[results.epochs["epoch"] == 4].groupby("arm")["val_accuracy"].mean()
    figures = {drawing.name: drawing.caption for drawing in all_figures(results)}
    expected = f"After 4 epochs transfer is at {at_four['transfer']:.1f} %, scratch is at {at_four['scratch']:.1f} %."
    assert figures["validation-accuracy-against-epochs"].startswith(expected)
    gaps = 100 * results.finished.groupby("arm", sort=False)["train_test_gap"].mean()
    shown = ", ".join(f"{gap:+.1f} points for {arm}".replace("-", "\u2212") for arm, gap in gaps.items())
    assert figures["train-test-gap"].startswith(f"The gap is {shown} on average.")
    assert "of wall clock" in figures["time-by-arm"]
    last = 100 * results.epochs[results.epochs["epoch"] == 4].groupby("trial")["val_accuracy"].last()
    ends = f"{last.filter(like='transfer').min():.1f} % to {last.filter(like='transfer').max():.1f} %"
    assert f"the 3 trials are at {ends}" in figures["arm-transfer-validation-accuracy"]
    tested = results.finished.set_index("trial").loc["scratch"]
    assert f"Tested with the weights of epoch {tested['best_epoch']} of 6" in figures["trial-scratch-accuracy"]


def test_the_share_of_the_time_that_devices_held_a_trial_is_in_the_timelines_caption(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 4)}, lanes=1)
    results = read_results(folder.path)
    session = results.sessions.iloc[0]
    held = 100 * (session["ended_at"] - session["started_at"]) / results.wall_seconds
    assert drawings(folder.path)["timeline"].caption.startswith(f"A trial was on GPU 0 for {held:.0f} % of the time.")
