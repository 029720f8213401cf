"""Which runner the options ask for: started, with the trials placed and their files at hand."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from raycifar import user_code
from raycifar.config.names import SpecError
from raycifar.config.sweep import SweepSpec, TrialSpec, checked, checked_trial
from raycifar.data.sources import fetch_data, known_facts
from raycifar.execution.agreement import SweepError, agreed_weights
from raycifar.execution.local import Local
from raycifar.execution.options import Options
from raycifar.execution.plan import check_gpus
from raycifar.execution.session import Runner, Session
from raycifar.networks.inspection import check_network
from raycifar.networks.library_weights import fetch_weights
from raycifar.networks.own import check_own
from raycifar.networks.registry import build_network
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


def informed(sweep: SweepSpec, options: Options, fetch: bool = True) -> SweepSpec:
    """The sweep with what is known of its data set, which suits its trials, and networks that work.

    Without `fetch` no data set is fetched for it. Raises AssetError, CodeError or SpecError.
    """
    allow_code(options)
    found = checked(sweep, known_facts(sweep.data, options.data, fetch))
    check_networks(found.trials)
    return found


def informed_trial(trial: TrialSpec, options: Options, fetch: bool = True) -> TrialSpec:
    """As `informed`, for one trial."""
    allow_code(options)
    found = checked_trial(trial, known_facts(trial.data, options.data, fetch))
    check_networks([found])
    return found


def allow_code(options: Options) -> None:
    """The user's modules that the options name, and no others, may run in this process. Raises CodeError."""
    user_code.allow(options.code, Path(options.source).parent)


def check_networks(trials: Sequence[TrialSpec]) -> None:
    """Look at each network once, and try those of the user's own code. Raises SpecError or CodeError."""
    for trial in {(trial.model.source, trial.model.train): trial for trial in trials if trial.model.source}.values():
        check_own(trial, build_network)
    for trial in trials:
        try:
            if not trial.model.source:
                check_network(trial)
        except ValueError as why:
            raise SpecError(f"trial {trial.name!r}: {why}") from None


def fetch_assets(trials: Sequence[TrialSpec], options: Options) -> Assets:
    """The cached files that the trials read, ImageNet weights only where one starts from them. Raises AssetError."""
    data = fetch_data(trials[0].data, options.data)
    named, as_they_are = _named_weights(trials, options), options.weights_as_they_are
    files = {name: fetch_weights(name, named.get(name), as_they_are) for name in _pretrained(trials)}
    return Assets(data, files.pop("vgg16", None), files)


def _pretrained(trials: Sequence[TrialSpec]) -> list[str]:
    """The networks that start from ImageNet weights, each once."""
    return list(dict.fromkeys(trial.model.name for trial in trials if trial.model.weights == "imagenet"))


def _named_weights(trials: Sequence[TrialSpec], options: Options) -> dict[str, Path]:
    """The user's files by network. Raises SweepError for one that could be of several networks."""
    found = dict(options.weights_of)
    if options.weights is not None:
        rest = [name for name in _pretrained(trials) if name not in found]
        if len(rest) > 1:
            name = f"--weights {rest[0]}={options.weights}"
            raise SweepError(
                f"--weights {options.weights}: {len(rest)} networks start from ImageNet weights "
                f"({', '.join(rest)}): name the one that the file is of, as {name}"
            )
        found |= dict.fromkeys(rest, options.weights)
    return found


def check_named_files(trials: Sequence[TrialSpec], options: Options, path: Path, weights: Mapping[str, str]) -> None:
    """Read and verify what --data and --weights name, whatever is left to run; nothing is fetched.

    Nothing is written either, but what `fetch_data` with `examine` says.

    `path` are the results of the trials, `weights` the ImageNet weights that they have on record, by network.
    Raises AssetError, or SweepError for other weights than these and for weights that nothing reads.
    """
    check_cache()
    if options.data is not None:
        fetch_data(trials[0].data, options.data, get=examine)
    if not options.names_weights:
        return
    networks = _pretrained(trials)
    if not networks and options.weights is not None:
        raise SweepError(f"--weights {options.weights}: no trial starts from ImageNet weights: leave it out")
    for name, file in options.weights_of.items():
        if name not in networks:
            raise SweepError(f"--weights {name}={file}: no trial starts from ImageNet weights of it: leave it out")
    for name, file in _named_weights(trials, options).items():
        found = fetch_weights(name, file, options.weights_as_they_are, get=examine)
        agreed_weights(path, weights, {name: found.name})
