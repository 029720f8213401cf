"""The tables before and after a sweep, as a terminal shows them. Results are synthetic (see sweep_folders)."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from raycifar.config.sweep import SweepSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.execution.placement import Machine, make_plan
from raycifar.execution.plan import flop_unit, plan_table, results_table
from raycifar.execution.standing import standings, time_needed
from raycifar.networks.cost import work
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import History
from tests.support.checkpoints import write_state
from tests.support.paths import SWEEPS
from tests.support.sweep_folders import begin_trial, sweep_spec, trial_spec, write_failure, write_sweep

FOUR_GPUS = Machine(gpus=4, cpus=16, node_cpus=16, memory=1e11)


def lines(table, width=160):
    """What a terminal with rich's defaults shows, a line at a time."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip()]


@pytest.fixture
def finished(tmp_path):
    return write_sweep(tmp_path / "q", {"transfer": (2, 3), "scratch": (1, 5)})


def results(folder):
    """By trial, its line in the table of results."""
    trials = [trial_spec(folder, path.name) for path in sorted(folder.path.iterdir()) if path.is_dir()]
    return {line.split()[0]: line for line in lines(results_table(trials, folder))[2:]}


def test_the_plan_lists_the_trials_in_the_order_in_which_they_start():
    sweep = load_sweep(SWEEPS / "vgg.toml")
    plan = make_plan(sweep.trials, FOUR_GPUS)
    title, header, _, *rows, load = lines(plan_table(sweep, plan, Path("/results/vgg")))
    assert title == "vgg -> /results/vgg"
    assert header == "trial from seed epochs images validation PFLOP"
    assert rows == [
        f"scratch random, bn 1 125 45,000 5,000 held out {work(plan.order[0]) / 1e15:.2f}",
        *(
            f"transfer-{i} imagenet, bn {i} 15 45,000 5,000 held out {work(plan.order[i]) / 1e15:.2f}"
            for i in (1, 2, 3)
        ),
    ]
    total, longest = sum(map(work, sweep.trials)), work(plan.order[0])
    assert load == (
        f"{total / 1e15:.1f} PFLOP in all, {longest / 1e15:.1f} on the busiest of 4 slots; "
        f"idle: {100 * (1 - total / (4 * longest)):.0f} %"
    )


def test_a_plan_of_one_trial_at_a_time_only_says_how_much_work_it_is():
    sweep = load_sweep(SWEEPS / "vgg.toml")
    plan = make_plan(sweep.trials, replace(FOUR_GPUS, gpus=1))
    assert lines(plan_table(sweep, plan, Path("vgg")))[-1] == f"{sum(map(work, sweep.trials)) / 1e15:.1f} PFLOP in all"


def test_a_narrow_terminal_breaks_words_and_no_names_or_numbers():
    sweep = load_sweep(SWEEPS / "ingredients.toml")
    shown = lines(plan_table(sweep, make_plan(sweep.trials, FOUR_GPUS), Path("i")), width=80)
    assert shown[1] == "trial from seed epochs images validation PFLOP"
    assert {trial.name for trial in sweep.trials} <= {line.split()[0] for line in shown}


def test_the_plan_names_the_side_of_enlarged_images():
    sweep = load_sweep(SWEEPS / "vgg.toml", ["scratch.model.upsample=7"])
    table = plan_table(sweep, make_plan(sweep.trials, FOUR_GPUS), Path("larger"))
    assert lines(table)[3].startswith("scratch random, bn, 224 px 1 125")


def test_the_plan_names_the_leak():
    sweep = load_sweep(SWEEPS / "report.toml")
    table = plan_table(sweep, make_plan(sweep.trials, FOUR_GPUS), Path("report"))
    assert "50,000 the training images" in lines(table)[3]


def test_a_finished_trial_shows_its_accuracies_and_all_its_seconds(finished):
    summary = finished.trial("scratch").summary()
    summary = replace(
        summary,
        best_val_accuracy=0.91234,
        test_accuracy=0.9,
        test_accuracy_flip=0.905,
        train_seconds=100.0,
        val_seconds=10.0,
        checkpoint_seconds=1.0,
        test_seconds=0.5,
    )
    finished.trial("scratch").write_summary(summary)
    assert results(finished)["scratch"] == "scratch done 5 91.23 % 90.00 % 90.50 % 111.5"


def test_a_trial_that_was_interrupted_shows_how_far_it_came(finished):
    (finished.trial("scratch").path / "summary.json").unlink()
    begin_trial(finished, trial_spec(finished, "scratch"), 2)
    assert results(finished)["scratch"] == "scratch not finished 2 of 5"


def test_a_trial_that_never_started_has_no_epochs(tmp_path):
    folder = write_sweep(tmp_path / "q", {"a": (1, 2)})
    (other,) = sweep_spec("q", {"b": (1, 3)}, {}).trials
    assert lines(results_table([other], folder))[-1] == "b not finished 0 of 3"


