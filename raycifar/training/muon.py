"""Muon (Jordan et al. 2024): each step moves a convolution's kernel in all its directions alike.

A gradient is strong in few directions and weak in most; the nearest matrix with orthonormal rows is as strong in all.
With batch norm, what the network computes does not depend on a kernel's norm. So every kernel keeps the norm that it
began with, to within a step, and the learning rate is the share of that norm that a step moves (as in Jordan's
airbench94_muon.py).

On a GPU, launching a small operation takes longer than computing it, so kernels with the same number of output channels
are multiplied as one batch. A large operation takes as long as reading and writing its numbers, so each is read as
seldom as possible.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from raycifar.training.eager import SGD

# Coefficients of the quintic Newton-Schulz iteration, s -> A s + B s^3 + C s^5 for each singular value s: three rounds
# bring all but the weakest near 1 (Jordan et al. 2024).
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 3
TINY = 1e-18  # a gradient of zeros moves nothing

# Whether Muon makes its passes over the kernels with muon_kernels.py, and multiplies narrow kernels together with less
# narrow ones: fewer launches and fewer bytes on paper (docs/benchmarks.md). Off, for it has not run on a GPU.
FUSED = False
BLOCK = 1024  # numbers of a program of muon_kernels.py


class Muon(SGD):
    """SGD, except for groups whose "kernels" is true: convolutions' kernels (D, C, H, W), D <= C H W, learn by Muon.

    Matrix products are computed in the precision of the autocast that surrounds `step`.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no caller has a closure
        for group in self.param_groups:
            kernels = [kernel for kernel in group["params"] if group["kernels"] and kernel.grad is not None]
            if kernels:
                self._move(kernels, group)
            for kernel in kernels:
                kernel.grad = None  # SGD skips parameters without a gradient
        super().step()

    def _move(self, kernels: list[Tensor], group: dict[str, Any]) -> None:
        """Scale each kernel back to the norm that it began with, and step against its gradient by the share `lr`."""
        for kernel in kernels:
            if "norm" not in self.state[kernel]:
                self.state[kernel].update(norm=kernel.norm(), momentum_buffer=torch.zeros_like(kernel))
        norms = torch.stack([self.state[kernel]["norm"] for kernel in kernels])
        shrinks = norms / torch.stack(torch._foreach_norm(kernels))
        if FUSED and fits(kernels):
            with torch.cuda.device_of(kernels[0]):  # Triton's kernels run on the current one
                self._move_fused(kernels, shrinks, -group["lr"] * norms, group)
            return
        steps = _steps(self._gradients(kernels, group), -group["lr"] * norms)
        for kernel, shrink, step in zip(kernels, shrinks, steps, strict=True):
            torch.addcmul(step, kernel, shrink, out=kernel)

    def _move_fused(self, kernels: list[Tensor], shrinks: Tensor, lengths: Tensor, group: dict[str, Any]) -> None:
        """The same with one pass before the matrix products and one behind them."""
        from raycifar.training import muon_kernels  # Triton is not everywhere

        matrices = [self._gathered(kernel, group) for kernel in kernels]
        for members in by_width(matrices):
            steps = orthogonal([matrices[i] for i in members], torch.stack([lengths[i] for i in members]))
            for i, step in zip(members, steps, strict=True):
                size = step.numel()
                muon_kernels.move[(-(-size // BLOCK),)](kernels[i], step, shrinks[i], size, BLOCK=BLOCK)

    def _gathered(self, kernel: Tensor, group: dict[str, Any]) -> Tensor:
        """The kernel's gradient with momentum as a matrix (D, H W C), in the precision of the products."""
        from raycifar.training import muon_kernels

        assert kernel.grad is not None  # noqa: S101  # `step` chose those that have one
        gradient = kernel.grad.contiguous(memory_format=torch.channels_last)
        matrix = torch.empty(len(kernel), kernel[0].numel(), dtype=_dtype(kernel.device), device=kernel.device)
        muon_kernels.gather[(-(-matrix.numel() // BLOCK),)](
            gradient, self.state[kernel]["momentum_buffer"], matrix, matrix.numel(), group["momentum"],
            NESTEROV=group["nesterov"], BLOCK=BLOCK,
        )  # fmt: skip
        return matrix

    def _gradients(self, kernels: list[Tensor], group: dict[str, Any]) -> Sequence[Tensor]:
        """Gradients with momentum, as SGD's but for their lengths, which do not matter here."""
        newest = [kernel.grad.to(kernel.dtype) for kernel in kernels if kernel.grad is not None]
        means = [self.state[kernel]["momentum_buffer"] for kernel in kernels]
        torch._foreach_lerp_(means, newest, 1 - group["momentum"])
        return torch._foreach_lerp(newest, means, group["momentum"]) if group["nesterov"] else means


def take_gradients_as_they_are(kernels: Sequence[Tensor]) -> None:
    """Let the kernels' gradients keep the precision they are computed in, where this PyTorch can: a cast less each."""
    for kernel in kernels if hasattr(Tensor, "grad_dtype") else []:
        kernel.grad_dtype = None


def fits(kernels: Sequence[Tensor]) -> bool:
    """Whether all kernels lie in channels_last memory, one number after the other, as float32."""
    return all(k.is_contiguous(memory_format=torch.channels_last) and k.dtype == torch.float32 for k in kernels)


def by_width(matrices: Sequence[Tensor]) -> list[list[int]]:
    """The numbers of those with the most rows, and of all others: what is multiplied as one batch.

    The others are padded to the rows of the widest among them, which costs less than the launches of one more batch.
    """
    most = max(len(matrix) for matrix in matrices)
    widest = [i for i, matrix in enumerate(matrices) if len(matrix) == most]
    others = [i for i, matrix in enumerate(matrices) if len(matrix) < most]
    return [members for members in (widest, others) if members]


def _steps(gradients: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
    """The gradients (D, C, H, W) as orthogonal matrices, scaled to the given lengths, in the same shapes."""
    steps: list[Tensor] = []
    for _, pairs in groupby(zip(gradients, lengths, strict=True), lambda pair: len(pair[0])):
        batch, batch_lengths = zip(*pairs, strict=True)  # of one D
        # As (D, H W C), which is a view of channels_last memory; the order of columns does not matter.
        matrices = [gradient.permute(0, 2, 3, 1).flatten(1) for gradient in batch]
        results = orthogonal(matrices, torch.stack(batch_lengths))
        shapes = [(len(g), *g.shape[2:], g.shape[1]) for g in batch]
        steps += [step.view(shape).permute(0, 3, 1, 2) for step, shape in zip(results, shapes, strict=True)]
    return steps


def orthogonal(matrices: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
    """K matrices (D, N), D <= N, each with its own D and N -> about the nearest ones with orthonormal rows, scaled.

    They are scaled to the Frobenius norms `lengths` (K,). The singular values of a result are within a factor of 1.8
    of each other, except for those that were below 0.018 of the matrix's norm, which are smaller.

    Each round of the iteration multiplies a matrix X by a polynomial of its Gram matrix X X^T. These polynomials
    commute, so they are multiplied with each other first, as one batch of D x D matrices, from which the norms follow,
    too. The matrices X, which are several times as long, are read only for the Gram matrix and for the last product.
    """
    # The Gram matrices of the matrices divided by their norms, so that no singular value is above 1.
    matrices = [matrix.to(_dtype(matrix.device)) for matrix in matrices]
    gram = _grams(matrices)
    squares = gram.diagonal(dim1=1, dim2=2).float().sum(1).clamp_min(TINY)
    gram = gram / squares.to(gram.dtype)[:, None, None]

    # The product of all rounds' polynomials: after a round with product P, the Gram matrix is P G P.
    rounds = _polynomial(gram)
    for _ in range(ROUNDS - 1):
        rounds = _polynomial(rounds @ gram @ rounds) @ rounds

    # The squared norm of P X is the trace of P G P; P is scaled so that P X has the length asked for.
    shares = ((rounds @ gram).float() * rounds).sum((1, 2)).clamp_min(TINY)
    rounds = (rounds * (lengths / (shares * squares).sqrt())[:, None, None]).to(gram.dtype)
    rows = [len(matrix) for matrix in matrices]
    return [product[:d, :d] @ matrix for product, matrix, d in zip(rounds, matrices, rows, strict=True)]


def _grams(matrices: Sequence[Tensor]) -> Tensor:
    """X X^T of each matrix X (D, N), as one batch (K, largest D, largest D).

    Those of fewer rows are padded with zeros, as if X had rows of zeros: products with the Gram matrix stay zero
    there, and so does their part of every trace.
    """
    most = max(len(matrix) for matrix in matrices)
    if all(len(matrix) == most for matrix in matrices):
        return torch.stack([matrix @ matrix.T for matrix in matrices])
    grams = matrices[0].new_zeros(len(matrices), most, most)
    for gram, matrix in zip(grams, matrices, strict=True):
        torch.mm(matrix, matrix.T, out=gram[: len(matrix), : len(matrix)])
    return grams


def _polynomial(gram: Tensor) -> Tensor:
    """A I + B G + C G^2, for a batch of Gram matrices G (K, D, D)."""
    result = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
    result.diagonal(dim1=1, dim2=2).add_(A)
    return result


def _dtype(device: torch.device) -> torch.dtype:
    """The precision of matrix products: that of the surrounding autocast, else float32."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
