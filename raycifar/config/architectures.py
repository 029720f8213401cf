"""Networks as records: what settings, costs and builders need to know of one. The package `networks` builds them.

The records lie in `config` because a sweep file names parts of a network, and is checked before PyTorch is imported.
`ARCHITECTURES` names those that `model.name` of a sweep file may name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Architecture:
    """Blocks of 3 x 3 convolutions; after each block a pooling halves the side."""

    title: str
    blocks: tuple[tuple[int, ...], ...]  # the channels out of each block's convolutions
    is_pretrained: bool = False  # whether `networks.weights` has ImageNet weights of it

    @property
    def features(self) -> int:
        """The channels out of the last block, which the head takes."""
        return self.blocks[-1][-1]

    @property
    def least(self) -> int:
        """The smallest side in pixels of which the poolings leave something."""
        return 1 << len(self.blocks)

    def convolutions(self) -> list[list[tuple[int, int]]]:
        """Channels into and out of each convolution, by block; the first takes RGB."""
        pairs = pairwise((3, *(channels for block in self.blocks for channels in block)))
        return [[next(pairs) for _ in block] for block in self.blocks]


PART = r"^(all|head|(block|last)([1-9][0-9]?))$"  # what `model.train` may name


def blocks_below(part: str, blocks: int) -> int:
    """How many of a network's `blocks` lie below the part that `model.train` names, and so do not train.

    `block3` is the third block with all behind it, `last2` the last two blocks and the head. Raises ValueError for a
    part that such a network has not.
    """
    kind, number = part.rstrip("0123456789"), int(part.strip("abcdefghijklmnopqrstuvwxyz") or 0)
    if number > blocks:
        raise ValueError(f"{part!r}: the network has {blocks} blocks: expected {_parts(blocks)}")
    return {"all": 0, "head": blocks, "block": number - 1, "last": blocks - number}[kind]


def _parts(blocks: int) -> str:
    return f"'all', 'block2' to 'block{blocks}', 'last1' to 'last{blocks - 1}', or 'head'"


def _vgg(layers: int, convolutions: Sequence[int], is_pretrained: bool = False) -> Architecture:
    channels = zip((64, 128, 256, 512, 512), convolutions, strict=True)
    blocks = tuple((of_block,) * number for of_block, number in channels)
    return Architecture(f"VGG{layers}", blocks, is_pretrained)


# Configurations A, B, D and E of Simonyan & Zisserman 2014.
VGG16 = _vgg(16, (2, 2, 3, 3, 3), is_pretrained=True)
ARCHITECTURES = {
    "vgg16": VGG16,
    "vgg11": _vgg(11, (1, 1, 2, 2, 2)),
    "vgg13": _vgg(13, (2, 2, 2, 2, 2)),
    "vgg19": _vgg(19, (2, 2, 4, 4, 4)),
}


OF_LIBRARIES = re.compile(r"(torchvision|timm)/[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100})?")


def title_of(name: str) -> str:
    """What texts call the network that `model.name` names."""
    return ARCHITECTURES[name].title if name in ARCHITECTURES else name.rpartition("/")[2]
