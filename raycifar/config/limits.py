"""What the data set and the network allow: limits of settings that are known only once these are."""

from collections.abc import Sequence

from raycifar.config.architectures import ARCHITECTURES
from raycifar.config.datasets import Facts
from raycifar.errors import nearest


def known(name: str, names: Sequence[str]) -> str:
    """The name. Raises ValueError where it is none of `names`."""
    if name not in names:
        raise ValueError(f"{name!r:.80} is unknown{nearest(name, names)}; known here: {', '.join(names)}")
    return name


def check_own_code(data: str, data_name: str, model: str, model_name: str) -> None:
    """Raises ValueError where a `source`, of data or model, stands beside the name of another."""
    for table, source, name, default in (("data", data, data_name, "cifar10"), ("model", model, model_name, "vgg16")):
        if source and name != default:
            raise ValueError(f"{table}.source = {source!r} and {table}.name = {name!r} exclude each other: drop one")


def check_own_network(source: str, weights: str, batch_norm: bool) -> None:
    """Raises ValueError for settings that the user's own network leaves without effect."""
    if source and (batch_norm or weights == "imagenet"):
        raise ValueError(
            f"model.source = {source!r} brings its own layers and weights (its function may load them): leave out "
            'batch_norm, and set weights = "random"'
        )


def check_images(held_out: int, train: int, test: int, facts: Facts) -> None:
    """Raises ValueError for more images than there are, or numbers that cannot be as many of each class."""
    classes = len(facts.classes)
    if test > facts.test_images:
        raise ValueError(f"data.test_images = {test}: {facts.title} has {facts.test_images:,} test images: lower it")
    if held_out + max(train, classes) > facts.train_images:
        held = f"holdout_images = {held_out} + " if held_out else ""
        raise ValueError(
            f"data: {held}train_images = {train}: {facts.title} has {facts.train_images:,} training images, of which "
            f"at least {classes} must train: lower them"
        )
    if facts.is_balanced and any(number % classes for number in (held_out, train, test)):
        raise ValueError(f"data: a stratified number of images is a multiple of the {classes} classes")


def check_augmentation(crop: int, cutout: int, flip: str, facts: Facts) -> None:
    """Raises ValueError for what is too large for the images, or makes another class of them."""
    for key, value, most in (("crop", crop, facts.side // 2), ("cutout", cutout, facts.side)):
        if value > most:
            raise ValueError(
                f"augmentation.{key} = {value}: should be at most {most} for images of {facts.side} pixels a side"
            )
    if flip != "none" and not facts.mirror:
        raise ValueError(
            f'augmentation.flip = "{flip}": data.mirror = false says that a mirror image is another class: set "none"'
        )


def check_side(network: str, upsample: int, facts: Facts) -> None:
    """Raises ValueError where a network of ARCHITECTURES halves the images to nothing; others tell when built."""
    architecture, side = ARCHITECTURES.get(network), facts.side * upsample
    if architecture and side < architecture.least:
        raise ValueError(
            f"model.name = {network!r}: it halves its images {len(architecture.blocks)} times, so they need at least "
            f"{architecture.least} pixels a side, and have {side}: raise model.upsample"
        )
