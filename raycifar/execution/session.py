"""One call at work: where its trials run, on which share of what, from which files, and who hears of it.

Sweeps and searches share all of it. A `Runner` is the place: `Local` is this process, `OnRay` is Ray.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from raycifar import user_code
from raycifar.config.sweep import TrialSpec
from raycifar.devices import hardware, versions
from raycifar.execution.agreement import Call
from raycifar.execution.options import Options
from raycifar.execution.placement import UNLIMITED, Plan
from raycifar.execution.plan import describe_data, describe_plan
from raycifar.execution.shared_code import found_here, share_code
from raycifar.storage.asset_cache import digest_on_file
from raycifar.storage.folders import SweepFolder
from raycifar.tracking.listener import Bus, Listener, Tracked
from raycifar.tracking.terminal import Terminal
from raycifar.tracking.trackers import chosen_trackers
from raycifar.training.trial import Assets


@dataclass(frozen=True, slots=True)
class Job:
    """What a process that trains needs to know besides its trial: plain values, for it travels as JSON."""

    folder: str  # the results', absolute: on Ray, trials run in a folder of Ray's
    data: str
    imagenet: str | None
    others: dict[str, str]  # as `imagenet`, of other networks than VGG16, by name
    workers: int
    gpus_per_worker: float
    cpus_per_worker: float
    threads: int
    hang_seconds: float
    image_bytes: float = UNLIMITED  # as the plan has it
    code: Sequence[user_code.Allowed] = ()  # the user's, that may run

    def allow_code(self) -> None:
        """In a process that trains: what the call allowed. Raises CodeError where it is other code here."""
        user_code.allow_as(found_here(self.code, Path(self.folder)))

    @property
    def assets(self) -> Assets:
        """The cached files that trials read."""
        others = {name: Path(file) for name, file in self.others.items()}
        return Assets(Path(self.data), Path(self.imagenet) if self.imagenet else None, others)

    @property
    def resources(self) -> dict[str, float]:
        """What Ray counts for one worker."""
        return {"CPU": self.cpus_per_worker} | ({"GPU": self.gpus_per_worker} if self.gpus_per_worker else {})


class Runner(Protocol):
    """Where trials run."""

    name: str  # as the records call it
    dashboard: str | None  # the address where it can be looked at
    notice: str  # one line about what of it did not start; a sweep runs without that

    def place(self, trials: Sequence[TrialSpec], options: Options) -> tuple[Plan, int]:
        """Where the trials go, and how many GPUs they use. Raises PlacementError."""

    def measured(self, plan: Plan, assets: Assets, options: Options, console: Console) -> Plan:
        """The plan again, once what `options` leave to a measurement has been measured. Raises PlacementError."""

    def check(self, session: "Session", path: Path) -> None:
        """Raises PlacementError where trials could not run, or write their results in `path`; nothing is made there."""

    def listeners(self, name: str) -> list[Listener]:
        """Who hears of the sweep of this name here, and nowhere else."""

    def run_sweep(self, session: "Session", folder: SweepFolder, bus: Bus) -> None:
        """Run the plan's trials in order. Returns when each has finished or failed for good; their folders say which.

        Raises KeyboardInterrupt after Ctrl-C or SIGTERM.
        """


@dataclass(frozen=True, slots=True)
class Session:
    """All that one call works with, once it is known that it can work."""

    runner: Runner
    plan: Plan
    gpus: int
    assets: Assets
    options: Options
    console: Console

    def job(self, folder: Path) -> Job:
        """For the processes that train on Ray, whose nodes find the user's code in the folder. Raises CodeError."""
        plan, imagenet = self.plan, self.assets.imagenet
        share_code(folder)
        return Job(
            folder=str(folder),
            data=str(self.assets.data),
            imagenet=str(imagenet) if imagenet else None,
            others={name: str(path) for name, path in self.assets.others.items()},
            workers=plan.workers,
            gpus_per_worker=plan.gpus_per_worker,
            cpus_per_worker=plan.cpus_per_worker,
            threads=plan.threads,
            hang_seconds=self.options.hang_seconds,
            image_bytes=plan.image_bytes,
            code=user_code.allowed(),
        )

    @property
    def call(self) -> Call:
        """What goes on record."""
        return Call(
            runner=self.runner.name,
            gpus=self.gpus,
            trials_at_once=self.plan.at_once,
            source=self.options.source,
            weights=self.assets.imagenet.name if self.assets.imagenet else "",
            hardware=hardware(),
            versions=versions(),
            command=self.options.called,
            data=digest_on_file(self.assets.data),
            code=user_code.digests(),
            pretrained={name: path.name for name, path in self.assets.others.items()},
            facts=self.plan.order[0].data.facts.model_dump(mode="json", exclude={"digest"}),
        )

    def show_plan(self) -> None:
        """Where to look, and what will run."""
        if self.runner.dashboard:
            self.console.print(f"Ray dashboard: {self.runner.dashboard} (its token: ray get-auth-token)")
        for line in describe_data(self.plan.order[0].data):
            self.console.print(line, soft_wrap=True)
        self.console.print(describe_plan(self.plan, self.gpus))

    def bus(self, terminal: Terminal, trials: Sequence[TrialSpec], tracked: Tracked, *more: Listener) -> Bus:
        """Everybody who hears of the trials: the terminal first, then `more`, then whom runner and options bring."""
        name, options = tracked.folder.name, self.options
        brought = [*options.listeners, *self.runner.listeners(name), *chosen_trackers(options.log, tracked)]
        epochs = {trial.name: trial.epochs for trial in trials}
        return Bus(epochs, [terminal, *more, *brought], terminal.complain)
