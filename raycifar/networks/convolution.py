"""The 3x3 convolution; on CPUs, where the images are small, as matrix products: oneDNN multiplies the padding too.

The gradient of the weights is nine products, one for each of the kernel's positions. At 2 x 2 every pixel sees every
other one, and the whole convolution is one product with a matrix of the weights: 16 multiplications for each pair of
channels, and not 36; with a stride of 2, 4 and not 9. Measured in LOG.md, 2026-11-25 and 2026-11-30. On GPUs and for
larger images this is PyTorch's own convolution; where the optimizer asks for it (muon.FUSED), the kernel's gradient
stays in the precision of the autocast.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

TINY = 2  # pixels: in an image with no longer side, every pixel sees every other one


class Convolution(nn.Conv2d):
    """3x3, padding 1, stride S of 1 or 2: (N, C, H, W) -> (N, D, ceil(H / S), ceil(W / S))."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=bias, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        if self._keeps_precision(images):
            kept: Tensor = _OwnPrecision.apply(images, self.weight, self.stride[0])
            return kept
        trains_on_a_cpu = images.device.type == "cpu" and self.weight.requires_grad and torch.is_grad_enabled()
        side = max(images.shape[-2:])
        if not trains_on_a_cpu or side > largest_side():
            return super().forward(images)
        function = _AsMatrix if side <= TINY else _ByPosition
        result: Tensor = function.apply(images, self.weight, self.bias, self.stride[0])
        return result

    def _keeps_precision(self, images: Tensor) -> bool:
        """Whether the kernel takes its gradient in any precision (`grad_dtype` is None), and autocast has another."""
        weight = self.weight
        trains = weight.requires_grad and weight.is_leaf and torch.is_grad_enabled()  # only a leaf has a `grad_dtype`
        if not trains or self.bias is not None or getattr(weight, "grad_dtype", weight.dtype) is not None:
            return False
        return torch.is_autocast_enabled(images.device.type)  # which a meta device cannot be asked


class _OwnPrecision(torch.autograd.Function):
    """The convolution as under autocast, but for the kernel's gradient: it stays in the precision it is computed in.

    Autocast casts it to float32, which adds no digit, and reads and writes all of it once more.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        dtype = torch.get_autocast_dtype(images.device.type)
        images, weight = images.to(dtype), weight.to(dtype)
        ctx.save_for_backward(images, weight)
        ctx.stride = stride
        return nn.functional.conv2d(images, weight, stride=stride, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        strides, one, none, wanted = [ctx.stride] * 2, [1, 1], [0, 0], [*ctx.needs_input_grad[:2], False]
        image_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
            gradients[0], images, weight, None, strides, one, one, False, none, 1, wanted
        )
        return image_gradient, weight_gradient, None


def largest_side() -> int:
    """The side in pixels up to which matrix products are quicker, as measured in the precision of the autocast."""
    if torch.is_autocast_enabled("cpu"):
        return 4
    return TINY if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


class _ByPosition(torch.autograd.Function):
    """The convolution, with its weight gradient computed by `weight_gradient`."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride = stride
        return nn.functional.conv2d(images, weight, bias, stride, padding=1)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        image_gradient = None
        if ctx.needs_input_grad[0]:
            image_gradient = conv2d_input(images.shape, weight, gradients[0], ctx.stride, padding=1)
        return image_gradient, *_parameter_gradients(ctx, images, gradients[0]), None


