"""What run_sweep.py prints before a sweep and after it."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from raycifar.config.datasets import CIFAR10
from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.execution.placement import Plan, idle_share, makespan
from raycifar.networks.cost import work
from raycifar.storage.folders import SweepFolder


def plan_table(sweep: SweepSpec, plan: Plan, path: Path) -> Table:
    """The trials in the order in which they would start, with their work in PFLOP."""
    title = Text(f"{sweep.name} -> {path}", "table.title")  # Text, for a path may hold what rich takes for markup
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("trial", "from", "seed", "epochs", "images", "validation", "PFLOP"):
        words = column in ("from", "validation")  # which a narrow terminal may break, but never a name or a number
        table.add_column(column, justify="left" if words or column == "trial" else "right", no_wrap=not words)
    for trial in plan.order:
        table.add_row(*_planned(trial))
    table.caption = _load([work(trial) for trial in plan.order], plan.at_once)
    return table


def _load(flops: Sequence[float], at_once: int) -> str:
    total = f"{sum(flops) / 1e15:.1f} PFLOP in all"
    if at_once == 1:
        return total
    idle = 100 * idle_share(flops, at_once)
    return f"{total}, {makespan(flops, at_once) / 1e15:.1f} on the busiest of {at_once} places; idle: {idle:.0f} %"


def _planned(trial: TrialSpec) -> Sequence[str]:
    train, val, _ = trial.data.images
    weights = trial.model.weights + (", bn" if trial.model.batch_norm else "")
    weights += f", {CIFAR10.side * trial.model.upsample} px" if trial.model.upsample > 1 else ""
    validation = f"{val:,} held out" if trial.data.validation == "holdout" else "the training images"
    return (
        trial.name,
        weights,
        str(trial.seed),
        str(trial.epochs),
        f"{train:,}",
        validation,
        f"{work(trial) / 1e15:.2f}",
    )


def results_table(trials: Sequence[TrialSpec], folder: SweepFolder) -> Table:
    """How each trial ended."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("trial", "state", "epochs", "best val", "test", "test, flips", "seconds"):
        table.add_column(column, justify="left" if column in ("trial", "state") else "right")
    for trial in trials:
        table.add_row(trial.name, *_result(trial, folder))
    return table


def _result(trial: TrialSpec, folder: SweepFolder) -> Sequence[str | Text]:
    files = folder.trial(trial.name)
    if summary := files.summary():
        seconds = summary.train_seconds + summary.val_seconds + summary.checkpoint_seconds + summary.test_seconds
        figures = (summary.best_val_accuracy, summary.test_accuracy, summary.test_accuracy_flip)
        return ("done", str(summary.epochs_run), *(f"{100 * figure:.2f} %" for figure in figures), f"{seconds:.1f}")
    epochs = f"{len(files.history().epochs)} of {trial.epochs}"
    if error := files.error():
        return (Text(f"failed: {error.kind}: {' '.join(error.message.split())}"), epochs)
    return ("not finished", epochs)
