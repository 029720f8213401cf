"""VGG (Simonyan & Zisserman 2014) for small images: torchvision's convolutions without its head."""

from functools import partial

import torch
from torch import Tensor, nn

from raycifar.config.architectures import ARCHITECTURES, Architecture
from raycifar.config.datasets import Facts
from raycifar.config.settings import Model
from raycifar.networks.convolution import Convolution
from raycifar.networks.fused_norm import FusedLayers
from raycifar.networks.network import Network, Prefixes, Trunk, initialise

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_SIDE = 224


def vgg_trunk(spec: Model, facts: Facts) -> Trunk:
    """The convolutions of one of ARCHITECTURES; there are no biases before batch norm."""
    architecture = ARCHITECTURES[spec.name]
    features = _convolutions(architecture, spec.batch_norm)
    is_one_pixel = spec.sees(facts.side) == architecture.least
    return Trunk(
        module=features,
        features=architecture.features,
        blocks=_begun_by(nn.MaxPool2d, features)[: len(architecture.blocks)],
        layers=_begun_by(nn.Conv2d, features)[1:],
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        side=IMAGENET_SIDE,
        least=architecture.least,
        normed=spec.batch_norm,
        load=partial(_load_trunk, features),
        initialise=lambda module: module.apply(initialise),
        pool=nn.Identity if is_one_pixel else partial(nn.AdaptiveAvgPool2d, 1),
    )


def _begun_by(kind: type[nn.Module], features: nn.Sequential) -> tuple[Prefixes, ...]:
    """The names of the layers with parameters: those before the first of this kind, then from each one to the next."""
    parts: list[list[str]] = [[]]
    for name, layer in features.named_children():
        if isinstance(layer, kind):
            parts.append([])
        if next(layer.parameters(), None) is not None:
            parts[-1].append(name)
    return tuple(tuple(part) for part in parts)


@torch.no_grad()
def calibrate_batch_norm(model: Network, images: Tensor) -> None:
    """Give batch norm the mean and variance of its input for `images`, uint8 (N, 3, H, W), and parameters that undo it.

    The network then computes what it would compute without batch norm: exactly so in evaluation, and in training as
    far as a batch's statistics are those of `images`. A data-dependent initialisation (Krähenbühl et al. 2016).
    Its bias before, in which _load_trunk puts the convolution's, is kept and added.
    """

    def calibrate(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        values = {
            "running_mean": mean,
            "running_var": variance,
            "weight": (variance + norm.eps).sqrt(),
            "bias": mean + norm.bias,
        }
        norm.load_state_dict(norm.state_dict() | values)

    norms = [module for module in model.features.children() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
    was_training = model.training
    model.eval()(images)
    model.train(was_training)
    for hook in hooks:
        hook.remove()


def _load_trunk(features: nn.Sequential, weights: dict[str, Tensor]) -> None:
    """Load torchvision's weights into the convolutions, one after the other.

    Their numbers differ where there is batch norm between them, which then gets the convolutions' biases, too.
    """
    torchvisions = sorted({int(name.split(".")[1]) for name in weights})
    ours = [number for number, layer in enumerate(features) if isinstance(layer, nn.Conv2d)]
    for source, number in zip(torchvisions, ours, strict=True):
        convolution, following = features[number], features[number + 1]
        bias_owner = convolution if convolution.bias is not None else following
        convolution.load_state_dict({"weight": weights[f"features.{source}.weight"]}, strict=False)
        bias_owner.load_state_dict({"bias": weights[f"features.{source}.bias"]}, strict=False)


def _convolutions(architecture: Architecture, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for convolutions in architecture.convolutions():
        for in_channels, out_channels in convolutions:
            # no bias before batch norm, which would subtract it again
            layers.append(Convolution(in_channels, out_channels, bias=not batch_norm))
            layers += [nn.BatchNorm2d(out_channels)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        layers.insert(-1, nn.MaxPool2d(2))  # before the ReLU, not after: the same numbers from a quarter of the pixels
    return FusedLayers(*layers)
