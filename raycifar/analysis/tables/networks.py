"""The table of arms with unlike networks side by side: parameters, operations, and what each gets right."""

import math
from typing import NamedTuple

from raycifar.analysis.predictions import Predictions
from raycifar.analysis.results import Results, leaks
from raycifar.analysis.statistics.contrasts import Estimate, estimate
from raycifar.analysis.statistics.formulas import SHARE
from raycifar.analysis.tables.table import RANGE, WITH_IMAGES, Column, Table, figure, over_seeds, with_images, word
from raycifar.analysis.tested_arms import arms_of
from raycifar.analysis.wording import Format, percent, tenths

millions = Format(lambda _: ",.2f", scale=1e-6)
gigaflops = Format(lambda _: ",.3f", scale=1e-9)


class Row(NamedTuple):
    """An arm's network; NaN where its results are of a version that recorded no such number."""

    arm: str
    network: str
    parameters: float
    flops: float
    of: Estimate
    seconds: float


def networks(results: Results, predictions: Predictions) -> Table:
    """A row for each tested arm."""
    names = {trial.arm: results.network(trial) for trial in results.spec.trials}
    tested = arms_of(results, predictions)
    rows = [
        Row(
            arm,
            names[arm],
            float(trials["all_parameters"].max()),
            float(trials["forward_flops"].max()),
            estimate(tested[arm]),
            float(trials["own_seconds"].mean()),
        )
        for arm, trials in results.finished_by_arm()
    ]
    columns: list[Column[Row]] = [
        Column("arm", lambda r: word(r.arm), is_name=True),
        Column("network", lambda r: word(r.network), is_name=True),
        Column("parameters, millions", lambda r: figure(r.parameters, millions)),
        Column("GFLOP an image", lambda r: figure(r.flops, gigaflops)),
        Column("test %", lambda r: figure(r.of.mean, percent)),
        Column(
            "95 % interval over seeds", lambda r: over_seeds(r.of, percent, "", SHARE), key="test_seeds", parts=RANGE
        ),
        Column(
            "with other test images",
            lambda r: with_images(r.of, percent, bounds=SHARE),
            key="test_with_other_test_images",
            parts=WITH_IMAGES,
        ),
        Column("training time, s", lambda r: figure(r.seconds, tenths)),
    ]
    notes = [
        "Parameters: of the whole network with its head, also those that do not train. GFLOP: operations of a forward "
        "pass of one image at the side that the network sees, a multiply-add counted as two; by arithmetic for VGG, "
        "else by PyTorch's FlopCounterMode. Intervals are those of the averages.",
        *(["–: results of an earlier version, which recorded no such number."] if _lacks(rows) else []),
        *results.time_notes,
    ]
    return Table.of("networks", "The networks side by side", rows, columns, notes=notes, leak=leaks(results.trials))


def _lacks(rows: list[Row]) -> bool:
    return any(math.isnan(row.parameters) or math.isnan(row.flops) for row in rows)
