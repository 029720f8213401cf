"""How many trials should share a GPU: measured on one of them for some seconds, before the sweep starts.

Trials that share a GPU fill each other's gaps where a step leaves some, and take each other's time where it does not.
Which it is depends on the card, the batch and the network, so more and more processes train side by side, until one
more brings less than GAIN or would not fit into the memory. Each is a process of its own, as trials are.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from raycifar import user_code
from raycifar.config.sweep import TrialSpec
from raycifar.data.sources import facts_of
from raycifar.data.splits import load_training
from raycifar.devices import trials_that_fit
from raycifar.networks.registry import build_network
from raycifar.training.evaluation import predict
from raycifar.training.loop import TrainState, step_of
from raycifar.training.trial import Place, set_up_torch

GAIN = 1.05  # the least factor in images/s, of all trials together, for which one more is worth it
SECONDS = 2.0  # for which steps are timed
WARM_UP_STEPS = 5  # more than a step's recording takes; what is validated at once takes memory, too


@dataclass(frozen=True, slots=True)
class Shared:
    """The measurement of `trials` that train side by side."""

    trials: int
    images_per_second: float  # together
    memory: float  # bytes of the GPU that each takes, its CUDA context included; 0 where it is a CPU
    total: float  # bytes of the GPU


class SharingError(Exception):
    """A trial could not be measured; the message is the last line that its process wrote."""


def measure_sharing(trial: TrialSpec, data: Path, most: int, device: str) -> list[Shared]:
    """1, 2, ... of the trial side by side on the device, at most `most`; the last number is the first not worth it.

    Raises SharingError.
    """
    tried: list[Shared] = []
    while len(tried) < most and (len(tried) < 2 or _was_worth_it(tried)):
        try:
            tried.append(side_by_side(len(tried) + 1, trial, data, device))
        except SharingError:
            if not tried:
                raise
            break  # so many do not fit
        most = min(most, trials_that_fit(tried[0].total, tried[0].memory))
    return tried


def best_sharing(tried: Sequence[Shared]) -> int:
    """How many trials should share a GPU, after measure_sharing."""
    return tried[-1].trials if len(tried) < 2 or _was_worth_it(tried) else tried[-2].trials


def _was_worth_it(tried: Sequence[Shared]) -> bool:
    return tried[-1].images_per_second >= GAIN * tried[-2].images_per_second


def described(tried: Sequence[Shared]) -> str:
    """One line with what was measured and what follows."""
    rates = ", ".join(f"{shared.trials}: {shared.images_per_second:,.0f}" for shared in tried)
    memory = f"; {tried[0].memory / 1e9:.1f} of {tried[0].total / 1e9:.0f} GB each" if tried[0].memory else ""
    return f"--trials-per-gpu auto: {best_sharing(tried)} (images/s by trials side by side: {rates}{memory})"


def side_by_side(trials: int, trial: TrialSpec, data: Path, device: str) -> Shared:
    command = [sys.executable, "-m", __name__, trial.model_dump_json(), str(data), device, str(trials)]
    command.append(json.dumps(user_code.allowed()))
    with ExitStack() as stack:
        team = [start_member(command, stack) for _ in range(trials)]
        for member in team:
            next_line(member)  # it is warm
        for member in team:
            print("go", file=member.stdin, flush=True)
        answers = [json.loads(next_line(member)) for member in team]
    rate = sum(answer["images_per_second"] for answer in answers)
    return Shared(trials, rate, answers[0]["used"] / trials, answers[0]["total"])


def start_member(command: Sequence[str], stack: ExitStack) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    process = stack.enter_context(subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe))
    stack.callback(process.kill)
    return process


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    line = process.stdout.readline()
    if not line:
        told = process.stderr.read().strip().splitlines()
        raise SharingError(told[-1] if told else f"its process ended with status {process.wait()}")
    return line


def main(arguments: Sequence[str]) -> None:
    """One of the processes side by side: warms up, says so, waits for a line, trains for SECONDS, and says how fast."""
    trial, data, device = TrialSpec.model_validate_json(arguments[0]), Path(arguments[1]), torch.device(arguments[2])
    user_code.allow_as(json.loads(arguments[4]) if arguments[4:] else ())
    trial = trial.with_facts(facts_of(data, trial.data))
    place = Place(arguments[2], 1, "", sharing=int(arguments[3]))
    set_up_torch(trial, place)
    train = load_training(data, trial.data, device, place.holds(trial.image_bytes)).train
    # Random weights are as fast as any, and need no file.
    model = build_network(trial.model.model_copy(update={"weights": "random"}), trial.data.facts, trial.seed)
    state = TrainState(model, trial, device)
    step = step_of(state, train, trial)
    index = torch.arange(min(trial.batch_size, len(train)), device=device)

    def steps(count: int) -> None:
        for each in step.ahead([index] * count):
            step(each, 1, 1e-4)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    steps(WARM_UP_STEPS)
    predict(state.evaluated, train.take(torch.arange(min(model.images_at_once, len(train)))), step.precision)
    print("warm", flush=True)
    sys.stdin.readline()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        steps(WARM_UP_STEPS)
        done += WARM_UP_STEPS
    rate = done * len(index) / (time.perf_counter() - start)
    if rest := 0 if trial.drop_last else len(train) % trial.batch_size:
        step(index[:rest], 1, 1e-4)  # an epoch's last batch takes its memory beside the recording's
    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else (0, 0)
    print(json.dumps({"images_per_second": rate, "used": total - free, "total": total}), flush=True)
    sys.stdin.readline()  # until all have measured, for their memory is counted together


if __name__ == "__main__":
    main(sys.argv[1:])
