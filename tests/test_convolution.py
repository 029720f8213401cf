import pytest
import torch
from torch import nn

from raycifar.convolution import SMALL, Convolution, weight_gradient


def gradients(layer, images, target):
    for tensor in (images, *layer.parameters()):
        tensor.grad = None
    nn.functional.mse_loss(layer(images), target).backward()
    return [images.grad, layer.weight.grad, layer.bias.grad]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (2, 2), (4, 4), (SMALL, 5), (SMALL, SMALL), (9, 9)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_are_those_of_pytorchs_convolution(height, width, memory):
    torch.manual_seed(0)
    ours, theirs = Convolution(5, 7).double(), nn.Conv2d(5, 7, 3, padding=1).double()
    ours.load_state_dict(theirs.state_dict())
    ours, theirs = ours.float().to(memory_format=memory), theirs.float().to(memory_format=memory)
    images = torch.randn(6, 5, height, width).to(memory_format=memory).requires_grad_()
    target = torch.randn(6, 7, height, width)
    assert torch.equal(ours(images), theirs(images))
    for mine, expected in zip(gradients(ours, images, target), gradients(theirs, images, target), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_the_weight_gradient_is_exact_in_double_precision():
    torch.manual_seed(0)
    images, gradient = torch.randn(3, 4, 5, 6).double(), torch.randn(3, 2, 5, 6).double()
    expected = nn.grad.conv2d_weight(images, (2, 4, 3, 3), gradient, padding=1)
    torch.testing.assert_close(weight_gradient(images, gradient), expected, rtol=1e-12, atol=1e-12)


def uses_products(layer, images):
    return layer(images).grad_fn.name().startswith("_ByPosition")


def test_it_is_pytorchs_own_where_nothing_is_gained():
    small, large = torch.randn(2, 5, SMALL, SMALL), torch.randn(2, 5, SMALL + 1, SMALL)
    layer = Convolution(5, 7)
    assert uses_products(layer, small)
    assert not uses_products(layer, large)
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses_products(layer, small)
    layer.weight.requires_grad_(False)
    assert not uses_products(layer, small)


def test_a_frozen_layer_below_needs_no_gradient_of_its_images():
    layer, images = Convolution(3, 4), torch.randn(2, 3, 4, 4)
    layer(images).sum().backward()
    assert images.grad is None
    assert layer.bias.grad.tolist() == [2 * 16.0] * 4
