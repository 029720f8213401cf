"""How often what the report says is true: coverage and error rates of its intervals and claims on simulated sweeps.

The model is `simulated`'s. Intervals are the analysis' own; claims and sizes are read from the report's sentences. A
claim says, without "alone", that 0 is excluded, or answers one of the three questions with "Yes" or "Fairly sure";
those of any arm against the best one and against the baseline count, also of arms that the answer does not name. Each
rate stands with its 95 % interval (Wilson). No network is trained.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Cell, Table, count, parser, publish, surroundings
from benchmarks.rates import Flattery, Rate
from benchmarks.simulated import ACCURACY, observed_sd, simulate
from raycifar.analysis.report.comparing import ahead, best_of_many
from raycifar.analysis.report.plainly import plainly
from raycifar.analysis.statistics.contrasts import Arm, Span, apart, estimate
from raycifar.analysis.tested_arms import ComparedArms
from raycifar.devices import cpu_count

IMAGES, TRIALS = (10_000, 1_000), (3, 5, 10)
SDS = (0.0, 0.001, 0.0025)  # of the seeds' true accuracies
APART = (0.0024, 0.0233)  # E(p_a - p_b)^2 of real pairs: Muon and SGD; transfer and scratch at 15 epochs
ARMS = (2, 3, 4, 7, 20)
SINGLE = (1.0, 1.5, 2.0)  # the single trial's spread over that of the others
SD = 0.001  # where it is not varied
# Not "alone both exclude 0, after Holm they do not"; and what the three questions are answered.
CLAIM = re.compile(r": (?:both exclude|it excludes) 0|\bYes[,:] |\bFairly sure: ")
SIZE = re.compile(r"looks better than it is[^:.]*: by about ([\d.]+) points")
Numbers = dict[str, float]  # of one simulated sweep; NaN where the report does not say


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated: `of` names the measure, `value` is what it varies."""

    of: str
    images: int
    n: int
    sd: float
    value: float = 0.0

    def rng(self, seed: int) -> np.random.Generator:
        """The same numbers for the same setting, whatever else runs."""
        key = [MEASURES_IN_ORDER.index(self.of), self.images, self.n, round(1e5 * self.sd), round(1e5 * self.value)]
        return np.random.Generator(np.random.SFC64([seed, *key]))


def one_arm(setting: Setting, rng: np.random.Generator) -> Numbers:
    (right,) = simulate(rng, [setting.n], setting.images, [setting.sd])
    found = estimate(Arm.of(right))
    return {"images": _holds(found.images, ACCURACY), "seeds": _holds(found.seeds, ACCURACY)}


def unlike_arms(setting: Setting, rng: np.random.Generator) -> Numbers:
    a, b = simulate(rng, [setting.n] * 2, setting.images, [setting.sd] * 2, setting.value)
    found = apart(Arm.of(a), Arm.of(b))
    return {"images": _holds(found.images, 0.0), "seeds": _holds(found.seeds, 0.0)}


def equal_arms(setting: Setting, rng: np.random.Generator) -> Numbers:
    arms = round(setting.value)
    sweep = simulate(rng, [setting.n] * arms, setting.images, [setting.sd] * arms)
    means = [float(right.mean()) for right in sweep]
    # Less the mean of all arms, whose expectation is the truth and which has the same luck with the images.
    true, text = max(means) - sum(means) / arms, said(sweep)
    return {"claims": float(claims(text) > 0), "said": best_flatters_by(text), "true": true}


def said(right: Sequence[NDArray[np.bool_]]) -> str:
    """What the report says of arms that got these images right, (n, N) each."""
    arms = {f"arm-{number}": Arm.of(answers) for number, answers in enumerate(right, 1)}
    compared = ComparedArms.of(arms, "arm-1")
    of = [
        ahead((one.a, one.b), one.apart, (arms[one.a], arms[one.b]), one.adjusted, compared.family.size)
        for one in compared.family.comparisons
    ]
    return " ".join([*(reply for _, reply in plainly(compared)), *of, best_of_many(arms)])


def claims(text: str) -> int:
    """How many differences the report calls more than chance."""
    return len(CLAIM.findall(text))


def best_flatters_by(text: str) -> float:
    """By how much, as a fraction, the report says that the best arm looks better than it is; NaN where it does not."""
    found = SIZE.search(text)
    return float(found[1]) / 100 if found else math.nan


