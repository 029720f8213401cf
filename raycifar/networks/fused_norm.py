"""Batch norm, pooling and ReLU as one operation of a GPU's training step; elsewhere they are PyTorch's own layers.

PyTorch's layers take nearly as long as all convolutions of a step on an H100 (LOG.md, 2026-11-26), for each of them
reads and writes the images. The fused kernels read or write them about seven times in all. Parameters and running
statistics stay in PyTorch's BatchNorm2d. Where Triton does not run, or computes other numbers in a self-test, PyTorch's
layers do the work.
"""

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from raycifar.devices import full_memory

CHANNELS, ROWS = 64, 32  # of a tile; half as many rows where it pools, for four rows of input make one
TILES, MOST_ROWS = 512, 256  # where rows are summed: about how many tiles there should be, and the most rows of one
COMBINED, FEW, MOST_COMBINED = (
    16,
    64,
    2048,
)  # channels of a program that combines tiles, and how many tiles it has room for


class FusedLayers(nn.Sequential):
    """A sequence of layers; where a GPU trains, batch norm and what follows it, up to the ReLU, are one operation.

    Hooks of the layers that are taken together are then not called.
    """

    def forward(self, images: Tensor) -> Tensor:
        layers = iter(self)
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d) and at_once(layer, images):
                pools = isinstance(next(layers), nn.MaxPool2d) and isinstance(next(layers), nn.ReLU)
                images = norm_pool_relu(layer, images, pools)
            else:
                images = layer(images)
        return images


def at_once(layer: nn.BatchNorm2d, images: Tensor) -> bool:
    """Whether `norm_pool_relu` can do the layer's work on these images: in training, on a GPU that can run it."""
    if not (layer.training and torch.is_grad_enabled() and images.is_cuda):
        return False
    plain = type(layer) is nn.BatchNorm2d and layer.momentum is not None
    fits = layer.num_features % CHANNELS == 0 and images[:, 0].numel() <= MOST_COMBINED * MOST_ROWS
    return plain and fits and works(images.device, images.dtype)