def test_a_failed_trial_shows_why_and_the_others_their_results(finished):
    write_failure(finished, "transfer-1", "the training loss is nan")
    assert results(finished)["transfer-1"] == "transfer-1 failed: RuntimeError: the training loss is nan 3 of 3"
    assert results(finished)["scratch"].startswith("scratch done 5 ")


@pytest.mark.parametrize("text", ["[/tmp/x]", "[bold]", ":warning:", "a[0]", "two\nlines"])
def test_what_an_error_says_is_shown_as_it_is_on_one_line(finished, text):
    write_failure(finished, "scratch", text)
    assert f"RuntimeError: {' '.join(text.split())} 5 of 5" in results(finished)["scratch"]


@pytest.mark.parametrize("path", ["/a/[/b]/q", "/a/[bold]/q", "/:warning:/q"])
def test_a_path_is_shown_as_it_is(path):
    sweep = sweep_spec("q", {"a": (1, 2)}, {})
    assert lines(plan_table(sweep, make_plan(sweep.trials, FOUR_GPUS), Path(path)))[0] == f"q -> {path}"


# With results of earlier calls ----------------------------------------------------------------------------------------


def planned(folder, states):
    sweep = sweep_spec("q", {"transfer": (2, 3), "scratch": (1, 5)}, {})
    done = {name for name, state in states.items() if state.is_done}
    rest = [trial for trial in sweep.trials if trial.name not in done]
    made = make_plan(rest, Machine(gpus=1, cpus=8, node_cpus=8, memory=1e11))
    return lines(plan_table(sweep, made, folder.path, states, time_needed(sweep, made, folder, states)))


def test_a_plan_says_how_each_trial_stands_and_plans_the_rest(finished):
    spec = trial_spec(finished, "transfer-2")
    (finished.trial("transfer-2").path / "summary.json").unlink()
    (finished.trial("scratch").path / "summary.json").unlink()
    history = finished.trial("scratch").history()
    write_state(finished.trial("scratch").path, b"", History(history.epochs[:2], history.sessions))
    trials = sweep_spec("q", {"transfer": (2, 3), "scratch": (1, 5)}, {}).trials
    states = standings(trials, finished)
    assert {name: state.words for name, state in states.items()} == {
        "transfer-1": "done",
        "transfer-2": "new",
        "scratch": "resumes after epoch 2",
    }
    _, header, _, *rows, load, time = planned(finished, states)
    assert header.startswith("trial state from seed")
    assert [row.split(" random")[0].split(" imagenet")[0] for row in rows] == [
        "transfer-1 done",
        "scratch resumes after epoch 2",
        "transfer-2 new",
    ]
    scratch = trial_spec(finished, "scratch")
    assert load == f"{(0.6 * work(scratch) + work(spec)) / 1e12:.3g} TFLOP in all"
    assert re.fullmatch(r"about \d+ min, by the 1,800 images/s of the last run here", time)


def test_other_settings_and_broken_files_are_said_and_not_taken_for_done(finished):
    (finished.trial("transfer-1").path / "summary.json").write_text("{")
    trials = sweep_spec("q", {"transfer": (2, 3), "scratch": (1, 6)}, {}).trials
    assert {name: (state.words, state.is_done) for name, state in standings(trials, finished).items()} == {
        "transfer-1": ("its files cannot be read", False),
        "transfer-2": ("done", True),
        "scratch": ("other settings there: a run is refused", False),
    }


def test_without_results_or_a_rate_on_such_a_device_there_is_neither_column_nor_time(finished, tmp_path):
    sweep = sweep_spec("q", {"transfer": (2, 3), "scratch": (1, 5)}, {})
    assert standings(sweep.trials, SweepFolder(tmp_path / "nowhere")) == {}
    on_cpus = make_plan(sweep.trials, Machine(gpus=0, cpus=8, node_cpus=8, memory=1e11))
    assert time_needed(sweep, on_cpus, finished, {}) == ""  # its sessions were on GPUs


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (2.14e15, "2.1 PFLOP"),
        (0.9996e15, "1.0 PFLOP"),
        (58.46e12, "58.5 TFLOP"),
        (123.4e9, "123 GFLOP"),
        (4e6, "0.00400 GFLOP"),
    ],
)
def test_work_is_written_in_a_unit_in_which_it_is_no_zero(flops, text):
    unit = flop_unit(flops)
    assert f"{unit.write(flops)} {unit.name}" == text


def test_a_plan_says_of_which_networks_its_operations_are_estimates(make_trial, tmp_path):
    vgg, other = (
        make_trial(),
        make_trial(model={"name": "torchvision/resnet18", "weights": "random"}, arm="b", name="b"),
    )
    for trials, said in (([vgg], None), ([vgg, other], "estimated: torchvision/resnet18")):
        sweep = SweepSpec(name="s", trials=tuple(trials))
        plan = make_plan(trials, Machine(0, 2, 2, 8e9))
        caption = plan_table(sweep, plan, tmp_path).caption
        assert ("estimated" in caption) is bool(said)
        assert (said or "") in caption
