"""Sweeps side by side, as a report: the first one is what the others are compared with, arm by arm."""

import string
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from raycifar.analysis.contrasts import (
    ABSENT,
    Contrast,
    Setting,
    all_arms,
    contrast,
    differing_settings,
    differing_surroundings,
    finished_arm,
    shared_arms,
)
from raycifar.analysis.figures.style import BLUE, GREY, Drawing, canvas, mark, shorten, style
from raycifar.analysis.predictions import Predictions, read_predictions
from raycifar.analysis.report.findings import status_line
from raycifar.analysis.report.report import Picture, Report, pages, plain, write_tables
from raycifar.analysis.results import LEAK, Results, leaks
from raycifar.analysis.stats import above_or_below
from raycifar.analysis.tables.accuracy import NONE, Table, number, percent, seconds
from raycifar.analysis.tables.paired_sweeps import image_tests
from raycifar.storage.files import write_bytes

LETTERS = string.ascii_uppercase
SENTENCES, MOST_DRAWN = 6, 40  # of the answer, and of the figure's rows; the table has all
QUANTITIES: list[tuple[str, str, Callable[..., str]]] = [
    ("Test accuracy, %", "test_accuracy", percent),
    ("Best validation accuracy, %", "best_val_accuracy", percent),
    ("Flip-averaged test accuracy, %", "test_accuracy_flip", percent),
    ("Test loss", "test_loss", number),
    ("Own time of a trial, s", "own_seconds", seconds),
    ("Training images a second", "images_per_second", seconds),
]
NOTES = {
    "test_accuracy": [
        "Over finished trials. Paired: the mean, over the n seeds that are in both sweeps, of the difference within a "
        "seed, by Student's t; Welch: of the means. n = 1: no spread. Each interval is a 95 % one for itself alone: of "
        "20 differences that are none, about one is expected to exclude 0."
    ],
    "own_seconds": ["Times are not paired: a seed decides nothing of them."],
}
SHOWN_IN_TERMINAL = {"test_accuracy", "own_seconds"}


def write_comparison(sweeps: Sequence[Results], out: Path) -> Report:
    """Write report.md, report.html, tables/, figures/ and every sweep's trials and epochs as one table each into `out`.

    Raises OSError where that cannot be done.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, table in joined_tables(sweeps).items():
        write_bytes(out / f"{name}.csv", table.to_csv(index=False).encode())
    report = compare_sweeps(sweeps)
    write_tables(report, out)
    pictures = [Picture.of(drawing, out / "figures") for drawing in _drawings(sweeps)]
    for name, text in pages(report, pictures).items():
        write_bytes(out / name, text.encode())
    return report


def joined_tables(sweeps: Sequence[Results]) -> dict[str, pd.DataFrame]:
    """The epochs and the trials of all sweeps, with the sweep's letter in a first column."""
    tables = {}
    for name in ("epochs", "trials"):
        frames = {letter: getattr(results, name) for letter, results in lettered(sweeps)}
        tables[name] = pd.concat(frames, names=["sweep", None]).reset_index(level="sweep")
    return tables


def compare_sweeps(sweeps: Sequence[Results]) -> Report:
    """Everything in words and tables: differences with intervals, and what may explain them."""
    predictions = [read_predictions(results) for results in sweeps]
    recipes, surroundings = differing_settings(sweeps), differing_surroundings(sweeps)
    names = [f"{letter} {results.record.name}" for letter, results in lettered(sweeps)]
    tables = [
        _sweeps_table(sweeps),
        _quantity_table(sweeps, *QUANTITIES[0]),
        image_tests(sweeps, predictions, LETTERS),
        *(_quantity_table(sweeps, *quantity) for quantity in QUANTITIES[1:]),
        _settings_table("recipes", "Where the recipes differ", sweeps, recipes),
        _settings_table("surroundings", "Where hardware and versions differ", sweeps, surroundings),
    ]
    return Report(
        title=f"Sweeps side by side: {', '.join(names)}",
        answer=_answer(sweeps),
        cautions=[plain(caution) for caution in _cautions(sweeps, predictions, surroundings)],
        tables=[table.head() for table in tables],
        whole_tables=tables,
        errata=[],
        failures=[],
        provenance=[(f"sweep {letter}", plain(_provenance(results))) for letter, results in lettered(sweeps)],
        commands=[plain(f"{letter}  {c.command}") for letter, results in lettered(sweeps) for c in results.invocations],
    )


