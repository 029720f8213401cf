"""The kernels, run by Triton's interpreter on the CPU where there is no GPU, beside PyTorch's layers."""

from unittest.mock import Mock

import pytest
import torch
from torch import nn

from raycifar.networks import fused_norm
from raycifar.networks.cost import blocks
from tests.support.errors import FULL_MEMORY

pytest.importorskip("triton")
from raycifar.networks import norm_kernels

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"


def layer(channels=64):
    made = nn.BatchNorm2d(channels, device=DEVICE)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(-1.5, 2, channels))  # a pooling's largest may be the smallest that it was
        made.bias.copy_(torch.linspace(-1, 1, channels))
        made.running_mean.fill_(0.5)
    return made


def images(*shape, dtype=torch.float32, seed=1):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2 + 3
    return drawn.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def plain(made, given, pools):
    result = made(given)
    return (nn.functional.max_pool2d(result, 2) if pools else result).relu()


def both(shape, pools, dtype=torch.float32):
    """Each way's result, gradients and running statistics."""
    told = []
    for way in (plain, fused_norm.norm_pool_relu):
        made, given = layer(shape[1]), images(*shape, dtype=dtype)
        result = way(made, given, pools)
        result.backward(images(*result.shape, dtype=dtype, seed=2).detach() - 3)
        told.append([result, given.grad, made.weight.grad, made.bias.grad, made.running_mean, made.running_var])
    return zip(*told, strict=True)


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("shape", [(3, 64, 4, 4), (5, 128, 2, 2), (9, 64, 6, 4), (2, 64, 16, 16)])
def test_results_gradients_and_statistics_are_those_of_pytorchs_layers(shape, pools):
    for expected, given in both(shape, pools):
        assert given.shape == expected.shape
        assert torch.allclose(given, expected, rtol=1e-4, atol=1e-4)


def test_bf16_differs_by_its_rounding_alone():
    for expected, given in both((3, 64, 4, 4), False, torch.bfloat16):
        assert given.dtype == expected.dtype
        assert torch.allclose(
            given.float(), expected.float(), rtol=2e-2, atol=2e-2 * expected.float().abs().max().item()
        )


def test_a_mean_far_from_zero_costs_no_digits():
    made, far = layer(), images(4, 64, 8, 8).detach() + 1000
    expected = plain(made, far, False)
    assert torch.allclose(fused_norm.norm_pool_relu(made, far, False), expected, atol=1e-3)


@pytest.mark.parametrize("pools", [False, True])
def test_a_loss_that_is_no_number_is_seen(pools):
    given = images(3, 64, 4, 4).detach()
    given[0, 5, 1, 1] = float("nan")
    result = fused_norm.norm_pool_relu(layer(), given, pools)
    assert result[:, 5].isnan().all()
    assert not result[:, 6].isnan().any()


def test_images_without_a_gradient_get_none():
    made, given = layer(), images(3, 64, 4, 4).detach()
    fused_norm.norm_pool_relu(made, given, True).sum().backward()
    assert given.grad is None
    assert made.weight.grad is not None