@cache
def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether Triton's kernels run on the device and compute what PyTorch's layers do; tested once a trial."""
    try:
        difference = self_test(device, dtype)
    except Exception as error:  # no Triton, no compiler for it, an unknown GPU: each has an error of its own
        if full_memory(error):
            raise
        difference = (str(error) or type(error).__name__).partition("\n")[0]
    if difference:
        logging.getLogger(__name__).warning("batch norm's steps are launched one by one: %s", difference)
    return not difference


def self_test(device: torch.device, dtype: torch.dtype) -> str:
    """What is wrong with the kernels' results and gradients on a few random images; empty where nothing is.

    They are compared with PyTorch's layers, in fp32.
    """
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(9, CHANNELS, 6, 4, device=device, generator=generator)
    images = images.to(dtype, memory_format=torch.channels_last).requires_grad_()
    tolerance = 1e-3 if dtype == torch.float32 else 2e-2
    for pools in (False, True):
        layer = nn.BatchNorm2d(CHANNELS, device=device)
        expected = layer(images.float())
        expected = (nn.functional.max_pool2d(expected, 2) if pools else expected).relu()
        result = norm_pool_relu(layer, images, pools)
        above = torch.randn(expected.shape, device=device, generator=generator).to(dtype)
        inputs = (images, layer.weight, layer.bias)
        gradients = [torch.autograd.grad(y, inputs, above.to(y.dtype)) for y in (expected, result)]
        pairs = [(expected, result), *zip(*gradients, strict=True)]
        if not all(torch.allclose(a.float(), b.float(), rtol=tolerance, atol=tolerance) for a, b in pairs):
            return "the fused kernels compute other numbers than PyTorch's layers"
    return ""


def norm_pool_relu(layer: nn.BatchNorm2d, images: Tensor, pools: bool) -> Tensor:
    """ReLU(norm(images)), or where it `pools` ReLU(max over 2 x 2 of norm(images)), as the layer does it in training.

    Images (N, C, H, W), C a multiple of 64; where it pools, H and W even. The layer's running statistics take in those
    of these images. num_batches_tracked is not counted up: no layer with a momentum reads it.
    """
    with torch.cuda.device(images.device if images.is_cuda else -1):  # Triton's kernels run on the current one
        result: Tensor = _NormPoolRelu.apply(images, layer.weight, layer.bias, layer, pools)
    return result


class _NormPoolRelu(torch.autograd.Function):
    """Launches the kernels: two for the statistics and one for the result, then two for sums and one for dx."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, layer: nn.BatchNorm2d, pools: bool) -> Tensor:
        from raycifar.networks import norm_kernels as kernels  # Triton is not everywhere

        images = images.contiguous(memory_format=torch.channels_last)
        ctx.side = side = 2 if pools else 1
        stats = _statistics(images, weight, bias, layer)
        result = torch.empty_like(images[..., ::side, ::side], memory_format=torch.channels_last)
        channels, outputs, rows = images.shape[1], result[:, 0].numel(), ROWS // side
        kernels.apply[-(-outputs // rows), channels // CHANNELS](
            images, stats, result, outputs, channels, images.shape[3], POOL=pools, ROWS=rows, CHANNELS=CHANNELS
        )
        ctx.save_for_backward(images, stats)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        from raycifar.networks import norm_kernels as kernels

        images, stats = ctx.saved_tensors
        above_nhwc = above[0].contiguous(memory_format=torch.channels_last)
        parameter_gradients = _gradients(images, above_nhwc, stats, ctx.side)
        below = torch.empty_like(images) if ctx.needs_input_grad[0] else None
        if below is not None:
            channels, inputs, outputs = images.shape[1], images[:, 0].numel(), above_nhwc[:, 0].numel()
            rows = ROWS // ctx.side
            kernels.backward_input[-(-outputs // rows), channels // CHANNELS](
                images, above_nhwc, stats, parameter_gradients, below, outputs, inputs, channels, images.shape[3],
                POOL=ctx.side == 2, ROWS=rows, CHANNELS=CHANNELS,
            )  # fmt: skip
        of_bias, of_weight = parameter_gradients
        return below, of_weight, of_bias, None, None


def _statistics(images: Tensor, weight: Tensor, bias: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    """Scale, shift, mean and 1 / standard deviation by channel, (4, C); updates the layer's running statistics."""
    from raycifar.networks import norm_kernels as kernels

    channels, inputs = images.shape[1], images[:, 0].numel()
    rows, tiles, warps = summing_grid(inputs, channels, 1)
    partial, stats = (images.new_empty(*shape, channels, dtype=torch.float32) for shape in ((tiles, 2), (4,)))
    kernels.moments[tiles, channels // CHANNELS](
        images, partial, inputs, channels, ROWS=rows, CHANNELS=CHANNELS, num_warps=warps
    )
    kernels.statistics[(channels // COMBINED,)](
        partial, weight, bias, layer.running_mean, layer.running_var, stats,
        inputs, channels, tiles, rows, layer.momentum, layer.eps, TILES=_combined(tiles), CHANNELS=COMBINED,
    )  # fmt: skip
    return stats


def _gradients(images: Tensor, above: Tensor, stats: Tensor, side: int) -> Tensor:
    """The gradients of batch norm's bias and weight, (2, C)."""
    from raycifar.networks import norm_kernels as kernels

    channels, outputs = images.shape[1], above[:, 0].numel()
    rows, tiles, warps = summing_grid(outputs, channels, side)
    partial, parameter_gradients = (stats.new_empty(*shape, channels) for shape in ((tiles, 2), (2,)))
    kernels.backward_sums[tiles, channels // CHANNELS](
        images, above, stats, partial, outputs, channels, images.shape[3],
        POOL=side == 2, ROWS=rows, CHANNELS=CHANNELS, num_warps=warps,
    )  # fmt: skip
    kernels.gradients[(channels // COMBINED,)](
        partial, parameter_gradients, channels, tiles, TILES=_combined(tiles), CHANNELS=COMBINED
    )
    return parameter_gradients


def summing_grid(rows: int, channels: int, side: int) -> tuple[int, int, int]:
    """For kernels that sum `rows`: the rows of a tile, how many tiles there are, and the warps of a program.

    A row has side**2 rows of input.
    """
    for_about_tiles = _power_of_two(rows * channels // (CHANNELS * TILES))
    tile_rows = max(ROWS // side, min(MOST_ROWS // side**2, for_about_tiles))
    return tile_rows, -(-rows // tile_rows), 8 if tile_rows * side**2 > 64 else 4


def _combined(tiles: int) -> int:
    """Room for so many tiles, in one of a few sizes: each size is another kernel to compile."""
    return FEW if tiles <= FEW else max(TILES, _power_of_two(tiles))


def _power_of_two(least: int) -> int:
    """The smallest power of two that is not below `least`."""
    return 1 << max(0, least - 1).bit_length()