def lettered(sweeps: Sequence[Results]) -> list[tuple[str, Results]]:
    """A, B, C ...: two sweeps may have one name."""
    return list(zip(LETTERS, sweeps, strict=False))


def _provenance(results: Results) -> str:
    record = results.record
    commit = record.commit or "unknown"
    return f"{results.path} (from {record.source}, fingerprint {record.fingerprint}, commit {commit})"


def _answer(sweeps: Sequence[Results]) -> str:
    """A sentence for each arm and each other sweep: how far apart in test accuracy, and how sure."""
    sentences = [
        _sentence(arm, letter, contrast(finished_arm(sweeps[0], arm), finished_arm(other, arm), "test_accuracy"))
        for arm in shared_arms(sweeps)
        for letter, other in lettered(sweeps)[1:]
        if arm in other.arms
    ]
    if not sentences:
        arms = "; ".join(f"{letter} has {', '.join(results.arms)}" for letter, results in lettered(sweeps))
        return f"No arm of A is in another sweep, so nothing is compared: {arms}."
    rest = f" {len(sentences) - SENTENCES} more are in the table." if len(sentences) > SENTENCES else ""
    return " ".join(sentences[:SENTENCES]) + rest


def _sentence(arm: str, letter: str, of: Contrast) -> str:
    if not min(of.base.n, of.other.n):
        return f"{arm}: not yet tested in both A and {letter}."
    some = 0 < of.pairs < max(of.base.n, of.other.n)
    where = f"{above_or_below(of.value)} A in test accuracy" + f" over the {of.pairs} seeds in both" * some
    if not of.has_interval:
        return f"{arm}: {letter} is {where}, but {_without_spread(of)}: another seed could fall elsewhere."
    verdict = "includes 0: it may be chance" if of.low <= 0 <= of.high else "excludes 0"
    how = of.method.replace("paired", "paired by seed")
    return f"{arm}: {letter} is {where} (95 % interval {_interval(of, percent)}, {how}; {verdict})."


def _without_spread(of: Contrast) -> str:
    few = min(of.base.n, of.other.n)
    if few < 2:
        return f"with n = {few} there is no spread"
    return f"the {of.pairs} pairs are all alike" if of.pairs else "each sweep's trials are all alike"


def _interval(of: Contrast, show: Callable[..., str]) -> str:
    return f"{_signed(of.low, show)} to {_signed(of.high, show)}" if of.has_interval else NONE


def _signed(value: float, show: Callable[..., str]) -> str:
    return show(value) if value < 0 or show(value) == NONE else f"+{show(value)}"


def _cautions(
    sweeps: Sequence[Results],
    predictions: Sequence[Predictions],
    surroundings: Sequence[Setting],
) -> list[str]:
    notes = [
        f"{letter} is not complete: {status_line(results)}."
        for letter, results in lettered(sweeps)
        if len(results.finished) < len(results.trials)
    ]
    notes += [f"{letter}: {LEAK}." for letter, results in lettered(sweeps) if leaks(results.trials)]
    unlike = _unlike(sweeps)
    if protocol := [key for keys in unlike.values() for key in keys if key.startswith("data.")]:
        notes.append(f"The protocols differ ({_listed(protocol)}): not the same images trained, validated or tested.")
    if lengths := [where for where, keys in unlike.items() if "epochs" in keys]:
        notes.append(f"Not as many epochs as in A: {_listed(lengths)}.")
    if several := [f"{where} ({len(keys)})" for where, keys in unlike.items() if len(keys) > 1]:
        notes.append(f"Several settings differ, so no difference can be laid to one of them alone: {_listed(several)}.")
    if places := [s.key for s in surroundings if s.key in ("hardware", "device", "trials at once", "workers a trial")]:
        notes.append(f"Times do not compare as they stand: not the same {_listed(places)}.")
    if numeric := [s.key for s in surroundings if s.key in ("precision", "torch", "cuda", "ImageNet weights")]:
        notes.append(f"Not the same {_listed(numeric)}: part of a difference may be theirs.")
    return notes + [
        f"{letter}: unreadable: {line}"
        for (letter, results), said in zip(lettered(sweeps), predictions, strict=True)
        for line in (*results.problems, *said.problems)
    ]


