"""A search from its spec to its folder: runs on Ray what has not ended, and writes a sweep file of the best sample."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from raycifar import user_code
from raycifar.config.sweep import TrialSpec
from raycifar.execution.agreement import Call, SweepError, agreed_data, common_facts, weights_on_record
from raycifar.execution.options import Options
from raycifar.execution.placement import Plan
from raycifar.execution.plan import check_options, plan_trials, tell_plan
from raycifar.execution.runners import check_named_files, informed_trial, session
from raycifar.execution.session import Session
from raycifar.execution.workspace import check_place, held, on_record, tidied
from raycifar.program import program
from raycifar.search.records import SearchFolder, SearchRecord, ended, sample_name
from raycifar.search.spec import SearchSpec
from raycifar.search.tables import best_sample, write_best, write_table
from raycifar.storage.foreign import refuse_foreign
from raycifar.tracking.listener import Tracked
from raycifar.tracking.terminal import Terminal
from raycifar.tracking.trackers import written_by
from raycifar.user_code import agreed_code

NEEDS = ("optuna", "tomli_w")


def run_search(search: SearchSpec, path: Path, options: Options, console: Console) -> bool:
    """Draw and train the samples that are still missing in the folder `path`; True when as many as asked have ended.

    Raises agreement.SweepError, PlacementError, AssetError or RecordError before anything starts.
    """
    folder = SearchFolder(path)
    _check(options)
    search = informed_search(search, options)
    check_folder(search, folder, options.fresh, written_by(options.log))
    check_files(search, folder, options)
    missing = search.samples - (0 if options.fresh else len(ended(folder.samples())))
    if missing <= 0:
        console.print(f"Nothing to do: all {search.samples} samples in {path} have ended.", soft_wrap=True)
    else:
        with session([search.trial] * missing, options, console) as opened_session:
            _run(search, folder, opened_session)
    # A process killed after its last sample has written neither; those that are there may have been edited since.
    if missing > 0 or not folder.table.exists():
        write_table(folder)
    if (missing > 0 or not folder.best.exists()) and (best := best_sample(folder)):
        write_best(search, folder, best, options.source)
    return _finished(search, folder)


def informed_search(search: SearchSpec, options: Options, fetch: bool = True) -> SearchSpec:
    """The search with what is known of its data set, which suits its trial. Raises AssetError or SpecError."""
    return search.model_copy(update={"trial": informed_trial(search.trial, options, fetch)})


def check_files(search: SearchSpec, folder: SearchFolder, options: Options) -> None:
    """As runners.check_named_files, for a search and what is in its folder. Raises also RecordError."""
    record = None if options.fresh else folder.record()
    if record:
        agreed_data(folder.path, record, search.trial.data.facts.digest)
        agreed_code(folder.path, record.code, user_code.digests())
    check_named_files([search.trial], options, folder.path, weights_on_record(record))


def plan_search(search: SearchSpec, options: Options) -> tuple[Plan, int]:
    """As sweep.plan_only. Raises SweepError or PlacementError."""
    _check(options)
    return plan_trials([search.trial] * search.samples, options)


def _check(options: Options) -> None:
    if options.local or options.only or options.workers_per_trial > 1:
        raise SweepError(
            "a search draws its samples side by side on Ray, one worker each: "
            "leave out --local, --only and --workers-per-trial"
        )
    if options.hang_seconds != Options().hang_seconds:
        raise SweepError("a search's samples are not watched: leave out --hang-timeout")
    check_options(options)
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise SweepError(f"a search needs {missing[0]}: {program().install('search')}")


def check_folder(
    search: SearchSpec, folder: SearchFolder, fresh: bool, by_trackers: Sequence[str] = (), to_look: bool = False
) -> None:
    """As workspace.check_folder, for a search."""
    if check_place(folder.sweep, "search.json", to_look) and not fresh:
        _refuse_another_search(search, folder)
        refuse_foreign(folder.sweep.files, [sample.name for sample in folder.samples()], by_trackers)


def _refuse_another_search(search: SearchSpec, folder: SearchFolder) -> None:
    record = folder.record()
    if record and record.asks != search.asks:
        raise SweepError(
            f"{folder.path}: another trial or space was searched there: keep both with --name OTHER, "
            "or start over with --fresh (the old samples are moved aside)"
        )


def _run(search: SearchSpec, folder: SearchFolder, session: Session) -> None:
    """Run the missing samples; the folder is locked, and the call on record, meanwhile."""
    from raycifar.search.ray_search import check_dashboard

    check_dashboard(session)
    session.runner.check(session, folder.path)
    with held(folder.sweep, session.options.fresh):
        _refuse_another_search(search, folder)  # which may have begun, and ended, since check_folder
        with tidied(folder.sweep, lambda: [sample.name for sample in folder.samples()]):
            describe(search, folder, session.call)
            with on_record(folder.sweep, session.call, lambda: _finished(search, folder)):
                _run_samples(search, folder, session)


def _run_samples(search: SearchSpec, folder: SearchFolder, session: Session) -> None:
    """With everybody listening."""
    from raycifar.search.ray_search import search_on_ray

    session.show_plan()
    terminal, trials = _terminal(search, folder, session.console)
    tell_plan(session.options, folder.path, session.plan, session.gpus, _not_ended(search, folder))
    record = folder.record()
    tracked = Tracked(folder.path, record.created_at if record else 0.0)
    with terminal, session.bus(terminal, trials, tracked) as bus:
        search_on_ray(search, folder, session, bus)


def _finished(search: SearchSpec, folder: SearchFolder) -> bool:
    return len(ended(folder.samples())) >= search.samples


def describe(search: SearchSpec, folder: SearchFolder, call: Call) -> None:
    """Write the search's record. Raises SweepError where its samples started from other ImageNet weights."""
    facts = common_facts(folder.path, folder.record(), call)
    folder.write_record(SearchRecord(spec=search.model_dump(mode="json"), asks=search.asks, **facts))


def _names(search: SearchSpec, folder: SearchFolder) -> list[str]:
    """The names of all samples: those that were drawn, and those still to come."""
    return [sample_name(number) for number in range(1, max(search.samples, len(folder.samples())) + 1)]


def _not_ended(search: SearchSpec, folder: SearchFolder) -> list[str]:
    done = {sample.name for sample in ended(folder.samples())}
    return [name for name in _names(search, folder) if name not in done]


def _terminal(search: SearchSpec, folder: SearchFolder, console: Console) -> tuple[Terminal, list[TrialSpec]]:
    """The terminal, which shows the samples that have ended; and the trials that all samples are."""
    names = _names(search, folder)
    trials = [search.sample({}, name) for name in names]
    histories = {name: folder.trial(name).history() for name in names}
    terminal = Terminal(trials, console, histories, are_tested=False)
    for sample in ended(folder.samples()):
        terminal.state(sample.name, "done", f"val {100 * sample.best_val_accuracy:.1f} %")
    return terminal, trials
