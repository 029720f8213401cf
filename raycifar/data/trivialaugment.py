"""TrivialAugment, wide (Müller & Hutter 2021): to every image one of 14 operations, in one of 31 strengths.

torchvision draws and applies it image by image. Here the whole batch goes through every kind of operation, and images
that drew another operation get the strength that changes nothing. The pixels are those of torchvision's operations, up
to a difference of 1 by rounding. Shapes: B images, C = 3 channels, H = W the side of an image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = ("brightness", "color", "contrast", "sharpness")
OPERATIONS = ("identity", *MOVES, *BLENDS, "posterize", "solarize", "auto_contrast", "equalize")
STRENGTHS = 31
MOST_SHEAR, MOST_PIXELS, MOST_DEGREES, MOST_BLEND, MOST_BITS = 0.99, 32.0, 135.0, 0.99, 6


@dataclass(frozen=True, slots=True)
class Drawn:
    """What happens to each image: an index into OPERATIONS, a strength from 0 to 1, a sign of -1 or 1; all (B,)."""

    operation: Tensor
    strength: Tensor
    sign: Tensor

    def to(self, name: str) -> Tensor:
        """bool (B, 1, 1, 1): the images that drew the operation `name`."""
        return (self.operation == OPERATIONS.index(name)).view(-1, 1, 1, 1)

    def signed(self, name: str, most: float) -> Tensor:
        """(B, 1, 1, 1): signed strengths from -most to most for images that drew the operation `name`, else 0."""
        return torch.where(self.to(name), (self.strength * self.sign * most).view(-1, 1, 1, 1), 0.0)


def draw(batch: int, generator: torch.Generator) -> Drawn:
    """All operations, strengths and signs are equally likely."""

    def whole_numbers(below: int) -> Tensor:
        return torch.randint(below, (batch,), generator=generator, device=generator.device)

    return Drawn(whole_numbers(len(OPERATIONS)), whole_numbers(STRENGTHS) / (STRENGTHS - 1), whole_numbers(2) * 2.0 - 1)


def apply(images: Tensor, drawn: Drawn, fill: Tensor) -> Tensor:
    """Images uint8 (B, C, H, W), each changed by the operation drawn for it; `fill` is uint8 (C, 1, 1)."""
    images = _move(images, drawn, fill)
    images = _blend(images, drawn)
    images = _posterize(images, drawn)
    images = _solarize(images, drawn)
    images = torch.where(drawn.to("auto_contrast"), _auto_contrast(images), images)
    return torch.where(drawn.to("equalize"), _equalize(images), images)


def _move(images: Tensor, drawn: Drawn, fill: Tensor) -> Tensor:
    """Shear from the upper left corner, translate by whole pixels, rotate about the centre; nearest pixels."""
    side = images.shape[-1]
    centre = (side - 1) / 2
    offset = torch.arange(side, device=images.device) - centre
    x, y = offset.view(1, 1, 1, side), offset.view(1, 1, side, 1)
    angle = torch.deg2rad(drawn.signed("rotate", MOST_DEGREES))
    from_x = angle.cos() * x - angle.sin() * y + drawn.signed("shear_x", MOST_SHEAR) * (y + side / 2)
    from_y = angle.sin() * x + angle.cos() * y + drawn.signed("shear_y", MOST_SHEAR) * (x + side / 2)
    column = (from_x + centre - drawn.signed("translate_x", MOST_PIXELS).trunc()).round().long()
    row = (from_y + centre - drawn.signed("translate_y", MOST_PIXELS).trunc()).round().long()
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    place = row.clamp(0, side - 1) * side + column.clamp(0, side - 1)
    moved = images.flatten(2).gather(2, place.flatten(2).expand(-1, 3, -1)).view_as(images)
    return torch.where(inside, moved, fill)


def _blend(images: Tensor, drawn: Drawn) -> Tensor:
    """Blend towards another image or away from it: a black, a gray, an evenly gray or a smoothed one."""
    pixels = images.float()
    red, green, blue = pixels.split(1, 1)
    gray = (0.2989 * red + 0.587 * green + 0.114 * blue).floor()
    other = torch.where(drawn.to("color"), gray, torch.zeros_like(pixels))
    other = torch.where(drawn.to("contrast"), gray.mean((2, 3), keepdim=True), other)
    other = torch.where(drawn.to("sharpness"), _smooth(pixels), other)
    away = torch.stack([drawn.signed(name, MOST_BLEND) for name in BLENDS]).sum(0)
    return (pixels * (1 + away) - other * away).clamp(0, 255).to(torch.uint8)


def _smooth(pixels: Tensor) -> Tensor:
    """Each pixel becomes the mean of itself, counted five times, and its eight neighbours; the border stays."""
    inner = pixels[..., 1:-1, 1:-1]
    return F.pad((9 * F.avg_pool2d(pixels, 3, stride=1) + 4 * inner) / 13 - inner, (1,) * 4).add(pixels).round()


def _posterize(images: Tensor, drawn: Drawn) -> Tensor:
    """Up to six of the eight bits become zero."""
    bits = torch.where(drawn.to("posterize"), (drawn.strength * MOST_BITS).round().view(-1, 1, 1, 1), 0.0)
    return (images >> bits.to(torch.uint8)) << bits.to(torch.uint8)


def _solarize(images: Tensor, drawn: Drawn) -> Tensor:
    """Pixels from a threshold on are inverted."""
    threshold = torch.where(drawn.to("solarize"), 255 * (1 - drawn.strength).view(-1, 1, 1, 1), 256.0)
    return torch.where(images >= threshold, 255 - images, images)


def _auto_contrast(images: Tensor) -> Tensor:
    """Each channel's darkest pixel becomes 0 and its brightest 255."""
    pixels = images.float()
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    stretched = (pixels - low) / ((high - low) / 255)
    return torch.where(high > low, stretched.clamp(0, 255).to(torch.uint8), images)


def _equalize(images: Tensor) -> Tensor:
    """Spread out each channel's values, so that each value gets room in proportion to its pixels.

    A pixel's place in the sorted channel is the number of darker pixels. A histogram would need sums that a GPU adds
    in any order, which PyTorch refuses in deterministic mode.
    """
    pixels = images.flatten(2)
    ordered = pixels.sort(-1).values
    darker = torch.searchsorted(ordered, pixels)
    step = torch.searchsorted(ordered, ordered[..., -1:].contiguous()) // 255
    spread = ((darker + step // 2) // step.clamp(min=1)).clamp(0, 255).to(torch.uint8)
    return torch.where(step > 0, spread, pixels).view_as(images)
