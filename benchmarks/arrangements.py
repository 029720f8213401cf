"""Trials cut short, one after the other with all threads or side by side with a share of them each, as processes."""

import math
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from safetensors.torch import load_file

from benchmarks.turns import Figures, Turn, started
from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Split
from raycifar.networks.registry import build_network
from raycifar.storage.records import EpochRecord
from raycifar.training.loop import TrainState, fit
from raycifar.training.trial import Assets

FOR_EVER = 100_000  # epochs


@dataclass(frozen=True, slots=True)
class Short:
    """A trial cut short: so many epochs, of so many images that train and then validate."""

    trial: TrialSpec
    epochs: int
    images: int
    threads: int
    assets: Assets

    def records(self) -> Iterator[EpochRecord]:
        """Its epochs, as `fit` yields them."""
        torch.set_num_threads(self.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tensors = load_file(self.assets.data)
        images, labels = (tensors[f"train_{name}"][: self.images].clone() for name in ("images", "labels"))
        split = Split(images, labels).to(device)
        model = build_network(self.trial.model, self.trial.data.facts, self.trial.seed, self.assets.imagenet)
        calm = self.trial.optimizer.model_copy(update={"lr": 1e-4})  # what so few images teach is of no interest
        spec = self.trial.model_copy(update={"epochs": self.epochs, "optimizer": calm})
        return fit(TrainState(model, spec, device), split, split, spec)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, of one arm's trials in one arrangement."""

    start: float  # a trial, before its first epoch
    train: float  # an image
    val: float  # an image

    def of(self, trial: TrialSpec) -> float:
        """Of the whole trial, tested at the end with mirror images."""
        train, val, test = trial.data.images
        return self.start + trial.epochs * (train * self.train + val * self.val) + 2 * test * self.val

    def of_short(self, short: Short) -> float:
        return self.start + short.epochs * short.images * (self.train + self.val)


def time_epochs(short: Short, turn: Turn) -> None:
    """A contender whose turns are epochs."""
    begun = time.perf_counter()
    records = short.records()
    start = time.perf_counter() - begun
    for record in records:
        seconds = {"train": record.train_seconds / short.images, "val": record.val_seconds / short.images}
        turn.end(seconds | {"start": start})


def measure_costs(
    shorts: Mapping[str, Short], at_once: Sequence[int], rounds: int
) -> dict[int, dict[str, list[Costs]]]:
    """By number at once, by arm, by round: what `at_once` trials of an arm cost each while they run side by side.

    The rounds are interleaved, after one to warm up. `shorts` have the threads of a trial alone.
    """
    found: dict[int, dict[str, list[Costs]]] = {n: {arm: [] for arm in shorts} for n in at_once}
    with ExitStack() as stack:
        teams = {
            (n, arm): [stack.enter_context(started(partial(time_epochs, shared(short, n)))) for _ in range(n)]
            for n in at_once
            for arm, short in shorts.items()
        }
        for _ in range(rounds + 1):
            for (n, arm), team in teams.items():
                for member in team:
                    member.go()
                found[n][arm].append(_mean([member.answer() for member in team]))
    return {n: {arm: costs[1:] for arm, costs in arms.items()} for n, arms in found.items()}


def shared(short: Short, at_once: int) -> Short:
    """With the share of the threads that is left when so many run side by side."""
    return Short(short.trial, short.epochs, short.images, max(1, short.threads // at_once), short.assets)


def _mean(turns: Sequence[Figures]) -> Costs:
    return Costs(**{key: math.fsum(turn[key] for turn in turns) / len(turns) for key in ("start", "train", "val")})


def measure_makespan(shorts: Sequence[Short], at_once: int) -> float:
    """Seconds from the first trial's start to the last one's end, in processes that have started before."""
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(time.sleep, [1.0] * at_once))  # so that every process is there
        spans = list(pool.map(_run, [shared(short, at_once) for short in shorts]))
    return max(end for _, end in spans) - min(start for start, _ in spans)


def _run(short: Short) -> tuple[float, float]:
    start = time.time()
    for _ in short.records():
        pass
    return start, time.time()
