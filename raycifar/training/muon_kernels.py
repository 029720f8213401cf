"""Triton's kernels of Muon's passes over gradients and kernels, which read and write each number once.

All tensors of a launch have the same numbers in the same order in memory; a program works on BLOCK of them.
Not run on a GPU yet: tested in Triton's interpreter.
"""

import triton
import triton.language as tl

_kernel = triton.jit(do_not_specialize=["size"])  # one kernel serves all sizes: no address follows from them


@triton.jit
def _block(size, BLOCK: tl.constexpr):
    """The program's numbers, and which of them exist."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return at, at < size


@_kernel
def gather(gradient, mean, matrix, size, momentum, NESTEROV: tl.constexpr, BLOCK: tl.constexpr):
    """mean += (1 - momentum) (gradient - mean); then what the step follows -> matrix, in the matrix' precision.

    That is the mean, or with Nesterov's momentum gradient + momentum (mean - gradient).
    """
    at, inside = _block(size, BLOCK)
    newest = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    before = tl.load(mean + at, mask=inside, other=0.0)
    after = before + (1 - momentum) * (newest - before)
    tl.store(mean + at, after, mask=inside)
    followed = newest + momentum * (after - newest) if NESTEROV else after
    tl.store(matrix + at, followed.to(matrix.dtype.element_ty), mask=inside)


@_kernel
def move(kernel, step, shrink, size, BLOCK: tl.constexpr):
    """kernel = kernel * shrink + step; `shrink` is one number, `step` of any precision."""
    at, inside = _block(size, BLOCK)
    moved = tl.load(kernel + at, mask=inside, other=0.0) * tl.load(shrink)
    tl.store(kernel + at, moved + tl.load(step + at, mask=inside, other=0.0).to(tl.float32), mask=inside)