def _unlike(sweeps: Sequence[Results]) -> dict[str, list[str]]:
    """For each comparison of tested trials, such as "transfer in B": in which settings its recipe is not that of A."""
    found = {}
    for letter, other in lettered(sweeps)[1:]:
        settings = differing_settings([sweeps[0], other])
        for arm in shared_arms([sweeps[0], other]):
            if min(len(finished_arm(sweeps[0], arm)), len(finished_arm(other, arm))):
                found[f"{arm} in {letter}"] = [s.key for s in settings if arm in s.arms and s.key != "seeds"]
    return found


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(keys))


def _sweeps_table(sweeps: Sequence[Results]) -> Table:
    columns = ["sweep", "name", "hardware", "finished", "wall clock s"]
    rows = [
        [
            *(letter, results.record.name, results.record.hardware),
            *(f"{len(results.finished)} of {len(results.trials)}", seconds(results.wall_seconds)),
        ]
        for letter, results in lettered(sweeps)
    ]
    return Table("sweeps", "The sweeps", columns, rows, 3, (0, 1, 2, 3, 4), [], _any_leaks(sweeps))


def _quantity_table(sweeps: Sequence[Results], title: str, key: str, show: Callable[..., str]) -> Table:
    """One row an arm and sweep."""
    columns = ["arm", "sweep", "n", "mean", "sd", "less A", "95 % interval", "compared"]
    rows = []
    for arm in all_arms(sweeps):
        base = finished_arm(sweeps[0], arm)
        for i, (letter, results) in enumerate(lettered(sweeps)):
            if arm in results.arms:
                of = contrast(base, finished_arm(results, arm), key)
                cells = [_signed(of.value, show), _interval(of, show), of.method] if i and of.base.n else [NONE] * 3
                rows.append([arm, letter, str(of.other.n), show(of.other.mean), show(of.other.sd), *cells])
    brief = tuple(range(8)) if key in SHOWN_IN_TERMINAL else ()
    return Table(key.replace("_", "-"), title, columns, rows, 2, brief, NOTES.get(key, []), _any_leaks(sweeps))


def _settings_table(key: str, title: str, sweeps: Sequence[Results], settings: Sequence[Setting]) -> Table:
    with_arms, leak = any(setting.arms for setting in settings), _any_leaks(sweeps)
    columns = [*(["arm"] if with_arms else []), "setting", *(letter for letter, _ in lettered(sweeps))]
    rows = [[*([_listed(s.arms)] if with_arms else []), s.key, *(plain(value) for value in s.values)] for s in settings]
    notes = [f"Only what differs; {ABSENT}: none." if rows else "Nothing differs."]
    return Table(key, title, columns, rows, len(columns), tuple(range(len(columns))), notes, leak)


def _any_leaks(sweeps: Sequence[Results]) -> bool:
    return any(leaks(results.trials) for results in sweeps)


def _drawings(sweeps: Sequence[Results]) -> list[Drawing]:
    """The differences in test accuracy with their intervals, where there is one to draw."""
    found = [
        (
            f"{shorten(arm)}, {letter} less A",
            contrast(finished_arm(sweeps[0], arm), finished_arm(other, arm), "test_accuracy"),
        )
        for arm in shared_arms(sweeps)
        for letter, other in lettered(sweeps)[1:]
    ]
    found = [(name, of) for name, of in found if min(of.base.n, of.other.n)]
    return [_forest(found, _any_leaks(sweeps))] if found else []


def _forest(found: Sequence[tuple[str, Contrast]], leak: bool) -> Drawing:
    title, rest = "Difference in test accuracy", len(found) - MOST_DRAWN
    found = found[:MOST_DRAWN]
    with style():
        figure, axes = canvas(title, leak, 1.4 + 0.4 * len(found) + 0.3 * leak)
        for y, (_, of) in enumerate(found):
            if of.has_interval:
                axes.plot([100 * of.low, 100 * of.high], [y, y], color=BLUE)
            axes.plot(100 * of.value, y, "o", color=BLUE, markerfacecolor=BLUE if of.has_interval else "white")
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlabel("percentage points")
    caption = "Point: mean difference; line: its 95 % interval; an open point has none"
    caption += f"; {rest:,} more are in the table{mark(leak)}." if rest > 0 else f"{mark(leak)}."
    said = "; ".join(f"{name}: {_signed(of.value, percent)} ({_interval(of, percent)})" for name, of in found)
    return Drawing(
        "differences", title, caption, f"Differences in percentage points with intervals. {said}{mark(leak)}.", figure
    )
