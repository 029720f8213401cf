"""timm's networks (Wightman 2019, an optional extra) as trunks: `create_model` without classes pools its features."""

from functools import partial
from typing import Any

from torch import nn

from raycifar.config.datasets import Facts
from raycifar.config.settings import Model
from raycifar.networks.convolution import adopt
from raycifar.networks.libraries.of_torchvision import blocks_of, is_normed, made, refuse_unknown
from raycifar.networks.network import Prefixes, Trunk
from raycifar.networks.vgg import IMAGENET_SIDE

PREFIX = "timm/"


def timm_or_refusal() -> Any:
    """The library. Raises ValueError with the remedy where it is not installed."""
    try:
        import timm
    except ImportError:
        raise ValueError('model.name: networks of timm need timm: pip install "raycifar[timm]"') from None
    return timm


def timm_trunk(spec: Model, facts: Facts) -> Trunk:
    """The network that `spec.name` names. Raises ValueError where timm is missing, or has none of that name."""
    timm, name = timm_or_refusal(), spec.name.removeprefix(PREFIX)
    if not timm.is_model(name):
        refuse_unknown(PREFIX, name, timm.list_models())
    try:
        module = made(partial(timm.create_model, name, pretrained=False, num_classes=0))
    except RuntimeError as why:  # an unknown tag behind the dot, a network that needs another library
        raise ValueError(f'model.name = "{spec.name}": timm cannot build it: {str(why).splitlines()[0]}') from None
    config, layers = module.pretrained_cfg, _grouped(module, coarse=False)
    side = int(config.get("input_size", (3, 224, 224))[-1])
    is_fixed = bool(config.get("fixed_input_size"))
    adopt(module)
    return Trunk(
        module=module,
        features=int(getattr(module, "head_hidden_size", module.num_features)),
        blocks=_grouped(module, coarse=True),
        layers=layers,
        mean=tuple(config.get("mean", (0.485, 0.456, 0.406))),
        std=tuple(config.get("std", (0.229, 0.224, 0.225))),
        side=side,
        least=side if is_fixed else _least(module),
        normed=is_normed(module),
        load=partial(module.load_state_dict, strict=True),
        only=is_fixed,
    )


def _grouped(module: Any, coarse: bool) -> tuple[Prefixes, ...]:
    """The names of the parameters by timm's own groups, input first."""
    from timm.models import group_parameters

    try:
        matcher = module.group_matcher(coarse=coarse)
    except (AttributeError, AssertionError):  # a few networks have no groups, or no coarse ones
        return blocks_of(module)
    groups = group_parameters(module, matcher)
    found = tuple(tuple(inside) for _, inside in sorted(groups.items()))
    weighed: list[list[str]] = []
    sizes = {name: parameter.ndim for name, parameter in module.named_parameters()}
    for inside in found:  # a group of norms and biases alone joins the one before
        if not weighed or any(sizes[name] > 1 for name in inside):
            weighed.append([])
        weighed[-1] += inside
    return tuple(map(tuple, weighed))


def _least(module: nn.Module) -> int:
    """The side of which its halvings leave a pixel; 32 where it does not tell."""
    info = getattr(module, "feature_info", None)
    last = info[-1] if isinstance(info, list) and info else {}
    return int(last.get("reduction", 32))


def own_side(name: str) -> int:
    """The side in pixels of the images that timm's network of this name was made for."""
    config = timm_or_refusal().get_pretrained_cfg(name)
    return int(config.input_size[-1]) if config else IMAGENET_SIDE
