"""The table of networks side by side: how large each arm's is, what it costs, and what it reaches."""

from typing import NamedTuple

from raycifar.analysis.results import Results, leaks
from raycifar.analysis.stats import SHARE, Sample, sample
from raycifar.analysis.tables.table import NOTHING_FINISHED, Column, Table, count, figure, word
from raycifar.analysis.wording import Format, percent
from raycifar.config.architectures import title_of

MILLIONS, GFLOP = Format(lambda _: ".2f", 1e-6), Format(lambda _: ".3f", 1e-9)


class Side(NamedTuple):
    """An arm's network."""

    arm: str
    network: str
    weights: str
    side: int  # in pixels, that it sees
    parameters: float  # NaN where that is not on record
    flops: float  # forward, for an image
    accuracy: Sample


def networks_by_arm(results: Results) -> Table:
    """A row for each arm with finished trials; see `are_several`."""
    specs, costs = {trial.arm: trial for trial in results.spec.trials}, results.record.costs
    records = []
    for arm, finished in results.finished_by_arm():
        model, cost = specs[arm].model, costs.get(arm, {})
        records.append(
            Side(
                arm,
                title_of(model.name),
                model.weights,
                model.sees(results.facts.side),
                cost.get("parameters", float("nan")),
                cost.get("flops", float("nan")),
                sample(finished["test_accuracy"], SHARE),
            )
        )
    columns: list[Column[Side]] = [
        Column("arm", lambda one: word(one.arm), is_name=True, in_terminal=True),
        Column("network", lambda one: word(one.network), is_name=True, in_terminal=True),
        Column("weights", lambda one: word(one.weights), is_name=True),
        Column("sees, pixels", lambda one: count(one.side), in_terminal=True),
        Column("parameters, millions", lambda one: figure(one.parameters, MILLIONS), in_terminal=True),
        Column("GFLOP an image", lambda one: figure(one.flops, GFLOP), in_terminal=True),
        Column("n", lambda one: count(one.accuracy.n), in_terminal=True),
        Column("test accuracy, %", lambda one: figure(one.accuracy.mean, percent), in_terminal=True),
    ]
    notes = ["Parameters are the trunk's, without the head. FLOPs are those of a forward pass, counted by PyTorch."]
    return Table.of(
        "networks",
        "Networks side by side",
        records,
        columns,
        notes=notes if records else [NOTHING_FINISHED],
        leak=leaks(results.trials),
    )


def are_several(results: Results) -> bool:
    """Whether the arms differ in their network."""
    return len(results.networks) > 1
