"""The tables before and after a sweep, as a terminal shows them. Results are synthetic (see sweep_folders)."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from raycifar.config.sweep_file import load_sweep
from raycifar.execution.placement import Machine, make_plan
from raycifar.execution.plan import plan_table, results_table
from raycifar.networks.cost import work
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
