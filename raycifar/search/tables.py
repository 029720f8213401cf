"""What run_sweep.py prints and writes of a search: its space, its samples, and a sweep file of the best."""

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from raycifar.config.needs import idle
from raycifar.search.records import FINISHED, SampleRecord, SearchFolder, described, ranked
from raycifar.search.spec import SearchSpec
from raycifar.storage.beneath import write_bytes
from raycifar.texts import csv_cell

SHOWN = 10  # of the samples, the best
ENDS = ("outcome", "epochs_run", "best_epoch", "best_val_accuracy")  # of a sample, in samples.csv


def space_table(search: SearchSpec, path: Path) -> Table:
    """What is searched, around which trial, and the most that it can cost."""
    title = Text(f"{search.name} -> {path}", "table.title")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("setting", no_wrap=True)
    table.add_column("from")
    for key, allowed in search.space.items():
        table.add_row(key, Text(str(allowed)))
    return table


def budget(search: SearchSpec) -> str:
    """One line: how many samples of how many epochs, and when ASHA stops them."""
    train, val, _ = search.trial.data.images
    rungs, epochs = [], search.grace_epochs
    while epochs < search.trial.epochs:
        rungs.append(str(epochs))
        epochs *= search.reduction
    most = f"{search.samples} samples of at most {search.trial.epochs} epochs of {train:,} images"
    stops = f"; after epoch {', '.join(rungs)} about 1 in {search.reduction} goes on" if rungs else ""
    return f"{most}{stops}. Best by the accuracy on {val:,} held-out images; no test image is read."


def samples_table(search: SearchSpec, folder: SearchFolder) -> Table:
    """The best samples; their settings share a column, for one each would not fit a terminal."""
    samples = folder.samples()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("sample", no_wrap=True)
    table.add_column("best val", justify="right", no_wrap=True)
    table.add_column("epochs", justify="right", no_wrap=True)
    table.add_column("settings")
    for sample in ranked(samples)[:SHOWN]:
        table.add_row(*_row(sample, search, folder))
    left = f", the best {SHOWN} of them shown, all in samples.csv" if len(samples) > SHOWN else ""
    table.caption = f"{len(samples)} of {search.samples} samples{left}; accuracies on the held-out images"
    return table


def _row(sample: SampleRecord, search: SearchSpec, folder: SearchFolder) -> list[str]:
    accuracy = f"{100 * sample.best_val_accuracy:.2f} %" if sample.best_epoch else "–"
    failed = "failed" if folder.trial(sample.name).error() else "not finished"
    epochs = f"{sample.epochs_run}/{search.trial.epochs}"
    end = epochs if sample.outcome == FINISHED else f"{epochs} {sample.outcome}" if sample.outcome else failed
    return [sample.name, accuracy, end, described(sample.settings)]


def write_table(folder: SearchFolder) -> None:
    """samples.csv: a row a sample, the best first; after how it ended, a column a setting. Raises OSError."""
    import pandas as pd  # slow to import, and nothing else here needs it

    samples = ranked(folder.samples())
    rows = [{"sample": s.name} | {key: getattr(s, key) for key in ENDS} | s.settings for s in samples]
    table = pd.DataFrame(rows).map(csv_cell).to_csv(index=False)
    write_bytes(folder.sweep.files / folder.table.name, table.encode())


def best_sample(folder: SearchFolder) -> SampleRecord | None:
    """The one with the best validation accuracy among those that ran as long as the trial does."""
    return next((sample for sample in ranked(folder.samples()) if sample.outcome == FINISHED), None)


def write_best(search: SearchSpec, folder: SearchFolder, best: SampleRecord, source: str) -> None:
    """A sweep file that trains and tests the trial with the best sample's settings. Raises OSError."""
    import tomli_w  # of the extra `search`, which a dry run can do without

    spec = search.sample(best.settings, search.trial.name)
    trial = spec.model_dump(mode="json", exclude_defaults=True)
    for above, _, name in (key.partition(".") for key in idle(spec)):  # which a sweep file may not have
        trial.get(above, {}).pop(name, None)
    content = {"name": f"{search.name[:59]}-best", "trials": [{k: v for k, v in trial.items() if k != "arm"}]}
    of = f"{source or search.name}, {best.name}: {100 * best.best_val_accuracy:.2f} % validation accuracy"
    head = (
        f"# Do the best settings of a search hold? ({of}, epoch {best.best_epoch} of {search.trial.epochs})\n"
        "# That accuracy chose them, so it flatters them; the test images have not been read yet.\n"
        "# One seed: `repeats` adds others.\n\n"
    )
    write_bytes(folder.sweep.files / folder.best.name, (head + tomli_w.dumps(content)).encode())
