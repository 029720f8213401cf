"""Random crop, mirror, cutout and mixtures of a whole batch on its device, in a handful of kernels.

The training images are padded once, when the trial starts. A crop is then a gather: the batch is read from the data set
already cropped. Images that are read as it trains (`mapped`) are padded a batch at a time instead.
Shapes: N images in the set, B in a batch, C = 3 channels, H = W the side of an image.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raycifar.config.settings import Augmentation
from raycifar.data import trivialaugment
from raycifar.data.mapped import Mapped
from raycifar.data.splits import Split

SHARES = 65_536  # drawn in advance, for PyTorch's sampler of the beta distribution takes no generator


@dataclass(frozen=True, slots=True)
class Augmenter:
    """The padded training images and their augmentation. `windows` is a view of all crops, without a copy."""

    windows: Tensor  # uint8 (N, C, 2 crop + 1, 2 crop + 1, H, W); of no images where these are mapped
    first_mirrored: Tensor  # bool (N,): mirrored in odd epochs when the flip alternates
    fill: Tensor  # uint8 (C, 1, 1): the mean colour, which cutout paints
    spec: Augmentation

    @classmethod
    def of(cls, train: Split, spec: Augmentation, seed: int) -> "Augmenter":
        n = len(train)
        windows = torch.empty(0) if isinstance(train.images, Mapped) else _windows(train.images, spec.crop)
        generator = torch.Generator().manual_seed(seed)
        mirrored = torch.rand(n, generator=generator) < 0.5
        mean = train.images[:: max(1, n // 5000)].float().mean((0, 2, 3)).round().to(torch.uint8)
        return cls(windows, mirrored.to(train.labels.device), mean.view(3, 1, 1), spec)

    def __call__(
        self, index: Tensor, epoch: int | Tensor, generator: torch.Generator, read: Tensor | None = None
    ) -> Tensor:
        """The images `index` (B,), augmented for `epoch`: uint8 (B, C, H, W). `read` are these images, where mapped.

        The draws depend on the generator and on B only: workers that each take a part of a batch augment all of it.
        """
        if read is None:
            crop = self._crop(self.windows, index, generator)
        else:
            crop = self._crop(_windows(read, self.spec.crop), torch.arange(len(index), device=index.device), generator)
        images = _mirror(crop, self._mirrored(index, epoch, generator))
        if self.spec.policy == "trivial":
            images = trivialaugment.apply(images, trivialaugment.draw(len(index), generator), self.fill)
        return cut_out(images, self.spec.cutout, self.fill, generator)

    def _crop(self, windows: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
        if not self.spec.crop:
            return windows[index, :, 0, 0]
        places = windows.shape[2]
        row, column = torch.randint(places, (2, len(index)), generator=generator, device=index.device)
        return windows[index, :, row, column]

    def _mirrored(self, index: Tensor, epoch: int | Tensor, generator: torch.Generator) -> Tensor:
        if self.spec.flip == "alternating":
            return self.first_mirrored[index] ^ (epoch % 2 == 0)
        if self.spec.flip == "random":
            return torch.rand(len(index), generator=generator, device=index.device) < 0.5
        return torch.zeros(len(index), dtype=torch.bool, device=index.device)


def cut_out(images: Tensor, side: int, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Images uint8 (B, C, H, W), in each a square of `side` pixels painted with `fill` (C, 1, 1); 0 paints none."""
    if not side:
        return images
    batch, _, height, _ = images.shape
    # The square's centre is anywhere in the image, so part of it may fall outside (DeVries & Taylor 2017).
    row, column = torch.randint(height, (2, batch, 1), generator=generator, device=images.device)
    offset = torch.arange(height, device=images.device)
    rows, columns = _inside(offset - row, side), _inside(offset - column, side)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], fill, images)


@dataclass(frozen=True, slots=True)
class Mixer:
    """Mixes each image of a batch, and its label, with the image before it: a random one, for batches are shuffled."""

    shares: Tensor  # float32 (SHARES,): draws of Beta(alpha, alpha)
    rows: Tensor  # float32 (classes, classes): the row of a label has a share of 1 of that label
    spec: Augmentation

    @classmethod
    def of(cls, spec: Augmentation, classes: int, seed: int, device: torch.device) -> "Mixer | None":
        """None where the spec asks for no mixing."""
        alpha = spec.mixup or spec.cutmix
        if not alpha or not spec.mix_probability:
            return None
        shares = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, SHARES)).float()
        return cls(shares.to(device), torch.eye(classes, device=device), spec)

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W), labels int64 (B,) -> mixed images, and the labels' shares float32 (B, classes)."""
        batch, device = len(images), images.device
        share = self.shares[torch.randint(SHARES, (batch,), generator=generator, device=device)]
        unmixed = torch.rand(batch, generator=generator, device=device) >= self.spec.mix_probability
        share = torch.where(unmixed, 1.0, share).view(-1, 1, 1, 1)
        images, share = self._cutmix(images, share, generator) if self.spec.cutmix else _mixup(images, share)
        rows = self.rows[labels]
        return images, torch.lerp(rows.roll(1, 0), rows, share.view(-1, 1))

    def _cutmix(self, images: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Paste a box of the other image, 1 - share of the area; what of it falls outside raises the returned share."""
        batch, _, height, _ = images.shape
        row, column = torch.randint(height, (2, batch, 1, 1, 1), generator=generator, device=images.device)
        side = (height * (1 - share).sqrt()).long()
        offset = torch.arange(height, device=images.device)
        box = _inside(offset.view(-1, 1) - row, side) & _inside(offset - column, side)
        return torch.where(box, images.roll(1, 0), images), 1 - box.float().mean((2, 3), keepdim=True)


def _mixup(images: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    own = images.float()
    return torch.lerp(own.roll(1, 0), own, share).round().to(torch.uint8), share


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror the chosen images, eight pixels at a time: byte by byte it would take a CPU as long as all the rest."""
    pixels, mirror_image = images.view(torch.int64), images.flip(-1).view(torch.int64)
    return torch.where(mirrored.view(-1, 1, 1, 1), mirror_image, pixels).view(torch.uint8)


def _inside(distance: Tensor, side: int | Tensor) -> Tensor:
    """Which distances from the centre lie inside a square of this side."""
    return (distance >= -(side // 2)) & (distance < side - side // 2)


def _windows(images: Tensor, crop: int) -> Tensor:
    """A view of all crops of the padded images."""
    height, width = images.shape[2:]
    return _reflect_pad(images, crop).unfold(2, height, 1).unfold(3, width, 1)


def _reflect_pad(images: Tensor, pad: int) -> Tensor:
    if not pad:
        return images
    # PyTorch's own has no uint8 kernel. In parts, so that the whole set is never there twice.
    parts = [_reflected(_reflected(part, pad, 2), pad, 3) for part in images.split(5000)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _reflected(images: Tensor, pad: int, side: int) -> Tensor:
    """Reflections of `pad` pixels before and behind the images, along the dimension `side`."""
    before, behind = images.narrow(side, 1, pad), images.narrow(side, images.shape[side] - pad - 1, pad)
    return torch.cat([before.flip(side), images, behind.flip(side)], side)