class _AsMatrix(torch.autograd.Function):
    """The convolution of images up to 2 x 2, as a linear layer of their pixels."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        height, width = images.shape[2:]
        matrix = _matrix(weight, height, width, stride)
        ctx.save_for_backward(images, matrix)
        ctx.stride = stride
        shape = (len(images), len(weight), -(-height // stride), -(-width // stride))
        result = torch.empty(shape, dtype=images.dtype, memory_format=torch.channels_last)
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        torch.addmm(bias.repeat(shape[2] * shape[3]), _pixels(images), matrix.t(), out=_pixels(result))
        return result  # not a view of the product: the layer after may change it in place

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, matrix = ctx.saved_tensors
        image_gradient = None
        if ctx.needs_input_grad[0]:
            pixels = _pixels(gradients[0]) @ matrix
            image_gradient = pixels.view(len(images), *images.shape[2:], -1).permute(0, 3, 1, 2)
        return image_gradient, *_parameter_gradients(ctx, images, gradients[0]), None


def _parameter_gradients(ctx: Any, images: Tensor, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Of the weight and of the bias, None for one that does not train."""
    weight_trains, bias_trains = ctx.needs_input_grad[1:3]
    return (
        weight_gradient(images, gradient, ctx.stride) if weight_trains else None,
        gradient.sum((0, 2, 3)) if bias_trains else None,
    )


def _pixels(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W C), a view where the memory's format is channels_last."""
    return images.permute(0, 2, 3, 1).flatten(1)


def _matrix(weight: Tensor, height: int, width: int, stride: int) -> Tensor:
    """The kernel (D, C, 3, 3) as a matrix (pixels D, H W C) from all pixels to the result's, for H and W up to 2."""
    weight_dijc = weight.permute(0, 2, 3, 1)
    rows, columns = range(0, height, stride), range(0, width, stride)
    result = weight.new_empty(len(rows), len(columns), len(weight), height, width, weight.shape[1])
    for y in rows:
        for x in columns:
            result[y // stride, x // stride] = weight_dijc[:, 1 - y : 1 - y + height, 1 - x : 1 - x + width]
    return result.view(len(rows) * len(columns) * len(weight), -1)


def weight_gradient(images: Tensor, gradient: Tensor, stride: int = 1) -> Tensor:
    """The kernel's gradient (D, C, 3, 3), from the input images (N, C, H, W) and the output's (N, D, H / S, W / S)."""
    images_nhwc, gradient_nhwd = images.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    result_dijc = images.new_empty(gradient.shape[1], 3, 3, images.shape[1])
    if min(gradient.shape[2:]) == 1:
        result_dijc.zero_()  # all at once: positions that see padding alone, whose product is empty
    for i, (rows_in, rows_out) in enumerate(_overlaps(images.shape[2], stride)):
        for j, (columns_in, columns_out) in enumerate(_overlaps(images.shape[3], stride)):
            pixels_in = images_nhwc[:, rows_in, columns_in].flatten(0, 2)
            pixels_out = gradient_nhwd[:, rows_out, columns_out].flatten(0, 2)
            if len(pixels_in):
                torch.mm(pixels_out.t(), pixels_in, out=result_dijc[:, i, j])
    return result_dijc.permute(0, 3, 1, 2)


def _overlaps(side: int, stride: int) -> list[tuple[slice, slice]]:
    """For each of the kernel's three positions: the pixels of the input that it reads, and those of the output that
    it reads them for."""
    outputs = -(-side // stride)
    return [
        (slice(stride - 1, side - 1, stride), slice(1, outputs)),
        (slice(0, side, stride), slice(0, outputs)),
        (slice(1, side, stride), slice(0, len(range(1, side, stride)))),
    ]


def adopt(module: nn.Module) -> None:
    """Let all 3x3 convolutions of padding 1 and stride 1 or 2 in a network compute as `Convolution` does.

    Their parameters and names stay. Only PyTorch's own class is adopted: another one may compute something else.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _is_ours(layer):
            layer.__class__ = Convolution


def _is_ours(layer: nn.Conv2d) -> bool:
    sizes = (layer.kernel_size, layer.padding, layer.dilation)
    strides = layer.stride in ((1, 1), (2, 2))
    return sizes == ((3, 3), (1, 1), (1, 1)) and strides and layer.groups == 1 and layer.padding_mode == "zeros"
