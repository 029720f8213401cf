"""VGG16's 3x3 convolution; on CPUs, where the images are small, as matrix products: oneDNN multiplies the padding too.

The gradient of the weights is nine products, one for each of the kernel's positions. At 2 x 2 every pixel sees every
other one, and the whole convolution is a single product with a matrix of the weights: it takes 16 of the 36 products
of pixels and weights. Measured in LOG.md, 2026-11-25; elsewhere this is PyTorch's own convolution.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

TINY = 2  # up to this side, all pixels see each other


class Convolution(nn.Conv2d):
    """3x3, stride 1, padding 1: (N, C, H, W) -> (N, D, H, W)."""

    def __init__(self, channels: int, given: int, bias: bool = True) -> None:
        super().__init__(channels, given, kernel_size=3, padding=1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        trains_on_a_cpu = images.device.type == "cpu" and self.weight.requires_grad and torch.is_grad_enabled()
        side = max(images.shape[-2:])
        if not trains_on_a_cpu or side > largest_side():
            return super().forward(images)
        by = _AsMatrix if side <= TINY else _ByPosition
        result: Tensor = by.apply(images, self.weight, self.bias)
        return result


def largest_side() -> int:
    """Of an image whose convolution is quicker by products, as measured in the precision that autocast asks for."""
    if torch.is_autocast_enabled("cpu"):
        return 4
    return TINY if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


class _ByPosition(torch.autograd.Function):
    """The convolution, with its weight gradient computed by `weight_gradient`."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(images, weight)
        return nn.functional.conv2d(images, weight, bias, padding=1)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        of_images = conv2d_input(images.shape, weight, gradients[0], padding=1) if ctx.needs_input_grad[0] else None
        return of_images, *_of_parameters(ctx, images, gradients[0])


class _AsMatrix(torch.autograd.Function):
    """The convolution of images up to 2 x 2, as a linear layer of their pixels."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = images.shape[2:]
        matrix = _matrix(weight, height, width)
        ctx.save_for_backward(images, matrix)
        result = torch.empty(
            (len(images), len(weight), height, width), dtype=images.dtype, memory_format=torch.channels_last
        )
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        torch.addmm(bias.repeat(height * width), _pixels(images), matrix.t(), out=_pixels(result))
        return result  # no view: what follows may change it in place

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        images, matrix = ctx.saved_tensors
        of_images = None
        if ctx.needs_input_grad[0]:
            pixels = _pixels(gradients[0]) @ matrix
            of_images = pixels.view(len(images), *images.shape[2:], -1).permute(0, 3, 1, 2)
        return of_images, *_of_parameters(ctx, images, gradients[0])


def _of_parameters(ctx: Any, images: Tensor, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    _, of_weight, of_bias = ctx.needs_input_grad
    return (
        weight_gradient(images, gradient) if of_weight else None,
        gradient.sum((0, 2, 3)) if of_bias else None,
    )


def _pixels(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W C), a view where the memory's format is channels_last."""
    return images.permute(0, 2, 3, 1).flatten(1)


def _matrix(weight: Tensor, height: int, width: int) -> Tensor:
    """The kernel (D, C, 3, 3) as what it does to all pixels at once: (H W D, H W C), for H and W up to 2."""
    weight_dijc = weight.permute(0, 2, 3, 1)
    result = weight.new_empty(height, width, len(weight), height, width, weight.shape[1])
    for y in range(height):
        for x in range(width):
            result[y, x] = weight_dijc[:, 1 - y : 1 - y + height, 1 - x : 1 - x + width]
    return result.view(height * width * len(weight), -1)


def weight_gradient(images: Tensor, gradient: Tensor) -> Tensor:
    """Of the kernel (D, C, 3, 3), from images (N, C, H, W) and the gradient of what they gave (N, D, H, W)."""
    images_nhwc, gradient_nhwd = images.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    result_dijc = images.new_empty(gradient.shape[1], 3, 3, images.shape[1])
    for i, (rows_read, rows_given) in enumerate(_overlaps(images.shape[2])):
        for j, (columns_read, columns_given) in enumerate(_overlaps(images.shape[3])):
            read = images_nhwc[:, rows_read, columns_read].flatten(0, 2)
            given = gradient_nhwd[:, rows_given, columns_given].flatten(0, 2)
            torch.mm(given.t(), read, out=result_dijc[:, i, j])
    return result_dijc.permute(0, 3, 1, 2)


def _overlaps(side: int) -> list[tuple[slice, slice]]:
    """For each of the kernel's three positions: which pixels it reads, and for which it reads them."""
    whole, but_first, but_last = slice(0, side), slice(1, side), slice(0, side - 1)
    return [(but_last, but_first), (whole, whole), (but_first, but_last)]
