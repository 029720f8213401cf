"""What the command that runs sweeps does once its folder and its options are known, and what it prints then.

Each takes the sweep or search, its results' folder, the options and the terminal, and returns the exit status.
"""

from pathlib import Path

from rich.console import Console

from raycifar.commands.next_steps import again, analyze_next, run_next
from raycifar.config.sweep import SweepSpec
from raycifar.execution import sweep as execution
from raycifar.execution.options import Options
from raycifar.execution.plan import describe_data, describe_plan, plan_table, results_table, tell_plan
from raycifar.execution.runners import informed
from raycifar.execution.standing import standings, time_needed
from raycifar.execution.sweep import check_files, plan_only
from raycifar.execution.workspace import check_folder
from raycifar.search.records import SearchFolder, sample_name
from raycifar.search.search import check_files as check_search_files
from raycifar.search.search import check_folder as check_search_folder
from raycifar.search.search import informed_search, plan_search, run_search
from raycifar.search.spec import SearchSpec
from raycifar.search.tables import budget, samples_table, space_table
from raycifar.storage.folders import SweepFolder
from raycifar.tracking.trackers import written_by


def show_sweep_plan(sweep: SweepSpec, path: Path, options: Options, console: Console) -> int:
    sweep = informed(sweep, options, fetch=False)
    folder, chosen = SweepFolder(path), sweep.only(options.only)
    check_folder(sweep, folder, options.fresh, written_by(options.log), to_look=True)
    check_files(sweep, folder, options)
    states = {} if options.fresh else standings(chosen.trials, folder)
    plan, gpus = plan_only(sweep, options, [name for name, state in states.items() if state.is_done])
    estimate = time_needed(sweep, plan, folder, states) if states else ""
    table = plan_table(chosen, plan, path, states, estimate)
    what = describe_plan(plan, gpus) if plan.order else f"Nothing to do: all {len(chosen.trials)} trials have finished."
    console.print(table)
    console.print(*describe_data(sweep.data), what, sep="\n", soft_wrap=True)
    tell_plan(options, path, plan, gpus)
    return 0


def run_sweep(sweep: SweepSpec, path: Path, options: Options, console: Console, quiet: bool = False) -> int:
    finished = execution.run_sweep(sweep, path, options, Console(quiet=True) if quiet else console)
    console.print(results_table(sweep.only(options.only).trials, SweepFolder(path)))
    if not finished:
        console.print(f"To go on with what is not done: {again()}", soft_wrap=True)
    console.print(analyze_next(path), soft_wrap=True)
    return 0 if finished else 1


def show_search_plan(search: SearchSpec, path: Path, options: Options, console: Console) -> int:
    search = informed_search(search, options, fetch=False)
    check_search_folder(search, SearchFolder(path), options.fresh, written_by(options.log), to_look=True)
    check_search_files(search, SearchFolder(path), options)
    plan, gpus = plan_search(search, options)
    console.print(space_table(search, path), budget(search), sep="\n")
    console.print(*describe_data(search.trial.data), describe_plan(plan, gpus), sep="\n", soft_wrap=True)
    tell_plan(options, path, plan, gpus, [sample_name(number) for number in range(1, search.samples + 1)])
    return 0


def sample_settings(search: SearchSpec, path: Path, options: Options, console: Console, quiet: bool = False) -> int:
    finished = run_search(search, path, options, Console(quiet=True) if quiet else console)
    folder = SearchFolder(path)
    console.print(samples_table(search, folder))
    if folder.best.exists():
        console.print(run_next(folder.best), soft_wrap=True)
    return 0 if finished else 1
