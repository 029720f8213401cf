"""Muon (Jordan et al. 2024): each step moves a convolution's kernel in all its directions alike.

A gradient is strong in few directions and weak in most; the nearest matrix with orthonormal rows is as strong in all.
Batch norm takes a kernel's norm out of what the network computes, so here every kernel keeps the norm that it began
with, to within a step, and the learning rate is the share of it that a step moves (as in Jordan's airbench94_muon.py).

A GPU takes longer to start a small operation than to do it, so kernels of one depth are multiplied as one batch. A
large one takes as long as its numbers take to be read and written, so each is read as few times as can be.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

# Of the quintic Newton-Schulz iteration: three rounds bring all but the weakest directions near 1 (Jordan et al. 2024).
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 3
TINY = 1e-18  # a gradient of zeros moves nothing


class Muon(torch.optim.SGD):
    """SGD, but for the groups that say `kernels`: of convolutions (D, C, H, W) with D <= C H W, trained by Muon.

    Its matrix products are in the precision of the autocast that surrounds `step`.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no caller has a closure
        for group in self.param_groups:
            kernels = [kernel for kernel in group["params"] if group["kernels"] and kernel.grad is not None]
            if kernels:
                self._move(kernels, group)
            for kernel in kernels:
                kernel.grad = None  # SGD passes over it
        super().step()

    def _move(self, kernels: list[Tensor], group: dict[str, Any]) -> None:
        """Each back to its norm, and by the share `lr` of it against its gradient."""
        for kernel in kernels:
            if "norm" not in self.state[kernel]:
                self.state[kernel].update(norm=kernel.norm(), momentum_buffer=torch.zeros_like(kernel))
        norms = torch.stack([self.state[kernel]["norm"] for kernel in kernels])  # that they began with
        shrinks = norms / torch.stack(torch._foreach_norm(kernels))
        steps = _steps(self._gradients(kernels, group), -group["lr"] * norms)
        for kernel, shrink, step in zip(kernels, shrinks, steps, strict=True):
            torch.addcmul(step, kernel, shrink, out=kernel)

    def _gradients(self, kernels: list[Tensor], group: dict[str, Any]) -> Sequence[Tensor]:
        """With those of the steps before, weighted as SGD does it; how long they are does not matter."""
        newest = [kernel.grad for kernel in kernels if kernel.grad is not None]
        means = [self.state[kernel]["momentum_buffer"] for kernel in kernels]
        torch._foreach_lerp_(means, newest, 1 - group["momentum"])
        return torch._foreach_lerp(newest, means, group["momentum"]) if group["nesterov"] else means


def _steps(gradients: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
    """Along the gradients, made orthogonal; of the given lengths."""
    steps: list[Tensor] = []
    for _, same in groupby(zip(gradients, lengths, strict=True), lambda pair: len(pair[0])):
        of_depth, their_lengths = zip(*same, strict=True)
        # As (D, H W C), which is a view where the memory's format is channels_last; no order of columns is special.
        matrices = [gradient.permute(0, 2, 3, 1).flatten(1) for gradient in of_depth]
        turned = orthogonal(matrices, torch.stack(their_lengths))
        shapes = [(len(g), *g.shape[2:], g.shape[1]) for g in of_depth]
        steps += [step.view(shape).permute(0, 3, 1, 2) for step, shape in zip(turned, shapes, strict=True)]
    return steps


def orthogonal(matrices: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
    """K matrices (D, N), D <= N, each with an N of its own -> about the nearest ones with orthonormal rows, scaled.

    Scaled to the Frobenius norms `lengths` (K,). All singular values of one are within a factor of 1.8, but for those
    that were below 0.018 of the matrix's norm, which are smaller.

    Each round of the iteration multiplies a matrix by a polynomial of its Gram matrix. All of these commute, so they
    are multiplied with each other, D x D, as one batch; norms are known from there, too. The matrices themselves,
    which are several times as long, are read for the Gram matrix and for the last product alone.
    """
    matrices = [matrix.to(_dtype(matrix.device)) for matrix in matrices]
    gram = torch.stack([matrix @ matrix.T for matrix in matrices])
    squares = gram.diagonal(dim1=1, dim2=2).float().sum(1).clamp_min(TINY)
    gram = gram / squares.to(gram.dtype)[:, None, None]
    rounds = _polynomial(gram)
    for _ in range(ROUNDS - 1):
        rounds = _polynomial(rounds @ gram @ rounds) @ rounds
    shares = ((rounds @ gram).float() * rounds).sum((1, 2)).clamp_min(TINY)  # of `squares`, in what comes out
    rounds = (rounds * (lengths / (shares * squares).sqrt())[:, None, None]).to(gram.dtype)
    return [turn @ matrix for turn, matrix in zip(rounds, matrices, strict=True)]


def _polynomial(gram: Tensor) -> Tensor:
    result = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
    result.diagonal(dim1=1, dim2=2).add_(A)
    return result


def _dtype(device: torch.device) -> torch.dtype:
    """Of matrix products, under the autocast that is on, if one is."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
