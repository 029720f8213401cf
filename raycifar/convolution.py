"""VGG16's 3x3 convolution, with a quick gradient of the weights on CPUs where the images are small.

oneDNN's AVX2 kernel multiplies the padding too, and at 2 x 2 takes eight times as long as nine plain matrix products,
one for each of the kernel's positions (LOG.md, 2026-11-25). Elsewhere this is PyTorch's own convolution.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

SMALL = 8  # largest side of an image where the products were measured to be quicker


class Convolution(nn.Conv2d):
    """3x3, stride 1, padding 1: (N, C, H, W) -> (N, D, H, W)."""

    def __init__(self, channels: int, given: int, bias: bool = True) -> None:
        super().__init__(channels, given, kernel_size=3, padding=1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        if self.weight.requires_grad and torch.is_grad_enabled() and _is_small_on_a_cpu(images):
            result: Tensor = _ByPosition.apply(images, self.weight, self.bias)
            return result
        return super().forward(images)


def _is_small_on_a_cpu(images: Tensor) -> bool:
    fp32 = images.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return images.device.type == "cpu" and fp32 and max(images.shape[-2:]) <= SMALL


class _ByPosition(torch.autograd.Function):
    """The convolution, with its weight gradient computed by `weight_gradient`."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(images, weight)
        return nn.functional.conv2d(images, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        images, weight = ctx.saved_tensors
        of_images, of_weight, of_bias = ctx.needs_input_grad
        return (
            conv2d_input(images.shape, weight, gradient, padding=1) if of_images else None,
            weight_gradient(images, gradient) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
        )


def weight_gradient(images: Tensor, gradient: Tensor) -> Tensor:
    """Of the kernel (D, C, 3, 3), from images (N, C, H, W) and the gradient of what they gave (N, D, H, W)."""
    images_nhwc, gradient_nhwd = images.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    result = images.new_empty(3, 3, gradient.shape[1], images.shape[1])
    for i, (rows_read, rows_given) in enumerate(_overlaps(images.shape[2])):
        for j, (columns_read, columns_given) in enumerate(_overlaps(images.shape[3])):
            read = images_nhwc[:, rows_read, columns_read].flatten(0, 2)
            given = gradient_nhwd[:, rows_given, columns_given].flatten(0, 2)
            torch.mm(given.t(), read, out=result[i, j])
    return result.permute(2, 3, 0, 1)


def _overlaps(side: int) -> list[tuple[slice, slice]]:
    """For each of the kernel's three positions: which pixels it reads, and for which it reads them."""
    whole, but_first, but_last = slice(0, side), slice(1, side), slice(0, side - 1)
    return [(but_last, but_first), (whole, whole), (but_first, but_last)]
