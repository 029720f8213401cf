"""A sweep's folder -> tidy frames: one row an epoch, one row a trial, one row a session.

Times are Unix seconds and durations seconds; accuracies are fractions. Four durations that are easily confused have one
name each: a trial's training time (`own_seconds`: training steps + validation + checkpointing + test), its start-up,
the sum of training times over trials (combined), and the sweep's wall clock.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from raycifar.analysis.result_rows import (
    EPOCH_COLUMNS,
    SESSION_COLUMNS,
    THRESHOLD,
    TRIAL_COLUMNS,
    epoch_rows,
    frame,
    session_rows,
    trial_row,
)
from raycifar.analysis.tested_arms import accuracy_frame, difference_frame
from raycifar.analysis.trial_state import (
    Interval,
    ResultsError,
    active_intervals,
    is_running,
    read_invocations,
    read_notes,
    read_sweep,
    read_trial,
)
from raycifar.config.architectures import title_of
from raycifar.config.datasets import Facts
from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import Invocation, SweepRecord

__all__ = [
    "EPOCH_COLUMNS",
    "LEAK",
    "MOST_ARMS",
    "SESSION_COLUMNS",
    "THRESHOLD",
    "TRIAL_COLUMNS",
    "Results",
    "ResultsError",
    "dicts",
    "leaks",
    "read_results",
]

LEAK = "validated on the training images (leak)"
MOST_ARMS = 7  # that a report shows one by one: as many as there are colours


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that the analysis uses. The frames have the columns EPOCH_, TRIAL_ and SESSION_COLUMNS."""

    path: Path
    record: SweepRecord
    spec: SweepSpec
    epochs: pd.DataFrame
    trials: pd.DataFrame
    sessions: pd.DataFrame
    invocations: list[Invocation]
    running: bool
    active: list[Interval]  # when run_sweep.py ran: disjoint and in order
    read_at: float
    problems: list[str]  # one line for each file that could not be read
    notes: list[str] = field(default_factory=list)  # what people wrote about these results, a paragraph each

    @property
    def facts(self) -> Facts:
        """What is known of the data set that all trials read."""
        return self.spec.data.facts

    @property
    def networks(self) -> list[str]:
        """What texts call the networks that the arms train, each once."""
        return list(dict.fromkeys(map(self.network, self.spec.trials)))

    def network(self, trial: TrialSpec) -> str:
        """What texts call a trial's network: with its library where another one is called alike."""
        titles = Counter(map(title_of, {trial.model.called for trial in self.spec.trials}))
        title = title_of(trial.model.called)
        return title if titles[title] == 1 else trial.model.called

    @property
    def time_notes(self) -> list[str]:
        """What stands beside every time: the first paragraph of the notes, if there are any."""
        return [f"Note on this sweep: {note}" for note in self.notes[:1]]

    @property
    def wall_seconds(self) -> float:
        """How long run_sweep.py ran on this sweep; pauses between its calls do not count."""
        return sum(end - start for start, end in self.active)

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of `trials` that have been tested."""
        return self.trials[self.trials["status"] == "finished"]

    def finished_by_arm(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """The tested trials of every arm that has some, in the sweep file's order."""
        for arm in self.arms:
            trials = self.finished[self.finished["arm"] == arm]
            if len(trials):
                yield arm, trials

    def accuracies(self) -> pd.DataFrame:
        """Every arm's mean test accuracy with its 95 % intervals; see tested_arms.accuracy_frame. Reads predictions."""
        return accuracy_frame(self)

    def differences(self) -> pd.DataFrame:
        """Every arm against the best and the first one; see tested_arms.difference_frame. Reads predictions."""
        return difference_frame(self)

    @property
    def compared_epochs(self) -> pd.DataFrame:
        """The rows of `epochs` that represent their arm: failed trials only where all begun ones failed."""
        begun = self.trials[self.trials["epochs_run"] > 0]
        failed = begun["status"] == "failed"
        left_out = begun[failed & ~failed.groupby(begun["arm"]).transform("all")]
        return self.epochs[~self.epochs["trial"].isin(left_out["trial"])]

    @property
    def arms(self) -> list[str]:
        """In the order of the sweep file."""
        return list(dict.fromkeys(trial.arm for trial in self.spec.trials))

    @property
    def shown_arms(self) -> list[str]:
        """In the sweep file's order, all arms, or where there are more than MOST_ARMS so many: the baseline, which is
        the first one, and those of the highest mean validation accuracy. To choose them by their test accuracy would
        make them look too good. Before any has finished, by their best epoch so far.
        """
        if len(self.arms) <= MOST_ARMS:
            return self.arms
        means = self.trials.groupby("arm")["best_val_accuracy"].mean()
        if means.isna().all():
            means = self.epochs.groupby("arm")["val_accuracy"].max().reindex(self.arms)
        ranked = means.fillna(-1.0).sort_values(ascending=False, kind="stable").index.tolist()
        shown = list(dict.fromkeys([self.arms[0], *ranked]))[:MOST_ARMS]
        return [arm for arm in self.arms if arm in shown]


def leaks(frame: pd.DataFrame) -> bool:
    """Whether any row of a frame comes from a trial that was validated on its training images."""
    return bool((frame["validation"] == "train").any())


def dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def read_results(path: str | Path) -> Results:
    """Read a sweep's folder, also while it runs. Raises ResultsError where there is no sweep to read.

    A trial whose files are broken gets the status "unreadable" and a line in `problems`; the others are read.
    """
    folder = SweepFolder(Path(path).expanduser())
    record, spec = read_sweep(folder)
    running = is_running(folder)  # before the trials are read: what ends meanwhile then shows as running, not as dead
    (calls, problems), (notes, unread) = read_invocations(folder), read_notes(folder)
    traces = [read_trial(folder.trial(trial.name), trial) for trial in spec.trials]
    since = (calls[-1].started_at if calls else record.created_at) if running else None
    now = time.time()
    return Results(
        path=folder.path,
        record=record,
        spec=spec,
        epochs=pd.DataFrame.from_records([row for t in traces for row in epoch_rows(t)], columns=EPOCH_COLUMNS),
        trials=frame((trial_row(trace, trace.status(since)) for trace in traces), TRIAL_COLUMNS),
        sessions=frame((row for trace in traces for row in session_rows(trace)), SESSION_COLUMNS),
        invocations=calls,
        running=running,
        active=active_intervals(calls, running, now, (at for trace in traces for at in trace.times())),
        read_at=now,
        problems=problems + unread + [problem for trace in traces for problem in trace.problems],
        notes=notes,
    )
