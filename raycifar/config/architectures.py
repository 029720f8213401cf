"""Networks as records: what settings, costs and builders need to know of one. The package `networks` builds them.

The records lie in `config` because a sweep file names parts of a network, and is checked before PyTorch is imported.
"""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Architecture:
    """Blocks of 3 x 3 convolutions; after each block a pooling halves the side."""

    title: str
    blocks: tuple[tuple[int, ...], ...]  # the channels out of each block's convolutions

    @property
    def features(self) -> int:
        """The channels out of the last block, which the head takes."""
        return self.blocks[-1][-1]

    @property
    def parts(self) -> tuple[str, ...]:
        """What `model.train` may name: everything, a block with all behind it, or the head alone."""
        return "all", *(f"block{number}" for number in range(2, len(self.blocks) + 1)), "head"

    def convolutions(self) -> list[list[tuple[int, int]]]:
        """Channels into and out of each convolution, by block; the first takes RGB."""
        pairs = pairwise((3, *(channels for block in self.blocks for channels in block)))
        return [[next(pairs) for _ in block] for block in self.blocks]

    def blocks_below(self, part: str) -> int:
        """How many blocks lie below the part that `model.train` names, and so do not train."""
        known = {"all": 0, "head": len(self.blocks)}
        return known[part] if part in known else int(part.removeprefix("block")) - 1


# Configuration D of Simonyan & Zisserman 2014.
VGG16 = Architecture("VGG16", ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)))
