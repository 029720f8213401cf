import pytest
import torch
from torch import nn

from raycifar.networks import convolution
from raycifar.networks.convolution import TINY, Convolution, weight_gradient


def gradients(layer, images, target):
    for tensor in (images, *layer.parameters()):
        tensor.grad = None
    nn.functional.mse_loss(layer(images), target).backward()
    return [images.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.fixture(params=["AVX2", "AVX512"])
def processor(request, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    return request.param


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (4, 4), (8, 5), (8, 8), (9, 9)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_results_and_gradients_are_those_of_pytorchs_convolution(height, width, memory, bias, stride):
    torch.manual_seed(0)
    ours, theirs = Convolution(5, 7, bias, stride), nn.Conv2d(5, 7, 3, stride, padding=1, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    ours, theirs = ours.to(memory_format=memory), theirs.to(memory_format=memory)
    images = torch.randn(6, 5, height, width).to(memory_format=memory).requires_grad_()
    target = torch.randn(6, 7, -(-height // stride), -(-width // stride))
    torch.testing.assert_close(ours(images), theirs(images))
    assert max(height, width) <= TINY or torch.equal(ours(images), theirs(images))
    for mine, expected in zip(gradients(ours, images, target), gradients(theirs, images, target), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_in_bf16_they_are_as_near_to_the_exact_ones_as_pytorchs(side, stride):
    torch.manual_seed(0)
    ours, theirs = Convolution(64, 32, stride=stride), nn.Conv2d(64, 32, 3, stride, padding=1)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(32, 64, side, side, requires_grad=True)
    target = torch.randn(32, 32, side // stride, side // stride)
    exact = gradients(theirs, images, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(images).dtype == torch.bfloat16
        mine, pytorchs = gradients(ours, images, target), gradients(theirs, images, target)
    for our, their, expected in zip(mine, pytorchs, exact, strict=True):
        assert our.dtype == torch.float32
        assert (our - expected).norm() < 1.1 * (their - expected).norm() < 0.02 * expected.norm()


def test_the_weight_gradient_is_exact_in_double_precision():
    torch.manual_seed(0)
    images, gradient = torch.randn(3, 4, 5, 6).double(), torch.randn(3, 2, 5, 6).double()
    expected = nn.grad.conv2d_weight(images, (2, 4, 3, 3), gradient, padding=1)
    torch.testing.assert_close(weight_gradient(images, gradient), expected, rtol=1e-12, atol=1e-12)
    expected = nn.grad.conv2d_weight(images, (2, 4, 3, 3), gradient[:, :, :3, :3], stride=2, padding=1)
    torch.testing.assert_close(weight_gradient(images, gradient[:, :, :3, :3], 2), expected, rtol=1e-12, atol=1e-12)


def made_by(layer, images):
    return layer(images).grad_fn.name()


def test_it_is_pytorchs_own_where_nothing_is_gained(processor):
    layer, fp32 = Convolution(5, 7), {"AVX2": 8, "AVX512": 2}[processor]
    tiny, four, largest = torch.randn(2, 5, 2, 2), torch.randn(2, 5, 4, 4), torch.randn(2, 5, fp32, fp32)
    assert made_by(layer, tiny).startswith("_AsMatrix")
    assert made_by(layer, largest).startswith("_AsMatrix" if fp32 == 2 else "_ByPosition")
    assert made_by(layer, torch.randn(2, 5, fp32 + 1, 2)) == "ConvolutionBackward0"
    with torch.autocast("cpu", torch.bfloat16):
        assert made_by(layer, four).startswith("_ByPosition")
        assert made_by(layer, torch.randn(2, 5, 4, 5)) == "ConvolutionBackward0"
    with torch.no_grad():
        assert layer(tiny).grad_fn is None
    layer.weight.requires_grad_(False)
    assert made_by(layer, tiny) == "ConvolutionBackward0"


@pytest.mark.parametrize("side", [2, 4])
def test_a_frozen_layer_below_needs_no_gradient_of_its_images(side):
    layer, images = Convolution(3, 4), torch.randn(2, 3, side, side)
    layer(images).sum().backward()
    assert images.grad is None
    assert layer.bias.grad.tolist() == [2.0 * side * side] * 4


@pytest.mark.parametrize("side", [2, 6])
def test_a_kernel_that_takes_any_precision_has_autocasts_gradient_without_its_cast(monkeypatch, side):
    monkeypatch.setattr(convolution, "largest_side", lambda: 0)  # as on a GPU
    torch.manual_seed(1)
    layer = Convolution(3, 4, bias=False).to(memory_format=torch.channels_last)
    told = []
    for precision in (torch.float32, None):
        layer.zero_grad()
        layer.weight.grad_dtype = precision
        images = torch.linspace(-1, 1, 2 * 3 * side**2).view(2, 3, side, side).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            result = layer(images)
        result.float().square().sum().backward()
        told.append((result.detach(), images.grad, layer.weight.grad))
    (expected, images_expected, expected_gradient), (result, images_gradient, gradient) = told
    assert result.equal(expected)
    assert images_gradient.equal(images_expected)
    assert (expected_gradient.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    assert gradient.float().equal(expected_gradient)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_a_kernel_that_is_computed_from_another_tensor_is_convolved_as_any():
    layer, scale = Convolution(3, 4, bias=False), torch.ones((), requires_grad=True)
    images = torch.ones(2, 3, 40, 40)
    weights = {"weight": layer.weight.detach() * scale}
    with torch.autocast("cpu", torch.bfloat16):
        result = torch.func.functional_call(layer, weights, images)
    result.float().sum().backward()
    assert scale.grad is not None
