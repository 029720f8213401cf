"""A sweep from its spec to its folder: what is done already, what may run; then a session runs the rest."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from raycifar import user_code
from raycifar.config.sweep import SweepSpec
from raycifar.execution.agreement import agreed_data, weights_on_record
from raycifar.execution.options import Options
from raycifar.execution.placement import Plan
from raycifar.execution.plan import check_options, plan_trials, tell_plan
from raycifar.execution.runners import check_named_files, informed, session
from raycifar.execution.session import Session
from raycifar.execution.workspace import all_finished, check_folder, opened
from raycifar.storage.checkpoints import saved_history
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.records import TrialSummary
from raycifar.storage.written import BY_RAY
from raycifar.tracking.listener import Tracked
from raycifar.tracking.tensorboard import TensorBoard
from raycifar.tracking.terminal import Terminal
from raycifar.tracking.trackers import written_by
from raycifar.user_code import agreed_code


def run_sweep(sweep: SweepSpec, path: Path, options: Options, console: Console) -> bool:
    """Run the sweep's unfinished trials in the folder `path`; True when every chosen trial has finished.

    Raises agreement.SweepError, PlacementError, SpecError, AssetError or RecordError before anything starts.
    """
    folder = SweepFolder(path)
    check_options(options)
    sweep = informed(sweep, options)
    chosen = sweep.only(options.only)
    check_folder(sweep, folder, options.fresh, written_by(options.log))
    check_files(sweep, folder, options)
    unfinished = [t for t in chosen.trials if options.fresh or not _is_done(folder.trial(t.name), options)]
    if unfinished:
        with session(unfinished, options, console) as opened_session:
            _run(opened_session, sweep, chosen, folder)
        return all_finished(chosen, folder)
    for name, summary in _summaries(chosen, folder):
        for listener in options.listeners:
            listener.summary(name, summary)
    console.print(f"Nothing to do: all {len(chosen.trials)} trials in {path} have finished.", soft_wrap=True)
    return True


def check_files(sweep: SweepSpec, folder: SweepFolder, options: Options) -> None:
    """As runners.check_named_files, for a sweep and what is in its folder. Raises also RecordError."""
    record = None if options.fresh else folder.record()
    if record:
        agreed_data(folder.path, record, sweep.data.facts.digest)
        agreed_code(folder.path, record.code, user_code.digests())
    check_named_files(sweep.trials, options, folder.path, weights_on_record(record))


def plan_only(sweep: SweepSpec, options: Options, done: Collection[str] = ()) -> tuple[Plan, int]:
    """The plan for the chosen trials on `options.gpus` GPUs, there or not, and their number. Raises PlacementError.

    Trials that are `done` are not in its order; where all are, it is the plan for all with none in its order.
    """
    chosen = sweep.only(options.only).trials
    rest = [trial for trial in chosen if trial.name not in done]
    plan, gpus = plan_trials(rest or chosen, options)
    return (plan if rest else replace(plan, order=())), gpus


def _is_done(trial: TrialFolder, options: Options) -> bool:
    """Tested, and known to Tune: where this process was killed just then, Tune's file may lack epochs."""
    return trial.summary() is not None and (options.local or not _tune_lacks_epochs(trial))


def _tune_lacks_epochs(trial: TrialFolder) -> bool:
    """Whether Ray Tune's file of this trial, where it ran on Ray, has fewer epochs than its history."""
    try:
        lines = (trial.path / "result.json").read_bytes().splitlines(keepends=True)
    except OSError:  # it is begun anew by each call
        return any(BY_RAY.fullmatch(path.name) for path in trial.path.iterdir())
    told = sum(b'"epoch":' in line and line.endswith(b"\n") for line in lines)
    return told < len(trial.history().epochs)


def _run(session: Session, sweep: SweepSpec, chosen: SweepSpec, folder: SweepFolder) -> None:
    """Run what is not done, with everybody listening; the folder is locked, and the call on record, meanwhile."""
    options = session.options
    session.runner.check(session, folder.path)
    with opened(sweep, chosen, folder, session.call, options.fresh):
        session.show_plan()
        histories = {trial.name: saved_history(folder.trial(trial.name).path) for trial in chosen.trials}
        terminal = Terminal(chosen.trials, session.console, histories)
        tell_plan(options, folder.path, session.plan, session.gpus)
        for name, summary in _summaries(chosen, folder):  # of earlier calls: the table, and a script, have them too
            terminal.done(name, summary)
            for listener in options.listeners:
                listener.summary(name, summary)
        record = folder.record()
        tracked = Tracked(folder.path, record.created_at if record else 0.0)
        with terminal, session.bus(terminal, chosen.trials, tracked, TensorBoard(folder)) as bus:
            session.runner.run_sweep(session, folder, bus)


def _summaries(chosen: SweepSpec, folder: SweepFolder) -> list[tuple[str, TrialSummary]]:
    read = [(trial.name, folder.trial(trial.name).summary()) for trial in chosen.trials]
    return [(name, summary) for name, summary in read if summary]
