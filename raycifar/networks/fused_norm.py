"""Batch norm, pooling and ReLU as one operation of a GPU's training step; elsewhere they are PyTorch's own layers.

PyTorch's take nearly as long as all convolutions of a step on an H100 (LOG.md, 2026-11-26): they read and write the
images over and over. These do so about seven times, and PyTorch's BatchNorm2d still holds all that is learnt and kept.
Where Triton cannot run, or computes other numbers on a first trial of a few, PyTorch's layers do the work.
"""

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from raycifar.devices import full_memory

CHANNELS, ROWS = 64, 32  # of a tile; half as many rows where four inputs make one
TILES, MOST_ROWS = 512, 256  # of what is summed: as many rows to a tile as make so many tiles, within bounds
COMBINED, FEW, MOST_COMBINED = 16, 64, 2048  # channels, and tiles, of a program that combines all tiles of its channels


class Trunk(nn.Sequential):
    """Its layers one after the other; batch norm and what follows it up to the ReLU at once, where a GPU trains.

    Hooks of those layers are then not called.
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
    """Whether `norm_pool_relu` can stand for the layer on these images: in training, on a GPU that can run it."""
    if not (layer.training and torch.is_grad_enabled() and images.is_cuda):
        return False
    plain = type(layer) is nn.BatchNorm2d and layer.momentum is not None
    fits = layer.num_features % CHANNELS == 0 and images[:, 0].numel() <= MOST_COMBINED * MOST_ROWS
    return plain and fits and works(images.device, images.dtype)


@cache
def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether Triton's kernels run there and compute what PyTorch's layers do; tried once a trial."""
    try:
        difference = self_test(device, dtype)
    except Exception as error:  # no Triton, no compiler for it, a GPU that it does not know: many kinds
        if full_memory(error):
            raise
        difference = (str(error) or type(error).__name__).partition("\n")[0]
    if difference:
        logging.getLogger(__name__).warning("batch norm's steps are launched one by one: %s", difference)
    return not difference


def self_test(device: torch.device, dtype: torch.dtype) -> str:
    """What is wrong with the result on a few numbers; empty where nothing is. PyTorch's layers compute it in fp32."""
    generator = torch.Generator(device).manual_seed(0)
    drawn = torch.randn(9, CHANNELS, 6, 4, device=device, generator=generator)
    images = drawn.to(dtype, memory_format=torch.channels_last).requires_grad_()
    close = 1e-3 if dtype == torch.float32 else 2e-2
    for pools in (False, True):
        layer = nn.BatchNorm2d(CHANNELS, device=device)
        expected = layer(images.float())
        expected = (nn.functional.max_pool2d(expected, 2) if pools else expected).relu()
        given = norm_pool_relu(layer, images, pools)
        up = torch.randn(expected.shape, device=device, generator=generator).to(dtype)
        learnt = (images, layer.weight, layer.bias)
        down = [torch.autograd.grad(y, learnt, up.to(y.dtype)) for y in (expected, given)]
        pairs = [(expected, given), *zip(*down, strict=True)]
        if not all(torch.allclose(a.float(), b.float(), rtol=close, atol=close) for a, b in pairs):
            return "the fused kernels compute other numbers than PyTorch's layers"
    return ""


def norm_pool_relu(layer: nn.BatchNorm2d, images: Tensor, pools: bool) -> Tensor:
    """ReLU(norm(images)), or where it `pools` ReLU(max over 2 x 2 of norm(images)), as the layer does it in training.

    Images (N, C, H, W), C a multiple of 64; where it pools, H and W even. The layer's running statistics take those of
    these images in; num_batches_tracked, which no layer with a momentum reads, stays.
    """
    with torch.cuda.device(images.device if images.is_cuda else -1):  # Triton's kernels run on the current one
        result: Tensor = _NormPoolRelu.apply(images, layer.weight, layer.bias, layer, pools)
    return result


