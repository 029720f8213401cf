"""Which runner the options ask for: started, with the trials placed and their files at hand."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from raycifar import user_code
from raycifar.config.data import Data
from raycifar.config.names import SpecError
from raycifar.config.sweep import SweepSpec, TrialSpec, checked, checked_trial
from raycifar.data.sources import fetch_data, known_facts
from raycifar.execution.local import Local
from raycifar.execution.options import Options
from raycifar.execution.plan import check_gpus
from raycifar.execution.session import Runner, Session
from raycifar.execution.workspace import SweepError, agreed_weights
from raycifar.networks.inspection import check_network
from raycifar.networks.own import check_own
from raycifar.networks.registry import build_network
from raycifar.networks.weights import fetch_vgg16
from raycifar.storage.asset_cache import check_cache, examine
from raycifar.training.trial import Assets


@contextmanager
def session(trials: Sequence[TrialSpec], options: Options, console: Console) -> Iterator[Session]:
    """The runner started, the trials placed, their files at hand. Raises PlacementError or AssetError."""
    check_gpus(options)
    chosen: AbstractContextManager[Runner] = nullcontext(Local(options)) if options.local else start_ray(options)
    with chosen as runner:
        plan, gpus = runner.place(trials, options)
        assets = fetch_assets(trials, options)
        yield Session(runner, runner.measured(plan, assets, options, console), gpus, assets, options, console)


def start_ray(options: Options) -> AbstractContextManager[Runner]:
    """Ray started, or joined, for the time of a `with` block. Raises PlacementError."""
    from raycifar.execution.ray_sweep import ray_runner  # importing Ray takes a second that --local need not spend

    return ray_runner(options)


def informed(sweep: SweepSpec, options: Options) -> SweepSpec:
    """The sweep with what is known of its data set, which suits its trials, and networks that work.

    Raises AssetError, CodeError or SpecError.
    """
    allow_code(options)
    found = checked(sweep, known_facts(sweep.data, options.data))
    check_networks(found.trials)
    return found


def informed_trial(trial: TrialSpec, options: Options) -> TrialSpec:
    """As `informed`, for one trial."""
    allow_code(options)
    found = checked_trial(trial, known_facts(trial.data, options.data))
    check_networks([found])
    return found


def allow_code(options: Options) -> None:
    """The user's modules that the options name, and no others, may run in this process. Raises CodeError."""
    user_code.allow(options.code, Path(options.source).parent)


def check_networks(trials: Sequence[TrialSpec]) -> None:
    """Look at each network of a library, and try each of the user's own. Raises CodeError or SpecError."""
    for trial in {(trial.model.source, trial.model.train): trial for trial in trials if trial.model.source}.values():
        check_own(trial, build_network)
    for trial in trials:
        try:
            check_network(trial)
        except ValueError as why:
            raise SpecError(f"trial {trial.name!r}: {why}") from None


def fetch_assets(trials: Sequence[TrialSpec], options: Options) -> Assets:
    """The cached files that the trials read, ImageNet weights only where one starts from them. Raises AssetError."""
    pretrained = any(trial.model.weights == "imagenet" for trial in trials)
    data = fetch_data(trials[0].data, options.data)
    return Assets(data, fetch_vgg16(options.weights, options.weights_as_they_are) if pretrained else None)


def check_named_files(data: Data, options: Options, path: Path, weights: str, needs_weights: bool) -> None:
    """Read and verify what --data and --weights name, whatever is left to run; nothing is fetched or written.

    `data` names what the trials read, `path` are the results, `weights` the ImageNet weights that they have on record,
    "" for none. Raises AssetError, or SweepError for other weights than these and for weights that nothing reads.
    """
    check_cache()
    if options.data is not None:
        fetch_data(data, options.data, get=examine)
    if options.weights is not None and not needs_weights:
        raise SweepError(f"--weights {options.weights}: no trial starts from ImageNet weights: leave it out")
    if options.weights is not None:
        found = fetch_vgg16(options.weights, options.weights_as_they_are, get=examine)
        agreed_weights(path, weights, found.name)
