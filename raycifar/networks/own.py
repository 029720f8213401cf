"""A network of the user's own: from the function that `model.source` names, or one that a caller hands over.

The function takes the data set's `Facts`. It gives a `Trunk`, or a plain nn.Module that maps normalised images
(N, 3, S, S) to (N, features) and says how many those are by an attribute `features`.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raycifar import user_code
from raycifar.config.datasets import Facts
from raycifar.config.settings import Model
from raycifar.config.sweep import TrialSpec
from raycifar.networks.network import Network, Trunk
from raycifar.user_code import CodeError, told

Own = Callable[[Facts], Trunk | nn.Module]
GROUP = "raycifar.networks"  # of entry points


def own_trunk(source: str, facts: Facts, function: Own | None = None) -> Trunk:
    """The trunk that the user's function makes; `function` stands for the one that `source` names. Raises CodeError."""
    make: Own = function or user_code.function(source, "model.source", GROUP)
    try:
        made = make(facts)
    except (Exception, SystemExit) as error:
        raise CodeError(f'model.source = "{source}": {told(error)}') from error
    if isinstance(made, Trunk):
        return made
    features = getattr(made, "features", None)
    if not isinstance(made, nn.Module) or not isinstance(features, int):
        raise CodeError(
            f'model.source = "{source}": gave {type(made).__name__}, expected a Trunk, or an nn.Module whose attribute '
            "`features` is the number that it makes of an image"
        )
    return _of_module(made, features, facts)


def _of_module(module: nn.Module, features: int, facts: Facts) -> Trunk:
    """Its parts with parameters, in the order in which they were made, are its blocks and its layers."""
    parts = tuple((part,) for part in dict.fromkeys(name.partition(".")[0] for name, _ in module.named_parameters()))

    def load(weights: dict[str, Tensor]) -> object:
        return module.load_state_dict(weights)

    return Trunk(module, features, parts, parts, facts.mean, facts.std, facts.side, 1, normed=False, load=load)


def check_own(trial: TrialSpec, build: Callable[[Model, Facts, int], Network]) -> None:
    """Try the user's network before anything starts: on the meta device, then on two images. Raises CodeError."""
    model, facts = trial.model, trial.data.facts
    shape = (2, len(facts.classes))
    where = f'model.source = "{model.source}"'
    images = torch.randint(256, (2, *facts.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    try:
        with torch.device("meta"):
            drawn = build(model, facts, trial.seed)
        with torch.no_grad():
            on_meta = drawn.eval()(images.to("meta"))
        network, again = (build(model, facts, trial.seed) for _ in range(2))
        list(network.depths())  # each parameter belongs to a layer
        with torch.no_grad():
            logits = network.eval()(images)
        nn.functional.cross_entropy(network.train()(images), torch.zeros(2, dtype=torch.int64)).backward()
    except CodeError:
        raise
    except (Exception, SystemExit) as error:
        raise CodeError(f"{where}: on two images of {facts.side} pixels a side: {told(error)}") from error
    for found in (tuple(on_meta.shape), tuple(logits.shape)):
        if found != shape:
            raise CodeError(f"{where}: gave {found} for two images, expected {shape}: what does `features` say?")
    if not logits.isfinite().all():
        raise CodeError(f"{where}: its answers to two images are not finite")
    if not all(mine.equal(theirs) for mine, theirs in _both(drawn_again=again, network=network)):
        raise CodeError(f"{where}: one seed gave two networks: draw weights by PyTorch's own generator alone")


def _both(drawn_again: Network, network: Network) -> list[tuple[Tensor, Tensor]]:
    """The parameters, which a step has not changed; batch norm's statistics have moved."""
    return list(zip(drawn_again.parameters(), network.parameters(), strict=True))


@cache
def own_flops(source: str, facts: Facts, side: int) -> tuple[float, int]:
    """Operations of the trunk's forward pass for one image of this side, and its features. Raises CodeError.

    A multiply-add counts as two.
    """
    with torch.device("meta"):
        trunk = own_trunk(source, facts)
        pixels = torch.empty(1, 3, side, side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trunk.module.eval()(pixels)
    return float(counter.get_total_flops()), trunk.features