def one_against_n(setting: Setting, rng: np.random.Generator) -> Numbers:
    """Equal recipes; the single trial's accuracies spread `value` times as much as the others' on these images."""
    spread = setting.value * observed_sd(setting.sd, setting.images)
    single = math.sqrt(spread**2 - observed_sd(0.0, setting.images) ** 2)
    sweep = simulate(rng, [1, setting.n], setting.images, [single, setting.sd])
    found = apart(*(Arm.of(right) for right in sweep))
    return {"images": 1 - _holds(found.images, 0.0), "seeds": 1 - _holds(found.seeds, 0.0)}


def single_networks(setting: Setting, rng: np.random.Generator) -> Numbers:
    """Equally accurate networks, one an arm."""
    arms = round(setting.value)
    return {"claims": float(claims(said(simulate(rng, [1] * arms, setting.images, [0.0] * arms))) > 0)}


MEASURES: Mapping[str, Callable[[Setting, np.random.Generator], Numbers]] = {
    function.__name__: function for function in (one_arm, unlike_arms, equal_arms, one_against_n, single_networks)
}
MEASURES_IN_ORDER = list(MEASURES)


def _holds(span: Span, truth: float) -> float:
    return float(span.low <= truth <= span.high)


Measured = dict[Setting, dict[str, np.ndarray]]  # each number of each simulated sweep


def measure(setting: Setting, rounds: int, seed: int) -> dict[str, np.ndarray]:
    """Each number, `rounds` times."""
    rng, function = setting.rng(seed), MEASURES[setting.of]
    found = [function(setting, rng) for _ in range(rounds)]
    return {key: np.array([numbers[key] for numbers in found]) for key in found[0]}


def settings() -> list[Setting]:
    """All that is measured, what takes longest first."""
    made = []
    for images, n in product(IMAGES, TRIALS):
        made += [Setting("one_arm", images, n, sd) for sd in SDS]
        made += [Setting("unlike_arms", images, n, sd, value) for sd, value in product(SDS, APART)]
        made += [Setting("equal_arms", images, n, SD, arms) for arms in ARMS]
        made += [Setting("one_against_n", images, n, SD, ratio) for ratio in SINGLE]
    made += [Setting("single_networks", images, 1, 0.0, arms) for images, arms in product(IMAGES, ARMS)]
    return sorted(made, key=lambda s: -s.images * s.n * s.value * (s.of == "equal_arms"))


def measure_all(chosen: Sequence[Setting], rounds: int, seed: int, processes: int) -> Measured:
    # Beside other processes, BLAS's threads wait for each other longer than they work on such small matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = {setting: pool.submit(measure, setting, rounds, seed) for setting in chosen}
        return {setting: job.result() for setting, job in jobs.items()}


def rate(measured: Measured, setting: Setting, key: str) -> Rate:
    """Over the sweeps of which the report says it at all."""
    values = measured[setting][key]
    values = values[~np.isnan(values)]
    return Rate(int(values.sum()), len(values))


def flattery(measured: Measured, setting: Setting) -> Flattery | None:
    """None where the answer says nothing of it."""
    of = measured[setting]
    if np.isnan(of["said"]).all():
        return None
    return Flattery(float(100 * np.nanmean(of["said"])), float(100 * of["true"].mean()))


COVERS, CLAIMS, NEAR = (0.94, 0.98), (0.0, 0.055), 0.05
WITH = "with other images: "
ALONE = "over seeds alone: "


def tables(measured: Measured) -> list[Table]:
    return [
        _reach(measured),
        _rates(measured, "one_arm", "One arm: its interval holds the recipe's accuracy, %", "sd of seeds, points"),
        _rates(measured, "unlike_arms", "Unlike arms, equally accurate: the interval holds 0, %", "unlike by"),
        _claims(measured),
        _best(measured),
        _single(measured),
        _rates(measured, "one_against_n", "Equal arms, one trial against n: the interval leaves out 0, %", "spread"),
    ]


def _groups(measured: Measured, of: str) -> dict[tuple[int, float, float], dict[int, Setting]]:
    """The settings of a measure by images, spread and value; of each by n."""
    groups: dict[tuple[int, float, float], dict[int, Setting]] = {}
    for setting in sorted((s for s in measured if s.of == of), key=lambda s: (-s.images, s.value, s.sd, s.n)):
        groups.setdefault((setting.images, setting.sd, setting.value), {})[setting.n] = setting
    return groups


