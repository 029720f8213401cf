"""VGG16 (Simonyan & Zisserman 2014) for small images: torchvision's convolutions, a new head, its own normalisation."""

from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from raycifar.config.architectures import VGG16
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.networks.convolution import Convolution
from raycifar.networks.fused_norm import Trunk

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES_AT_ONCE = 1_000  # without gradients and not enlarged: activations of 0.3 GB in fp32


class VGG(nn.Module):
    """uint8 images (N, 3, H, W) -> logits (N, classes).

    `features` has torchvision's parameter names; there are no biases before batch norm.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Model) -> None:
        super().__init__()
        self.images_at_once = IMAGES_AT_ONCE // spec.upsample**2
        pretrained = spec.weights == "imagenet"
        self.register_buffer("mean", _channels(IMAGENET_MEAN if pretrained else CIFAR10.mean), persistent=False)
        self.register_buffer("std", _channels(IMAGENET_STD if pretrained else CIFAR10.std), persistent=False)
        self.enlarge = nn.Upsample(scale_factor=spec.upsample, mode="bilinear") if spec.upsample > 1 else nn.Identity()
        self.features = _trunk(spec.batch_norm)
        self.pool = nn.AdaptiveAvgPool2d(1) if spec.upsample > 1 else nn.Identity()
        self.head = _head(spec)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.enlarge(normalised(images, self.mean, self.std))
        return cast(Tensor, self.head(self.pool(self.features(pixels)).flatten(1)))


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images (N, 3, H, W) -> float32, channels_last; `mean` and `std` (3, 1, 1) are those of pixels in 0..1."""
    return (images / 255).sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def build_vgg16(spec: Model, seed: int, imagenet: Path | None = None) -> VGG:
    """A VGG16 on the CPU, initialised from `seed`; `imagenet` is the cached trunk that weights.fetch_vgg16 returns.

    Parameters that `spec.train` excludes do not require gradients. A network with ImageNet weights and batch norm is
    not ready yet: `calibrate_batch_norm` has to follow. Raises ValueError where the spec asks for ImageNet weights and
    there is no file.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VGG(spec)
    if spec.weights == "imagenet":
        if imagenet is None:
            raise ValueError("a model with ImageNet weights needs their file")
        _load_trunk(model.features, load_file(imagenet))
    for parameter in _frozen(model, spec.train):
        parameter.requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def calibrate_batch_norm(model: VGG, images: Tensor) -> None:
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

    hooks = [m.register_forward_pre_hook(calibrate) for m in model.features if isinstance(m, nn.BatchNorm2d)]
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


def _channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)


def _trunk(batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for convolutions in VGG16.convolutions():
        for in_channels, out_channels in convolutions:
            # no bias before batch norm, which would subtract it again
            layers.append(Convolution(in_channels, out_channels, bias=not batch_norm))
            layers += [nn.BatchNorm2d(out_channels)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        layers.insert(-1, nn.MaxPool2d(2))  # before the ReLU, not after: the same numbers from a quarter of the pixels
    return Trunk(*layers)


def _head(spec: Model) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = VGG16.features  # five poolings leave 1 x 1 of an image
    for hidden in spec.hidden:
        layers += [nn.Dropout(spec.dropout), nn.Linear(width, hidden), nn.ReLU(inplace=True)]
        width = hidden
    return nn.Sequential(*layers, nn.Dropout(spec.dropout), nn.Linear(width, len(CIFAR10.classes)))


def _initialise(layer: nn.Module) -> None:
    # He et al. 2015 by fan-out: without batch norm, VGG16 does not train from PyTorch's default initialisation.
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
    if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _frozen(model: VGG, train: str) -> list[nn.Parameter]:
    """The parameters below the part that `train` names, block by block."""
    blocks: list[list[nn.Parameter]] = [[]]
    for layer in model.features:
        blocks[-1].extend(layer.parameters())
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    return [parameter for block in blocks[: VGG16.blocks_below(train)] for parameter in block]
