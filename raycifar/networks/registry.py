"""The networks that `model.name` can name, and how one is built.

A new network needs a builder that makes a `Trunk`, in BUILDERS under its name, or under what stands before its slash.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from raycifar.config.architectures import ARCHITECTURES
from raycifar.config.datasets import Facts
from raycifar.config.settings import Model
from raycifar.networks.libraries.of_timm import timm_trunk
from raycifar.networks.libraries.of_torchvision import torchvision_trunk
from raycifar.networks.network import Network, Trunk, initialise
from raycifar.networks.own import Own, own_trunk
from raycifar.networks.vgg import vgg_trunk

Builder = Callable[[Model, Facts], Trunk]
BUILDERS: dict[str, Builder] = {
    **dict.fromkeys(ARCHITECTURES, vgg_trunk),
    "torchvision": torchvision_trunk,
    "timm": timm_trunk,
}


def make_trunk(spec: Model, facts: Facts, own: Own | None = None) -> Trunk:
    """The trunk that the spec names, with weights as its builder draws them; `own` stands for the user's function."""
    if spec.source:
        return own_trunk(spec.source, facts, own)
    return BUILDERS[spec.name if spec.name in BUILDERS else spec.name.partition("/")[0]](spec, facts)


def make_network(spec: Model, facts: Facts, own: Own | None = None) -> Network:
    """The network on the CPU, with random weights, for weights that are loaded next; `own` as in make_trunk."""
    return _drawn(spec, facts, own)[0]


def build_network(spec: Model, facts: Facts, seed: int, weights: Path | None = None) -> Network:
    """A network on the CPU, initialised from `seed`; `weights` is the cached file of its pretrained trunk.

    Parameters that `spec.train` excludes do not require gradients. A VGG with ImageNet weights and batch norm is
    not ready yet: `calibrate_batch_norm` has to follow. Raises ValueError where the spec asks for ImageNet weights and
    there is no file.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, trunk = _drawn(spec, facts)
    if spec.weights == "imagenet":
        if weights is None:
            raise ValueError("a model with ImageNet weights needs their file")
        trunk.load(load_file(weights))
    model.freeze(spec.train)
    return model.to(memory_format=torch.channels_last)


def _drawn(spec: Model, facts: Facts, own: Own | None = None) -> tuple[Network, Trunk]:
    """All layers are made before the first is initialised: an order that decides which numbers a seed draws."""
    trunk = make_trunk(spec, facts, own)
    model = Network(trunk, spec, facts)
    trunk.initialise(trunk.module)
    model.head.apply(initialise)
    return model, trunk
