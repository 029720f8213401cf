"""Kill processes of real sweeps at random moments, and compare what they leave with an undisturbed sweep.

Each round runs tests/chaos/sweep.toml on real Ray and kills `--kills` of its processes. When the command ends early, it
is given again, as a user would. At the end every epoch must be recorded exactly once, and every number and weight must
equal those of an undisturbed sweep to the bit. Every kill is a line in kills.jsonl: which process, when, and how long
until the trial had trained another epoch (any trial, where the kill hit all of them).

    python -m tests.chaos.soak --rounds 10 --kills 3 --seed 1 --folder /tmp/soak
"""

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from raycifar.storage.files import RecordError
from raycifar.storage.folders import SweepFolder
from tests.chaos.compare import TRIALS, differences
from tests.chaos.victims import Kill, choose, working
from tests.support.paths import ROOT

PATIENCE_SECONDS = 420  # without a kill and without an epoch: then the sweep hangs
LONGEST_PAUSE = 12.0  # seconds between two kills, and before the first: a trial of this sweep trains for about as long
CALLS = 12  # of one command, at most


@dataclass(slots=True)
class Struck:
    """A kill that has been carried out."""

    round: int
    role: str
    trial: str | None
    epochs: dict[str, int]  # of each trial when it happened
    at: float  # seconds of the monotonic clock
    recovery_seconds: float | None = None  # until the next epoch was on disk


class Round:
    """One sweep and the kills in it."""

    def __init__(self, number: int, folder: Path, workers: int, dice: random.Random) -> None:
        self.number, self.dice = number, dice
        self.sweep = SweepFolder(folder / f"round-{number}")
        self.log = (folder / f"round-{number}.log").open("a")
        self.command = command(self.sweep.path, workers)
        self.struck: list[Struck] = []
        self.statuses: list[int] = []

    def run(self, kills: int) -> list[str]:
        """Call the command until the sweep has finished; a line where it has not after CALLS calls."""
        for _ in range(CALLS):
            status = self._call(kills - len(self.struck))
            self.statuses.append(status)
            if status == 0:
                return []
        return [f"round {self.number}: not finished after {CALLS} calls, statuses {self.statuses}"]

    def _call(self, kills: int) -> int:
        main = subprocess.Popen(self.command, cwd=ROOT, stdout=self.log, stderr=self.log, text=True)
        early = self.dice.random() < 0.2  # kills before training begins; more of them would leave few for the training
        quiet_until = time.monotonic() + self.dice.uniform(2, LONGEST_PAUSE) if early else math.inf
        give_up, epochs = time.monotonic() + PATIENCE_SECONDS, self._epochs()
        while main.poll() is None:
            time.sleep(0.2)
            self._observe()
            if (now := self._epochs()) != epochs:
                give_up, epochs = time.monotonic() + PATIENCE_SECONDS, now
            if math.isinf(quiet_until) and working(main.pid):
                quiet_until = time.monotonic() + self.dice.uniform(0, LONGEST_PAUSE)
            if time.monotonic() > give_up:
                _end(main)
                raise TimeoutError(f"round {self.number}: hung; see {self.log.name}")
            if kills > 0 and time.monotonic() > quiet_until and (kill := choose(main, self.dice)):
                kills -= self._strike(kill)
                quiet_until = time.monotonic() + self.dice.uniform(2, LONGEST_PAUSE)
                give_up = time.monotonic() + PATIENCE_SECONDS
        self._observe()
        return main.returncode

    def _strike(self, kill: Kill) -> int:
        try:
            kill.strike()
        except psutil.Error:
            return 0
        self.struck.append(Struck(self.number, kill.role, kill.trial, self._epochs(), time.monotonic()))
        print(f"round {self.number}: {kill.role} {kill.trial or ''} at {self.struck[-1].epochs}", flush=True)
        return 1

    def _observe(self) -> None:
        waiting = [struck for struck in self.struck if struck.recovery_seconds is None]
        now = self._epochs() if waiting else {}
        for struck in waiting:
            hit = [struck.trial] if struck.trial in TRIALS else TRIALS
            if any(now[trial] > struck.epochs[trial] for trial in hit):
                struck.recovery_seconds = round(time.monotonic() - struck.at, 1)

    def _epochs(self) -> dict[str, int]:
        return {trial: len(self.sweep.trial(trial).history().epochs) for trial in TRIALS}


def command(folder: Path, workers: int) -> list[str]:
    return [
        *(sys.executable, "run_sweep.py", "tests/chaos/sweep.toml", "--gpus=0", f"--workers-per-trial={workers}"),
        *(f"--storage={folder.parent}", f"--name={folder.name}"),
    ]


def _end(main: subprocess.Popen[str]) -> None:
    for process in [psutil.Process(main.pid), *psutil.Process(main.pid).children(recursive=True)]:
        process.kill()
    main.wait()


def reference(folder: Path, workers: int) -> SweepFolder:
    """The undisturbed sweep, which is run once and then reused."""
    path = folder / f"reference-{workers}"
    if all(SweepFolder(path).trial(trial).summary() for trial in TRIALS):
        return SweepFolder(path)
    with (folder / f"{path.name}.log").open("a") as log:
        subprocess.run(command(path, workers), cwd=ROOT, stdout=log, stderr=log, check=True)
    return SweepFolder(path)


def soak(folder: Path, first: int, rounds: int, kills: int, workers: int) -> list[str]:
    """Run the rounds; a line for each thing that is wrong. A round's number is its seed."""
    folder.mkdir(parents=True, exist_ok=True)
    undisturbed, wrong = reference(folder, workers), list[str]()
    for number in range(first, first + rounds):
        print(f"round {number}: seed {number}, {kills} kills, {workers} workers a trial", flush=True)
        round_ = Round(number, folder, workers, random.Random(number))
        try:
            found = round_.run(kills) or differences(undisturbed, round_.sweep)
        except (RecordError, TimeoutError) as error:
            found = [str(error)]
        with (folder / "kills.jsonl").open("a") as file:
            for struck in round_.struck:
                line = {**asdict(struck), "workers": workers, "statuses": round_.statuses, "wrong": found}
                file.write(json.dumps(line) + "\n")
        print(f"round {number}: exit statuses {round_.statuses}: {found or 'as if undisturbed'}", flush=True)
        wrong += found
        if not found:
            shutil.rmtree(round_.sweep.path)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="sweeps to disturb")
    parser.add_argument("--kills", type=int, default=3, help="in each")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next has the next")
    parser.add_argument("--workers", type=int, default=1, help="a trial")
    parser.add_argument("--folder", type=Path, default=Path("build/chaos"), help="for results, logs and kills.jsonl")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    wrong = soak(args.folder.resolve(), seed, args.rounds, args.kills, args.workers)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