def test_the_trunk_gives_what_its_layers_give(monkeypatch):
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 64, 3, padding=1), layer(), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)]
    layers += [layer(), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
    trunk = fused_norm.FusedLayers(*layers).to(DEVICE)
    given, fused = images(2, 3, 8, 8).detach(), []
    expected = nn.Sequential(*layers)(given)
    monkeypatch.setattr(fused_norm, "at_once", lambda made, _: fused.append(made) or True)
    assert torch.allclose(trunk(given), expected, rtol=1e-4, atol=1e-4)
    assert fused == [layers[1], layers[4]]


def test_only_what_trains_on_a_gpu_is_done_at_once(monkeypatch):
    monkeypatch.setattr(fused_norm, "works", lambda device, dtype: True)
    given = images(2, 64, 4, 4).detach()
    assert fused_norm.at_once(layer(), given) == GPU
    with torch.no_grad():
        assert not fused_norm.at_once(layer(), given)
    assert not fused_norm.at_once(layer().eval(), given)


class Asked:
    """Stands for a kernel: notes what it would have to be compiled for, and computes nothing."""

    def __init__(self, name, kinds):
        self.name, self.kinds = name, kinds

    def __getitem__(self, grid):
        return lambda first, *_, **settings: self.kinds.add((self.name, first.dtype, *settings.items()))


def test_an_epochs_last_batch_is_computed_by_the_kernels_of_the_others(monkeypatch):
    kinds = set()
    for name in ("moments", "statistics", "apply", "backward_sums", "gradients", "backward_input"):
        monkeypatch.setattr(norm_kernels, name, Asked(name, kinds))
    for batch in (128, 72):
        for block, (side, convolutions) in enumerate(blocks()):
            for pools in (False, True) if block else (False,):
                shape = (batch, convolutions[-1][1], side, side)
                given = torch.empty(shape, dtype=torch.bfloat16, device=DEVICE, requires_grad=True)
                fused_norm.norm_pool_relu(layer(shape[1]), given, pools).sum().backward()
        if batch == 128:
            of_whole_batches = set(kinds)
    assert kinds == of_whole_batches
    assert len(kinds) < 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_on_a_few_numbers_finds_a_wrong_kernel(monkeypatch, dtype):
    assert fused_norm.self_test(torch.device(DEVICE), dtype) == ""
    right = fused_norm.norm_pool_relu
    monkeypatch.setattr(fused_norm, "norm_pool_relu", lambda *arguments: right(*arguments) * 1.05)
    assert "other numbers" in fused_norm.self_test(torch.device(DEVICE), dtype)


def test_where_triton_does_not_run_pytorchs_layers_do(monkeypatch, caplog):
    def missing(*_):
        raise RuntimeError("Failed to find C compiler\nand more")

    monkeypatch.setattr(fused_norm, "norm_pool_relu", missing)
    fused_norm.works.cache_clear()
    try:
        assert not fused_norm.works(torch.device(DEVICE), torch.float32)
    finally:
        fused_norm.works.cache_clear()
    assert "Failed to find C compiler" in caplog.text
    assert "and more" not in caplog.text


@pytest.mark.parametrize("error", FULL_MEMORY)
def test_a_full_memory_is_no_missing_triton(monkeypatch, error):
    monkeypatch.setattr(fused_norm, "norm_pool_relu", Mock(side_effect=error))
    fused_norm.works.cache_clear()
    with pytest.raises(type(error), match=str(error)):
        fused_norm.works(torch.device(DEVICE), torch.float32)


@pytest.mark.parametrize("pools", [False, True])
def test_large_tiles_and_many_of_them_are_combined_as_in_a_large_batch(monkeypatch, pools):
    monkeypatch.setattr(fused_norm, "TILES", 4)
    monkeypatch.setattr(fused_norm, "FEW", 2)
    rows, tiles, _ = fused_norm.summing_grid(5 * 8 * 8, 64, 1)
    assert (rows > fused_norm.ROWS, tiles > fused_norm.FEW) == (True, True)
    for expected, given in both((5, 64, 8, 8), pools):
        assert torch.allclose(given, expected, rtol=1e-4, atol=1e-4)


class OnAGpu:
    """Stands for images of so many pixels in all."""

    is_cuda, device, dtype = True, torch.device("cuda"), torch.float32

    def __init__(self, pixels):
        self.pixels = pixels

    def __getitem__(self, _):
        return torch.empty(self.pixels, device="meta")


def test_what_the_kernels_cannot_do_is_left_to_pytorchs_layers(monkeypatch):
    monkeypatch.setattr(fused_norm, "works", lambda device, dtype: True)
    most = fused_norm.MOST_COMBINED * fused_norm.MOST_ROWS
    of_all, narrow = layer(), layer(96)
    of_all.momentum = None  # its statistics are the mean of all batches
    assert fused_norm.at_once(layer(), OnAGpu(most))
    assert not fused_norm.at_once(layer(), OnAGpu(most + 1))
    assert not fused_norm.at_once(narrow, OnAGpu(4))
    assert not fused_norm.at_once(of_all, OnAGpu(4))
