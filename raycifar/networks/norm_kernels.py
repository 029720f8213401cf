"""Triton kernels of `norm`: batch norm with what follows it, in as few passes over the images as there can be.

Images are rows, one for each pixel of each image (N H W of them), of C numbers each: channels_last memory. A program
works on a tile of ROWS x CHANNELS; sums over all rows are combined from the tiles' in a kernel of their own. Where
POOL, a tile's rows are the 2 x 2 pooling's outputs, and each has four rows of input, in the order in which PyTorch
looks for the largest.
"""

import triton
import triton.language as tl

# Triton compiles a kernel anew where an integer becomes a multiple of 16. These give no address its alignment, as the
# channels do, so they may be any number to one and the same kernel.
_kernel = triton.jit(do_not_specialize=["rows", "inputs", "width", "tiles", "each"])


@triton.jit
def _tile(rows, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Row numbers (ROWS, 1) and channel numbers (1, CHANNELS) of this program."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return row, channel, row < rows


@triton.jit
def _first_input(row, width):
    """The first of the four input rows of an output row, in images `width` wide (and of even height)."""
    half = width // 2
    return (row // half) * 2 * width + (row % half) * 2


@triton.jit
def _numbers(at, there):
    return tl.load(at, mask=there, other=0.0).to(tl.float32)


@triton.jit
def _four(first, there, channels, width):
    """The numbers of four input rows, `first` being where the first of them is."""
    a, b = _numbers(first, there), _numbers(first + channels, there)
    c, d = _numbers(first + width * channels, there), _numbers(first + (width + 1) * channels, there)
    return a, b, c, d


@triton.jit
def _largest(a, b, c, d, scale):
    """The one that is largest once scaled, the first of equals; and whether b, c and d beat those before them."""
    b_first = b * scale > a * scale
    value = tl.where(b_first, b, a)
    c_first = c * scale > value * scale
    value = tl.where(c_first, c, value)
    d_first = d * scale > value * scale
    return tl.where(d_first, d, value), b_first, c_first, d_first


@triton.jit
def _affine(found, channel, channels):
    """Scale and shift of the channels."""
    return tl.load(found + channel), tl.load(found + channels + channel)


@triton.jit
def _spread(found, channel, channels):
    """Mean and 1 / deviation of the channels."""
    return tl.load(found + 2 * channels + channel), tl.load(found + 3 * channels + channel)


@_kernel
def moments(x, partial, rows, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Each tile's mean and sum of squared deviations -> partial (tiles, 2, C)."""
    row, channel, there = _tile(rows, channels, ROWS, CHANNELS)
    values = _numbers(x + row * channels + channel, there)
    count = tl.minimum(rows - tl.program_id(0) * ROWS, ROWS).to(tl.float32)
    mean = tl.sum(values, 0)[None, :] / count
    off = tl.where(there, values - mean, 0.0)
    out = partial + tl.program_id(0) * 2 * channels + channel
    tl.store(out, mean)
    tl.store(out + channels, tl.sum(off * off, 0)[None, :])


@_kernel
def statistics(
    partial,
    weight,
    bias,
    running_mean,
    running_var,
    found,
    rows,
    channels,
    tiles,
    each,
    momentum,
    epsilon,
    TILES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Moments of tiles of `each` rows -> found (4, C): scale, shift, mean, 1 / deviation; and running statistics."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    tile = tl.arange(0, TILES)[:, None]
    there = tile < tiles
    at = partial + tile * 2 * channels + channel
    means = tl.load(at, mask=there, other=0.0)
    squares = tl.load(at + channels, mask=there, other=0.0)
    counts = tl.where(there, tl.minimum(rows - tile * each, each), 0).to(tl.float32)
    mean = tl.sum(means * counts, 0)[None, :] / rows
    off = means - mean
    variance = (tl.sum(squares + counts * off * off, 0) / rows)[None, :]
    inverse = 1.0 / tl.sqrt(variance + epsilon)
    scale = tl.load(weight + channel) * inverse
    tl.store(found + channel, scale)
    tl.store(found + channels + channel, tl.load(bias + channel) - mean * scale)
    tl.store(found + 2 * channels + channel, mean)
    tl.store(found + 3 * channels + channel, inverse)
    before = tl.load(running_mean + channel)
    tl.store(running_mean + channel, before + momentum * (mean - before))
    before = tl.load(running_var + channel)
    tl.store(running_var + channel, before + momentum * (variance * rows / (rows - 1) - before))


@_kernel
def apply(
    x,
    found,
    y,
    rows,
    channels,
    width,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """y = ReLU(scale x + shift), or of the largest of four; `rows` are y's."""
    row, channel, there = _tile(rows, channels, ROWS, CHANNELS)
    scale, shift = _affine(found, channel, channels)
    if POOL:
        a, b, c, d = _four(x + _first_input(row, width) * channels + channel, there, channels, width)
        upper = tl.maximum(a * scale + shift, b * scale + shift)
        largest = tl.maximum(upper, tl.maximum(c * scale + shift, d * scale + shift))
    else:
        largest = _numbers(x + row * channels + channel, there) * scale + shift
    # Not maximum, for which NaN is the smaller: a loss that has become NaN must be seen.
    tl.store(y + row * channels + channel, tl.where(largest <= 0.0, 0.0, largest), mask=there)


@_kernel
def backward_sums(
    x,
    dy,
    found,
    partial,
    rows,
    channels,
    width,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Each tile's sums of the gradient, and of it times the normalised input -> partial (tiles, 2, C)."""
    row, channel, there = _tile(rows, channels, ROWS, CHANNELS)
    scale, shift = _affine(found, channel, channels)
    mean, inverse = _spread(found, channel, channels)
    gradient = _numbers(dy + row * channels + channel, there)
    if POOL:
        a, b, c, d = _four(x + _first_input(row, width) * channels + channel, there, channels, width)
        value, _, _, _ = _largest(a, b, c, d, scale)
    else:
        value = _numbers(x + row * channels + channel, there)
    gradient = tl.where(value * scale + shift > 0, gradient, 0.0)
    out = partial + tl.program_id(0) * 2 * channels + channel
    tl.store(out, tl.sum(gradient, 0)[None, :])
    tl.store(out + channels, tl.sum(gradient * (value - mean) * inverse, 0)[None, :])


@_kernel
def gradients(
    partial,
    of_both,
    channels,
    tiles,
    TILES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The tiles' sums -> the gradients of batch norm's bias and weight: of_both (2, C)."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    tile = tl.arange(0, TILES)[:, None]
    at = partial + tile * 2 * channels + channel
    tl.store(of_both + channel, tl.sum(tl.load(at, mask=tile < tiles, other=0.0), 0)[None, :])
    tl.store(of_both + channels + channel, tl.sum(tl.load(at + channels, mask=tile < tiles, other=0.0), 0)[None, :])


@_kernel
def backward_input(
    x,
    dy,
    found,
    of_both,
    dx,
    rows,
    inputs,
    channels,
    width,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The gradient of x, `inputs` rows of it; `rows` are dy's."""
    row, channel, there = _tile(rows, channels, ROWS, CHANNELS)
    scale, shift = _affine(found, channel, channels)
    mean, inverse = _spread(found, channel, channels)
    of_mean = tl.load(of_both + channel) / inputs
    of_spread = tl.load(of_both + channels + channel) / inputs * inverse
    gradient = _numbers(dy + row * channels + channel, there)
    if POOL:
        at = _first_input(row, width) * channels + channel
        a, b, c, d = _four(x + at, there, channels, width)
        value, b_first, c_first, d_first = _largest(a, b, c, d, scale)
        gradient = tl.where(value * scale + shift > 0, gradient, 0.0)
        of_d = tl.where(d_first, gradient, 0.0)
        of_c = tl.where(c_first, gradient, 0.0) - tl.where(c_first, of_d, 0.0)
        rest = gradient - of_c - of_d
        of_b = tl.where(b_first, rest, 0.0)
        of_a = rest - of_b
        tl.store(dx + at, scale * (of_a - of_mean - (a - mean) * of_spread), mask=there)
        tl.store(dx + at + channels, scale * (of_b - of_mean - (b - mean) * of_spread), mask=there)
        at += width * channels
        tl.store(dx + at, scale * (of_c - of_mean - (c - mean) * of_spread), mask=there)
        tl.store(dx + at + channels, scale * (of_d - of_mean - (d - mean) * of_spread), mask=there)
    else:
        at = row * channels + channel
        value = _numbers(x + at, there)
        gradient = tl.where(value * scale + shift > 0, gradient, 0.0)
        tl.store(dx + at, scale * (gradient - of_mean - (value - mean) * of_spread), mask=there)
