"""A search from its spec to its folder: what has ended already, Ray for the rest, a sweep file of the best."""

import time
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from raycifar.execution.placement import Plan
from raycifar.execution.sweep import Options, make_call, plan_trials, ready, show_plan, tell_plan
from raycifar.execution.workspace import Call, SweepError, agreed_weights, check_place, commit, held, on_record
from raycifar.program import program
from raycifar.search.records import SearchFolder, SearchRecord, ended, sample_name
from raycifar.search.spec import SearchSpec
from raycifar.search.tables import best_sample, write_best, write_table
from raycifar.tracking.progress import Progress

NEEDS = ("optuna", "tomli_w")


def run_search(search: SearchSpec, path: Path, options: Options, console: Console) -> bool:
    """Draw and train the samples that are still missing in the folder `path`; True when as many as asked have ended.

    Raises workspace.SweepError, PlacementError, AssetError or RecordError before anything starts.
    """
    folder = SearchFolder(path)
    _check(options)
    _check_folder(search, folder, options.fresh)
    missing = search.samples - (0 if options.fresh else len(ended(folder.samples())))
    if missing <= 0:
        console.print(f"Nothing to do: all {search.samples} samples in {path} have ended.", soft_wrap=True)
    else:
        _on_ray(search, folder, missing, options, console)
    # A process killed after its last sample has written neither; those that are there may have been edited since.
    if missing > 0 or not folder.table.exists():
        write_table(folder)
    if (missing > 0 or not folder.best.exists()) and (best := best_sample(folder)):
        write_best(search, folder, best, options.source)
    return _finished(search, folder)


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
    if options.log or options.hang_seconds != Options().hang_seconds:
        raise SweepError("a search's samples are neither tracked nor watched: leave out --log and --hang-timeout")
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise SweepError(f"a search needs {missing[0]}: {program().install('search')}")


def _check_folder(search: SearchSpec, folder: SearchFolder, fresh: bool) -> None:
    if check_place(folder.sweep, "search.json") and not fresh:
        _refuse_another_search(search, folder)


def _refuse_another_search(search: SearchSpec, folder: SearchFolder) -> None:
    record = folder.record()
    if record and record.asks != search.asks:
        raise SweepError(
            f"{folder.path}: another trial or space was searched there: keep both with --name OTHER, "
            "or start over with --fresh (the old samples are moved aside)"
        )


def _on_ray(search: SearchSpec, folder: SearchFolder, missing: int, options: Options, console: Console) -> None:
    with ready([search.trial] * missing, options, console) as (cluster, plan, gpus, assets):
        from raycifar.search import ray_search

        call = make_call(options, plan, gpus, assets)
        with held(folder.sweep, options.fresh):
            _refuse_another_search(search, folder)  # which may have begun, and ended, since _check_folder
            _describe(search, folder, call)
            with on_record(folder.sweep, call, lambda: _finished(search, folder)):
                show_plan(cluster.dashboard, plan, gpus, console)
                with _progress(search, folder, console) as progress:
                    tell_plan(options, folder.path, plan, gpus, _not_ended(search, folder))
                    progress.listeners += options.listeners
                    ray_search.search_on_ray(search, folder, assets, plan, progress)


def _finished(search: SearchSpec, folder: SearchFolder) -> bool:
    return len(ended(folder.samples())) >= search.samples


def _describe(search: SearchSpec, folder: SearchFolder, call: Call) -> None:
    before = folder.record()
    weights = agreed_weights(folder.path, before.weights if before else "", call.weights)
    folder.write_record(
        SearchRecord(
            name=folder.path.name,
            spec=search.model_dump(mode="json"),
            asks=search.asks,
            source=call.source,
            created_at=before.created_at if before else time.time(),
            versions=call.versions,
            commit=commit(),
            hardware=call.hardware,
            weights=weights,
        )
    )


def _names(search: SearchSpec, folder: SearchFolder) -> list[str]:
    """Of the samples that were drawn, and of those to come."""
    return [sample_name(number) for number in range(1, max(search.samples, len(folder.samples())) + 1)]


def _not_ended(search: SearchSpec, folder: SearchFolder) -> list[str]:
    done = {sample.name for sample in ended(folder.samples())}
    return [name for name in _names(search, folder) if name not in done]


def _progress(search: SearchSpec, folder: SearchFolder, console: Console) -> Progress:
    names = _names(search, folder)
    trials = [search.sample({}, name) for name in names]
    progress = Progress(trials, console, {name: folder.trial(name).history() for name in names})
    for sample in ended(folder.samples()):
        progress.state(sample.name, "done", f"val {100 * sample.best_val_accuracy:.1f} %")
    return progress
