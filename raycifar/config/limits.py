"""What the data set and the network allow: limits of settings that are known only once these are."""

from raycifar.config.architectures import ARCHITECTURES, OF_LIBRARIES, blocks_below
from raycifar.config.datasets import BUILT_IN, Facts
from raycifar.config.published import PUBLISHED
from raycifar.errors import nearest


def known_data(name: str) -> str:
    """The name of a data set. Raises ValueError where it is none."""
    if name not in BUILT_IN and name not in PUBLISHED:
        hint = nearest(name, (*BUILT_IN, *PUBLISHED))
        libraries = "torchvision/NAME; raycifar lists them with --list-data"
        raise ValueError(f"{name!r:.80} is unknown{hint}; known here: {', '.join(BUILT_IN)}, {libraries}")
    return name


def known_network(name: str) -> str:
    """The name, one of ours or well formed as one of a library's; whether the library has it is known to PyTorch.

    Raises ValueError.
    """
    if OF_LIBRARIES.fullmatch(name):
        return name
    if name not in ARCHITECTURES:
        libraries = "torchvision/NAME and timm/NAME; raycifar lists them with --list-models"
        hint = nearest(name, tuple(ARCHITECTURES))
        raise ValueError(f"{name!r:.80} is unknown{hint}; known here: {', '.join(ARCHITECTURES)}, {libraries}")
    return name


def check_part(network: str, train: str) -> None:
    """Raises ValueError for blocks that a network of ARCHITECTURES has not; others tell when built."""
    if network in ARCHITECTURES:
        try:
            blocks_below(train, len(ARCHITECTURES[network].blocks))
        except ValueError as why:
            raise ValueError(f"train = {why}") from None


def check_enlarged(network: str, side: int, upsample: int, batch_norm: bool) -> None:
    """Raises ValueError for two sizes at once, or for batch norm put into a network of a library."""
    if side and upsample > 1:
        raise ValueError(f"side = {side} and upsample = {upsample} exclude each other: leave one of them out")
    if batch_norm and network not in ARCHITECTURES:
        raise ValueError(f"batch_norm = true is an option of VGG, and {network} has its own or none: leave it out")


def check_own_code(data: str, data_name: str, path: str, model: str, model_name: str) -> None:
    """Raises ValueError where a `source`, of data or model, stands beside the name of another."""
    for table, source, name, default in (("data", data, data_name, "cifar10"), ("model", model, model_name, "vgg16")):
        if source and name != default:
            raise ValueError(f"{table}.source = {source!r} and {table}.name = {name!r} exclude each other: drop one")
    if data and path:
        raise ValueError(f"data.source = {data!r} and data.path = {path!r} exclude each other: drop one")


def check_own_network(source: str, weights: str, batch_norm: bool) -> None:
    """Raises ValueError for settings that the user's own network leaves without effect."""
    if source and (batch_norm or weights == "imagenet"):
        raise ValueError(
            f"model.source = {source!r} brings its own layers and weights (its function may load them): leave out "
            'batch_norm, and set weights = "random"'
        )


def check_images(held_out: int, train: int, test: int, facts: Facts) -> None:
    """Raises ValueError for more images than there are, or numbers that cannot be as many of each class.

    That they are is asked of what is built in alone: a tenth of other images seldom is.
    """
    classes = len(facts.classes)
    if test > facts.test_images:
        raise ValueError(f"data.test_images = {test}: {facts.title} has {facts.test_images:,} test images: lower it")
    if held_out + max(train, classes) > facts.train_images:
        held = f"holdout_images = {held_out} + " if held_out else ""
        raise ValueError(
            f"data: {held}train_images = {train}: {facts.title} has {facts.train_images:,} training images, of which "
            f"at least {classes} must train: lower them"
        )
    if facts.name in BUILT_IN and facts.is_balanced and any(number % classes for number in (held_out, train, test)):
        raise ValueError(f"data: a stratified number of images is a multiple of the {classes} classes")


def check_given(asked: int | None, facts: Facts) -> None:
    """Raises ValueError where a number of held-out images is asked for, and the data set has its own."""
    if asked is not None and facts.val:
        raise ValueError(
            f"data.holdout_images = {asked}: {facts.title} has {sum(facts.val):,} validation images of its own: "
            "leave it out"
        )


def check_augmentation(crop: int, cutout: int, flip: str, facts: Facts, asked: bool | None) -> None:
    """Raises ValueError for what is too large for the images, or makes another class of them.

    `asked` is data.mirror as the user set it, None where it is as the data set has it.
    """
    for key, value, most in (("crop", crop, facts.side // 2), ("cutout", cutout, facts.side)):
        if value > most:
            raise ValueError(
                f"augmentation.{key} = {value}: should be at most {most} for images of {facts.side} pixels a side"
            )
    if flip != "none" and not facts.mirror:
        says = f"{facts.title} has data.mirror = false:" if asked is None else "data.mirror = false says that"
        raise ValueError(f'augmentation.flip = "{flip}": {says} a mirror image is another class: set "none"')


def check_side(network: str, side: int, facts: Facts) -> None:
    """Raises ValueError where a network sees images smaller than they are, or one of ARCHITECTURES leaves nothing.

    Others than these tell when built.
    """
    if side < facts.side:
        raise ValueError(f"model.side = {side}: the images have {facts.side} pixels a side: set as many, or more")
    architecture = ARCHITECTURES.get(network)
    if architecture and side < architecture.least:
        raise ValueError(
            f"model.name = {network!r}: it halves its images {len(architecture.blocks)} times, so they need at least "
            f"{architecture.least} pixels a side, and have {side}: raise model.upsample"
        )


def check_weights(network: str, weights: str) -> None:
    """Raises ValueError for ImageNet weights of a network of ARCHITECTURES that has none here."""
    if weights == "imagenet" and network in ARCHITECTURES and not ARCHITECTURES[network].is_pretrained:
        having = ", ".join(name for name, architecture in ARCHITECTURES.items() if architecture.is_pretrained)
        raise ValueError(f'weights = "imagenet": {network} has none here: set "random", or name = "{having}"')