def _rates(measured: Measured, of: str, title: str, what: str) -> Table:
    columns = ["test images", "sd of seeds, points", *([] if of == "one_arm" else [what])]
    columns += [f"{which}n = {n}" for which in (WITH, ALONE) for n in TRIALS]
    rows = []
    for (images, sd, value), by_n in _groups(measured, of).items():
        rates = [rate(measured, by_n[n], key) for key in ("images", "seeds") for n in by_n]
        rows.append([f"{images:,}", f"{100 * sd:.2f}", *([] if of == "one_arm" else [f"{value:g}"]), *map(str, rates)])
    return Table(title, tuple(columns), rows)


def _claims(measured: Measured) -> Table:
    rows = [
        [f"{images:,}", f"{arms:g}", *(str(rate(measured, setting, "claims")) for setting in by_n.values())]
        for (images, _, arms), by_n in _groups(measured, "equal_arms").items()
    ]
    columns = "test images", "arms", *(f"n = {n}" for n in TRIALS)
    return Table("Equal arms: the report claims at least one difference, %", columns, rows)


def _single(measured: Measured) -> Table:
    rows = [
        [f"{images:,}", f"{arms:g}", str(rate(measured, by_n[1], "claims"))]
        for (images, _, arms), by_n in _groups(measured, "single_networks").items()
    ]
    title = "One trial an arm, equal networks: one is said to be ahead with other images, %"
    return Table(title, ("test images", "arms", "n = 1"), rows)


def _best(measured: Measured) -> Table:
    rows = [
        [f"{images:,}", f"{arms:g}", *(str(flattery(measured, setting) or "nothing said") for setting in by_n.values())]
        for (images, _, arms), by_n in _groups(measured, "equal_arms").items()
    ]
    columns = "test images", "arms", *(f"n = {n}" for n in TRIALS)
    return Table("Equal arms: by how many points the best looks better than it is, said / true", columns, rows)


def _reach(measured: Measured) -> Table:
    rows: list[Sequence[Cell]] = [
        _row("interval with other test images, one arm: covers", measured, ("one_arm", "images"), COVERS),
        _row("the same, over seeds alone", measured, ("one_arm", "seeds"), None),
        _row("difference of unlike arms, with other test images: covers", measured, ("unlike_arms", "images"), COVERS),
        _row("the same, over seeds alone", measured, ("unlike_arms", "seeds"), None),
        _row("equal arms, at least one difference claimed", measured, ("equal_arms", "claims"), CLAIMS),
        _row(
            "one trial an arm, equal networks: one is said to be ahead", measured, ("single_networks", "claims"), CLAIMS
        ),
        _row("one trial against n: leaves out 0, over seeds", measured, ("one_against_n", "seeds"), None),
        _row("one trial against n: leaves out 0, with other images", measured, ("one_against_n", "images"), None),
        _best_row(measured),
    ]
    note = "Outside: settings whose rate's whole 95 % interval lies outside the aim."
    return Table("Reach", ("what the report says", "aim, %", "lowest to highest, %", "settings", "outside"), rows, note)


def _row(name: str, measured: Measured, which: tuple[str, str], aim: tuple[float, float] | None) -> Sequence[Cell]:
    rates = [rate(measured, setting, which[1]) for setting in measured if setting.of == which[0]]
    shares = [100 * one.share for one in rates]
    found = f"{min(shares):.1f} to {max(shares):.1f}"
    if aim is None:
        return name, "", found, len(rates), ""
    asked = f"{100 * aim[0]:g} to {100 * aim[1]:g}" if aim[0] else f"at most {100 * aim[1]:g}"
    return name, asked, found, len(rates), sum(one.lies_outside(aim) for one in rates)


def _best_row(measured: Measured) -> Sequence[Cell]:
    every = (flattery(measured, setting) for setting in measured if setting.of == "equal_arms")
    known = [found for found in every if found]
    off = [found.said - found.true for found in known]
    where = f"{min(off):+.2f} to {max(off):+.2f} points" if off else "nothing said"
    asked = f"within {NEAR} points"
    return "best arm: said size less the true one", asked, where, len(off), sum(abs(one) > NEAR for one in off)


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    where = surroundings()
    measured = measure_all(settings(), args.rounds, args.seed, args.processes)
    publish(args, where, tables(measured))
    return 0


def _parse(arguments: Iterable[str] | None) -> argparse.Namespace:
    made = parser("coverage", __doc__, 2_000)
    made.add_argument("--seed", type=count, default=1, help="of the simulated sweeps (default: %(default)s)")
    made.add_argument("--processes", type=count, default=cpu_count(), help="side by side (default: %(default)s)")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
