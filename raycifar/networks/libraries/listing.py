"""What `model.name` may name, for people: names, sizes, and whether ImageNet weights can be had."""

from collections.abc import Iterator

from torchvision import models

from raycifar.config.architectures import ARCHITECTURES
from raycifar.networks.inspection import inspected
from raycifar.networks.libraries import of_timm, of_torchvision
from raycifar.networks.libraries.packages import PACKAGES

MOST_COUNTED = 20  # of timm's networks, which publish no sizes: each takes about a second to build
Row = tuple[str, str, str, str]  # name, parameters, FLOPs, weights


def listed_networks(part: str = "") -> Iterator[Row]:
    """The networks whose names have this part.

    Sizes are those of the trunk at 32 pixels a side for VGG; those that torchvision publishes, of the whole network at
    its own side; and of the trunk at its own side for timm, where few match: "-" stands for what is not counted.
    """
    yield from (_own(name) for name in ARCHITECTURES if part in name)
    yield from (_of_torchvision(name) for name in of_torchvision.names() if part in of_torchvision.PREFIX + name)
    yield from _all_of_timm(part)


def _own(name: str) -> Row:
    found = inspected(name, 32)
    return _row(name, found.parameters, found.flops, "download or package" if name == "vgg16" else "none")


def _of_torchvision(name: str) -> Row:
    meta = models.get_model_weights(name).DEFAULT.meta
    full = of_torchvision.PREFIX + name
    return _row(full, meta["num_params"], 2e9 * meta["_ops"], _source(full))


def _all_of_timm(part: str) -> Iterator[Row]:
    try:
        timm = of_timm.timm_or_refusal()
    except ValueError:
        return
    names = [name for name in timm.list_models() if part in of_timm.PREFIX + name]
    pretrained = {name.partition(".")[0] for name in timm.list_pretrained()}
    for name in names:
        yield _of_timm(timm, name, name in pretrained, len(names) <= MOST_COUNTED)


def _of_timm(timm: object, name: str, has_weights: bool, counts: bool) -> Row:
    full = of_timm.PREFIX + name
    source = _source(full) if has_weights else "none"
    try:
        found = inspected(full, of_timm.own_side(name)) if counts else None
    except ValueError:  # it needs another library, or more than images
        found = None
    return _row(full, found.parameters, found.flops, source) if found else (full, "-", "-", source)


def _source(name: str) -> str:
    return "download or package" if name in PACKAGES else "download"


def _row(name: str, parameters: int, flops: float, source: str) -> Row:
    return name, f"{parameters / 1e6:.2f} M", f"{flops / 1e9:.2f} G", source
