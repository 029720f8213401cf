"""Muon (Jordan et al. 2024): each step moves a convolution's kernel in all its directions alike.

A gradient is strong in few directions and weak in most; the nearest matrix with orthonormal rows is as strong in all.
Batch norm takes a kernel's norm out of what the network computes, so here every kernel keeps the norm that it began
with, and the learning rate is the share of it that a step moves (Jordan's airbench94_muon.py does the same).
"""

from typing import Any

import torch
from torch import Tensor

# Of the quintic Newton-Schulz iteration: three rounds bring all but the weakest directions near 1 (Jordan et al. 2024).
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 3
TINY = 1e-12  # a gradient of zeros moves nothing


class Muon(torch.optim.SGD):
    """SGD, but for the groups that say `kernels`: of convolutions (D, C, H, W) with D <= C H W, trained by Muon.

    Its matrix products are in the precision of the autocast that surrounds `step`.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no caller has a closure
        for group in self.param_groups:
            for kernel in group["params"] if group["kernels"] else ():
                if kernel.grad is not None:
                    _move(kernel, _gradient(kernel.grad, self.state[kernel], group), self.state[kernel], group["lr"])
                kernel.grad = None  # SGD passes over it
        super().step()


def _gradient(newest: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    """With those of the steps before, as SGD has it."""
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(newest)
    sum_of_all = state["momentum_buffer"].mul_(group["momentum"]).add_(newest)
    return newest.add(sum_of_all, alpha=group["momentum"]) if group["nesterov"] else sum_of_all


def _move(kernel: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: Tensor | float) -> None:
    """By `lr` of its norm against the gradient, and back to its norm."""
    if "norm" not in state:
        state["norm"] = kernel.norm()
    # As (D, H W C), which is a view where the memory's format is channels_last; no order of columns is special.
    direction = orthogonal(gradient.permute(0, 2, 3, 1).flatten(1)).to(kernel.dtype)
    direction = direction.view(len(kernel), *kernel.shape[2:], -1).permute(0, 3, 1, 2)
    kernel.sub_(direction * (lr * state["norm"] / direction.norm().clamp_min(TINY)))
    kernel.mul_(state["norm"] / kernel.norm())


def orthogonal(matrix: Tensor) -> Tensor:
    """(D, N), D <= N -> about the nearest matrix with orthonormal rows.

    Its singular values are between 0.68 and 1.21; those that were below 0.018 of the matrix's norm are smaller.

    Each round multiplies the matrix by a polynomial of its Gram matrix. All of these commute, so they are multiplied
    with each other, D x D, and the matrix itself, which is several times as long, only in the end.
    """
    matrix = matrix / matrix.norm().clamp_min(TINY)
    gram = matrix @ matrix.T
    rounds = _polynomial(gram)
    for _ in range(ROUNDS - 1):
        rounds = _polynomial(rounds @ gram @ rounds) @ rounds
    return rounds @ matrix


def _polynomial(gram: Tensor) -> Tensor:
    result = B * gram + C * (gram @ gram)
    result.diagonal().add_(A)
    return result