class _NormPoolRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, layer: nn.BatchNorm2d, pools: bool) -> Tensor:
        from raycifar.networks import norm_kernels as kernels  # Triton is not everywhere

        images = images.contiguous(memory_format=torch.channels_last)
        ctx.side = side = 2 if pools else 1
        found = _statistics(images, weight, bias, layer)
        result = torch.empty_like(images[..., ::side, ::side], memory_format=torch.channels_last)
        channels, outputs, rows = images.shape[1], result[:, 0].numel(), ROWS // side
        kernels.apply[-(-outputs // rows), channels // CHANNELS](
            images, found, result, outputs, channels, images.shape[3], POOL=pools, ROWS=rows, CHANNELS=CHANNELS
        )
        ctx.save_for_backward(images, found)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        from raycifar.networks import norm_kernels as kernels

        images, found = ctx.saved_tensors
        above_nhwc = above[0].contiguous(memory_format=torch.channels_last)
        of_both = _gradients(images, above_nhwc, found, ctx.side)
        below = torch.empty_like(images) if ctx.needs_input_grad[0] else None
        if below is not None:
            channels, inputs, outputs = images.shape[1], images[:, 0].numel(), above_nhwc[:, 0].numel()
            rows = ROWS // ctx.side
            kernels.backward_input[-(-outputs // rows), channels // CHANNELS](
                images, above_nhwc, found, of_both, below, outputs, inputs, channels, images.shape[3],
                POOL=ctx.side == 2, ROWS=rows, CHANNELS=CHANNELS,
            )  # fmt: skip
        of_bias, of_weight = of_both
        return below, of_weight, of_bias, None, None


def _statistics(images: Tensor, weight: Tensor, bias: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    """Scale, shift, mean and 1 / deviation of the channels, (4, C); the layer's running statistics take them in."""
    from raycifar.networks import norm_kernels as kernels

    channels, inputs = images.shape[1], images[:, 0].numel()
    rows, tiles, warps = summing_grid(inputs, channels, 1)
    partial, found = (images.new_empty(*shape, channels, dtype=torch.float32) for shape in ((tiles, 2), (4,)))
    kernels.moments[tiles, channels // CHANNELS](
        images, partial, inputs, channels, ROWS=rows, CHANNELS=CHANNELS, num_warps=warps
    )
    kernels.statistics[(channels // COMBINED,)](
        partial, weight, bias, layer.running_mean, layer.running_var, found,
        inputs, channels, tiles, rows, layer.momentum, layer.eps, TILES=_combined(tiles), CHANNELS=COMBINED,
    )  # fmt: skip
    return found


def _gradients(images: Tensor, above: Tensor, found: Tensor, side: int) -> Tensor:
    """Of batch norm's bias and weight, (2, C)."""
    from raycifar.networks import norm_kernels as kernels

    channels, outputs = images.shape[1], above[:, 0].numel()
    rows, tiles, warps = summing_grid(outputs, channels, side)
    partial, of_both = (found.new_empty(*shape, channels) for shape in ((tiles, 2), (2,)))
    kernels.backward_sums[tiles, channels // CHANNELS](
        images, above, found, partial, outputs, channels, images.shape[3],
        POOL=side == 2, ROWS=rows, CHANNELS=CHANNELS, num_warps=warps,
    )  # fmt: skip
    kernels.gradients[(channels // COMBINED,)](
        partial, of_both, channels, tiles, TILES=_combined(tiles), CHANNELS=COMBINED
    )
    return of_both


def summing_grid(rows: int, channels: int, side: int) -> tuple[int, int, int]:
    """Rows of a tile, tiles of all `rows`, and warps of a program, where it sums; side**2 inputs make a row."""
    wanted = _power_of_two(rows * channels // (CHANNELS * TILES))
    each = max(ROWS // side, min(MOST_ROWS // side**2, wanted))
    return each, -(-rows // each), 8 if each * side**2 > 64 else 4


def _combined(tiles: int) -> int:
    """Room for so many, of few kinds: each is a kernel to compile."""
    return FEW if tiles <= FEW else max(TILES, _power_of_two(tiles))


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()
