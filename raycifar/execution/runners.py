"""Which runner the options ask for: started, with the trials placed and their files at hand."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console

from raycifar.config.sweep import TrialSpec
from raycifar.data.cifar10 import fetch_cifar10
from raycifar.execution.local import Local
from raycifar.execution.options import Options
from raycifar.execution.ray_address import check_listening
from raycifar.execution.session import Runner, Session
from raycifar.networks.weights import fetch_vgg16
from raycifar.training.trial import Assets


@contextmanager
def session(trials: Sequence[TrialSpec], options: Options, console: Console) -> Iterator[Session]:
    """The runner started, the trials placed, their files at hand. Raises PlacementError or AssetError."""
    chosen: AbstractContextManager[Runner] = nullcontext(Local(options)) if options.local else start_ray(options)
    with chosen as runner:
        plan, gpus = runner.place(trials, options)
        assets = fetch_assets(trials, options)
        yield Session(runner, runner.measured(plan, assets, options, console), gpus, assets, options, console)


def start_ray(options: Options) -> AbstractContextManager[Runner]:
    """Ray started, or joined, for the time of a `with` block. Raises PlacementError."""
    if options.address:
        check_listening(options.address)
    from raycifar.execution.ray_sweep import ray_runner  # importing Ray takes a second that --local need not spend

    return ray_runner(options)


def fetch_assets(trials: Sequence[TrialSpec], options: Options) -> Assets:
    """The cached files that the trials read, ImageNet weights only where one starts from them. Raises AssetError."""
    pretrained = any(trial.model.weights == "imagenet" for trial in trials)
    return Assets(fetch_cifar10(options.data), fetch_vgg16(options.weights) if pretrained else None)
