"""A sweep from Python: what run_sweep.py does, as one call that returns the results."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from raycifar.analysis.results import Results, read_results
from raycifar.config.sweep import SweepSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.execution import sweep as execution
from raycifar.execution.options import Options
from raycifar.execution.workspace import sweep_folder


def run_sweep(
    sweep: str | Path | SweepSpec,
    options: Options | None = None,
    *,
    storage: str | Path = "~/ray_results",
    name: str | None = None,
    console: Console | None = None,
) -> Results:
    """Run a sweep file, or a SweepSpec, in <storage>/<name> (the sweep's own name unless given); again, it resumes.

    `options` are those of the command line (`Options(gpus=4)`); progress goes to `console`, the terminal or notebook
    unless given. Returns the whole sweep's results, also where a trial failed: `results.trials["status"]` says how
    each stands. Raises, before anything starts, names.SpecError, agreement.SweepError, placement.PlacementError,
    asset_cache.AssetError or files.RecordError.
    """
    options = options or Options()
    if not isinstance(sweep, SweepSpec):
        options = replace(options, source=options.source or str(sweep))
        sweep = load_sweep(sweep)
    path = sweep_folder(str(storage), sweep.name if name is None else name)
    execution.run_sweep(sweep, path, options, console or Console(highlight=False, markup=False, emoji=False))
    return read_results(path)
