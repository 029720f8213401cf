"""Triton's kernels of fused_norm: batch norm with what follows it, in as few passes over the images as there can be.

The images lie in channels_last memory, so they are rows of C numbers, one row for each pixel of each image (N H W of
them). A program works on a tile of ROWS x CHANNELS. Sums over all rows are taken in two kernels: one sums each tile,
the other combines the tiles. Where POOL, a tile's rows are the outputs of the 2 x 2 pooling; each has four rows of
input, a b c d, in the order in which PyTorch looks for the largest: from left to right, then down.

In the kernels, `x` are the layer's input and `y` its result, `dx` and `dy` the gradients of the loss by both.
"""

import triton
import triton.language as tl

# Triton compiles a kernel anew where an integer argument becomes a multiple of 16, to use what that says of addresses.
# No address follows from these, as it does from `channels`, so one kernel serves all their values.
_kernel = triton.jit(do_not_specialize=["rows", "inputs", "width", "tiles", "rows_a_tile"])


@triton.jit
def _tile(rows, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """The program's row numbers (ROWS, 1), its channel numbers (1, CHANNELS), and which of the rows exist (ROWS, 1)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return row, channel, row < rows


@triton.jit
def _first_input(row, width):
    """The first of an output row's four input rows, in images of an even height that are `width` (even, too) wide."""
    half = width // 2
    return (row // half) * 2 * width + (row % half) * 2


@triton.jit
def _load(at, inside):
    """The numbers at these addresses as float32; 0 for rows that do not exist."""
    return tl.load(at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _load_four(first, inside, channels, width):
    """The numbers a b c d of four input rows; `first` is the address of a."""
    a, b = _load(first, inside), _load(first + channels, inside)
    c, d = _load(first + width * channels, inside), _load(first + (width + 1) * channels, inside)
    return a, b, c, d


@triton.jit
def _largest(a, b, c, d, scale):
    """The one of a b c d that is largest once scaled, the first among equals; and whether b, c, d beat all before them.

    `scale` may be negative: then it is the smallest.
    """
    b_first = b * scale > a * scale
    value = tl.where(b_first, b, a)
    c_first = c * scale > value * scale
    value = tl.where(c_first, c, value)
    d_first = d * scale > value * scale
    return tl.where(d_first, d, value), b_first, c_first, d_first


@triton.jit
def _scale_and_shift(stats, channel, channels):
    """The first two rows of stats (4, C)."""
    return tl.load(stats + channel), tl.load(stats + channels + channel)


@triton.jit
def _mean_and_inverse(stats, channel, channels):
    """The last two rows of stats (4, C): the mean, and 1 / standard deviation."""
    return tl.load(stats + 2 * channels + channel), tl.load(stats + 3 * channels + channel)


@_kernel
def moments(x, partial, rows, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Each tile's mean, and its sum of squared deviations from that -> partial (tiles, 2, C).

    Deviations from a tile's own mean keep the digits that a sum of squares would lose where the mean is far from 0.
    """
    row, channel, inside = _tile(rows, channels, ROWS, CHANNELS)
    values = _load(x + row * channels + channel, inside)
    count = tl.minimum(rows - tl.program_id(0) * ROWS, ROWS).to(tl.float32)
    mean = tl.sum(values, 0)[None, :] / count
    deviations = tl.where(inside, values - mean, 0.0)
    out = partial + tl.program_id(0) * 2 * channels + channel
    tl.store(out, mean)
    tl.store(out + channels, tl.sum(deviations * deviations, 0)[None, :])


@_kernel
def statistics(
    partial,
    weight,
    bias,
    running_mean,
    running_var,
    stats,
    rows,
    channels,
    tiles,
    rows_a_tile,
    momentum,
    epsilon,
    TILES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The tiles' moments -> stats (4, C): scale, shift, mean, 1 / standard deviation; and the running statistics."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    tile = tl.arange(0, TILES)[:, None]
    inside = tile < tiles
    at = partial + tile * 2 * channels + channel

    # The mean of all rows, and their variance: within the tiles, and between the tiles' means.
    means = tl.load(at, mask=inside, other=0.0)
    squares = tl.load(at + channels, mask=inside, other=0.0)
    counts = tl.where(inside, tl.minimum(rows - tile * rows_a_tile, rows_a_tile), 0).to(tl.float32)
    mean = tl.sum(means * counts, 0)[None, :] / rows
    deviations = means - mean
    variance = (tl.sum(squares + counts * deviations * deviations, 0) / rows)[None, :]

    # What `apply` and the backward pass read: the layer computes scale x + shift.
    inverse = 1.0 / tl.sqrt(variance + epsilon)
    scale = tl.load(weight + channel) * inverse
    tl.store(stats + channel, scale)
    tl.store(stats + channels + channel, tl.load(bias + channel) - mean * scale)
    tl.store(stats + 2 * channels + channel, mean)
    tl.store(stats + 3 * channels + channel, inverse)

    # As PyTorch does it: the running variance takes in the unbiased one.
    before = tl.load(running_mean + channel)
    tl.store(running_mean + channel, before + momentum * (mean - before))
    before = tl.load(running_var + channel)
    tl.store(running_var + channel, before + momentum * (variance * rows / (rows - 1) - before))


@_kernel
def apply(
    x,
    stats,
    y,
    rows,
    channels,
    width,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """y = ReLU(scale x + shift), or the largest of four such; `rows` are y's."""
    row, channel, inside = _tile(rows, channels, ROWS, CHANNELS)
    scale, shift = _scale_and_shift(stats, channel, channels)
    if POOL:
        a, b, c, d = _load_four(x + _first_input(row, width) * channels + channel, inside, channels, width)
        upper = tl.maximum(a * scale + shift, b * scale + shift)
        largest = tl.maximum(upper, tl.maximum(c * scale + shift, d * scale + shift))
    else:
        largest = _load(x + row * channels + channel, inside) * scale + shift
    # Not tl.maximum, which drops a NaN: a loss that has become NaN must be seen.
    tl.store(y + row * channels + channel, tl.where(largest <= 0.0, 0.0, largest), mask=inside)


@_kernel
def backward_sums(
    x,
    dy,
    stats,
    partial,
    rows,
    channels,
    width,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Each tile's sums of the gradient behind ReLU, and of that times the normalised input -> partial (tiles, 2, C).

    These two sums, over all rows, are the gradients of batch norm's bias and weight.
    """
    row, channel, inside = _tile(rows, channels, ROWS, CHANNELS)
    scale, shift = _scale_and_shift(stats, channel, channels)
    mean, inverse = _mean_and_inverse(stats, channel, channels)
    gradient = _load(dy + row * channels + channel, inside)
    if POOL:
        a, b, c, d = _load_four(x + _first_input(row, width) * channels + channel, inside, channels, width)
        value, _, _, _ = _largest(a, b, c, d, scale)
    else:
        value = _load(x + row * channels + channel, inside)
    gradient = tl.where(value * scale + shift > 0, gradient, 0.0)
    out = partial + tl.program_id(0) * 2 * channels + channel
    tl.store(out, tl.sum(gradient, 0)[None, :])
    tl.store(out + channels, tl.sum(gradient * (value - mean) * inverse, 0)[None, :])


@_kernel
def gradients(
    partial,
    parameter_gradients,
    channels,
    tiles,
    TILES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The tiles' sums -> parameter_gradients (2, C): of batch norm's bias and weight."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    tile = tl.arange(0, TILES)[:, None]
    at = partial + tile * 2 * channels + channel
    tl.store(parameter_gradients + channel, tl.sum(tl.load(at, mask=tile < tiles, other=0.0), 0)[None, :])
    tl.store(
        parameter_gradients + channels + channel,
        tl.sum(tl.load(at + channels, mask=tile < tiles, other=0.0), 0)[None, :],
    )


@_kernel
def backward_input(
    x,
    dy,
    stats,
    parameter_gradients,
    dx,
    rows,
    inputs,
    channels,
    width,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """dx, of `inputs` rows; `rows` are dy's.

    dx = scale (g - mean of g - normalised x times the mean of g times normalised x), where g is dy as it passes ReLU
    and pooling: to the input that was the largest, and 0 to the others.
    """
    row, channel, inside = _tile(rows, channels, ROWS, CHANNELS)
    scale, shift = _scale_and_shift(stats, channel, channels)
    mean, inverse = _mean_and_inverse(stats, channel, channels)

    # The loss also depends on x by way of the mean, and by way of the variance.
    by_mean = tl.load(parameter_gradients + channel) / inputs
    by_variance = tl.load(parameter_gradients + channels + channel) / inputs * inverse

    gradient = _load(dy + row * channels + channel, inside)
    if POOL:
        at = _first_input(row, width) * channels + channel
        a, b, c, d = _load_four(x + at, inside, channels, width)
        value, b_first, c_first, d_first = _largest(a, b, c, d, scale)
        gradient = tl.where(value * scale + shift > 0, gradient, 0.0)

        # g goes to the largest alone: to d if it beat a, b and c, else to c if it beat a and b, else to b or a.
        to_d = tl.where(d_first, gradient, 0.0)
        to_c = tl.where(c_first, gradient, 0.0) - tl.where(c_first, to_d, 0.0)
        rest = gradient - to_c - to_d
        to_b = tl.where(b_first, rest, 0.0)
        to_a = rest - to_b

        tl.store(dx + at, scale * (to_a - by_mean - (a - mean) * by_variance), mask=inside)
        tl.store(dx + at + channels, scale * (to_b - by_mean - (b - mean) * by_variance), mask=inside)
        at += width * channels
        tl.store(dx + at, scale * (to_c - by_mean - (c - mean) * by_variance), mask=inside)
        tl.store(dx + at + channels, scale * (to_d - by_mean - (d - mean) * by_variance), mask=inside)
    else:
        at = row * channels + channel
        value = _load(x + at, inside)
        gradient = tl.where(value * scale + shift > 0, gradient, 0.0)
        tl.store(dx + at, scale * (gradient - by_mean - (value - mean) * by_variance), mask=inside)
