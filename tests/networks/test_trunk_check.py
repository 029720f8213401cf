"""Which trunks are refused for their numbers, and above all which are not."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from raycifar.config.settings import Model
from raycifar.networks import trunk_check, weights
from raycifar.networks.vgg import IMAGENET_MEAN, IMAGENET_STD
from raycifar.storage.asset_cache import AssetError
from tests.support.asset_files import small_trunk, vgg16_toy, vgg16_zeros
from tests.support.networks import build_vgg16
from tests.support.paths import SAMPLE

MEAN, STD = (np.array(values, np.float32).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


def folded(scale, shift):
    """The first layer for pixels p of which this product's are scale * p + shift, each (3, 1, 1)."""
    return lambda kernels, biases: (kernels * scale, biases + (kernels * shift).sum((1, 2, 3)))


def in_order_bgr(change):
    def changed(kernels, biases):
        kernels, biases = change(kernels, biases)
        return kernels[:, ::-1], biases

    return changed


ITSELF = folded(np.float32(1), np.float32(0))
OTHER_PIXELS = {
    "0..255": (folded(1 / 255 / STD, -MEAN / STD), "made for pixels 0..255 in the order RGB"),
    "0..255 less their mean": (folded(1 / 255 / STD, 0 * STD), "made for pixels 0..255 in the order RGB"),
    "0..255, BGR": (in_order_bgr(folded(1 / 255 / STD, -MEAN / STD)), "made for pixels 0..255 in the order BGR"),
    "BGR": (in_order_bgr(ITSELF), "made for pixels in the order BGR"),
    "0..1": (folded(1 / STD, -MEAN / STD), "made for pixels 0..1 or -1..1, not normalised, in the order RGB"),
    "-1..1": (folded(0.5 / STD, (0.5 - MEAN) / STD), "made for pixels 0..1 or -1..1, not normalised"),
}
RIGHT_PIXELS = {
    "as they are": ITSELF,
    "noise of two fifths": lambda kernels, biases: (kernels + np.resize([0.1, -0.1], kernels.shape), biases),
    "made smaller by weight decay": lambda kernels, biases: (kernels * 0.4, biases),
    "three times as large, as the next layer undoes": lambda kernels, biases: (kernels * 3, biases * 3),
    "reordered": lambda kernels, biases: (kernels[::-1], biases[::-1]),
}


@pytest.fixture(scope="module")
def like_torchvisions():
    """A trunk with torchvision's first four kernels, the others drawn."""
    kernels = np.random.default_rng(0).normal(0, 0.25, (64, 3, 3, 3)).astype(np.float32)
    kernels[:4] = trunk_check.TORCHVISION
    biases = np.full(64, 0.5, np.float32)
    biases[:4] = trunk_check.TORCHVISION_BIASES
    return vgg16_toy(**{"features.0.weight": kernels, "features.0.bias": biases})


@pytest.fixture(scope="module")
def torchvisions():
    return load_file(weights.fetch_vgg16())


def with_first(trunk, change):
    kernels, biases = change(trunk["features.0.weight"], trunk["features.0.bias"])
    return trunk | {"features.0.weight": kernels.astype(np.float32), "features.0.bias": biases.astype(np.float32)}


@pytest.mark.parametrize(("change", "line"), OTHER_PIXELS.values(), ids=OTHER_PIXELS)
@pytest.mark.parametrize("trunk", ["like_torchvisions", pytest.param("torchvisions", marks=pytest.mark.assets)])
def test_torchvisions_weights_for_other_pixels_are_refused(request, trunk, change, line):
    with pytest.raises(ValueError, match=rf"{line}.*expected RGB, 0\.\.1, normalised.*--weights-as-they-are"):
        trunk_check.check_trunk(with_first(request.getfixturevalue(trunk), change))


@pytest.mark.parametrize("change", RIGHT_PIXELS.values(), ids=RIGHT_PIXELS)
@pytest.mark.parametrize("trunk", ["like_torchvisions", pytest.param("torchvisions", marks=pytest.mark.assets)])
def test_torchvisions_weights_changed_otherwise_are_taken(request, trunk, change):
    trunk_check.check_trunk(with_first(request.getfixturevalue(trunk), change))


def caffes(order=slice(None), scale=1.0):
    kernels = np.random.default_rng(1).normal(0, 0.25, (64, 3, 3, 3)).astype(np.float32)
    kernels[:3] = np.where(np.isnan(trunk_check.CAFFE), kernels[:3], trunk_check.CAFFE)
    biases = np.full(64, 0.5, np.float32)
    biases[:10] = trunk_check.CAFFE_BIASES
    return vgg16_toy(**{"features.0.weight": np.float32(scale) * kernels[:, order], "features.0.bias": biases})


@pytest.mark.parametrize(
    ("order", "scale", "line"),
    [
        (slice(None, None, -1), 1.0, r"Caffe or Keras weights of VGG16, for pixels 0\.\.255 in the order BGR"),
        (slice(None), 1.0, r"Caffe or Keras weights of VGG16, for pixels 0\.\.255 in the order RGB"),
        (slice(None), 57.6, None),  # folded for normalised pixels: right
    ],
)
def test_the_paper_authors_weights_are_known_by_their_first_kernels(order, scale, line):
    if line is None:
        return trunk_check.check_trunk(caffes(order, scale))
    with pytest.raises(ValueError, match=line):
        trunk_check.check_trunk(caffes(order, scale))


def drawn(kernels, biases=None):
    """A trunk of which each layer's kernels and biases are drawn by functions of generator, shape and fan-in."""
    random, trunk = np.random.default_rng(2), vgg16_zeros()
    for name, zeros in trunk.items():
        fan_in = trunk[name.replace("bias", "weight")][0].size
        draw = kernels if name.endswith("weight") else biases
        trunk[name] = draw(random, zeros.shape, fan_in).astype(np.float32) if draw else zeros
    return trunk


def normal(random, shape, fan_in):
    return random.standard_normal(shape, np.float32) * (2 / fan_in) ** 0.5


def uniform(random, shape, fan_in):
    return (random.random(shape, np.float32) * 2 - 1) * fan_in**-0.5


def small(random, shape, fan_in):
    return random.standard_normal(shape, np.float32) * 0.004


@pytest.mark.parametrize(
    ("trunk", "line"),
    [
        ((normal, None), "kernels and biases are those of a random initialisation: the trunk was never trained"),
        ((uniform, None), "a random initialisation"),
        ((uniform, uniform), "a random initialisation"),
        ((small, uniform), r"the first kernels have a root mean square of 0\.00\d+, as for pixels 0\.\.255"),
        ((normal, uniform), None),
    ],
)
def test_a_trunk_that_was_never_trained_or_has_tiny_kernels_is_refused(trunk, line):
    if line is None:
        return trunk_check.check_trunk(drawn(*trunk))
    with pytest.raises(ValueError, match=line):
        trunk_check.check_trunk(drawn(*trunk))


@pytest.mark.parametrize(
    "start", ["random", pytest.param("imagenet", marks=pytest.mark.assets)], ids=["from scratch", "fine-tuned"]
)
def test_a_trunk_is_taken_after_a_single_step_of_training(start):
    model = build_vgg16(Model(weights=start, batch_norm=False), 1, weights.fetch_vgg16() if start != "random" else None)
    split = load_tensors(SAMPLE)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.nn.functional.cross_entropy(model(split["train_images"][:4]), split["train_labels"][:4]).backward()
    if start == "random":
        with pytest.raises(ValueError, match="never trained"):
            trunk_check.check_trunk(trunk_of(model))
    optimizer.step()
    trunk_check.check_trunk(trunk_of(model))


def trunk_of(model):
    return {f"features.{name}": value.detach().numpy().copy() for name, value in model.features.named_parameters()}


def test_refused_weights_are_taken_where_the_user_insists_and_refused_again_where_not(cache, tmp_path):
    torch.save(small_trunk(value=0.0), tmp_path / "mine.pth")
    for _ in range(2):  # the second time the cache has them
        with pytest.raises(AssetError, match=r"--weights .*mine\.pth: .*never trained.*as-they-are; by hand"):
            weights.fetch_vgg16(tmp_path / "mine.pth")
        path = weights.fetch_vgg16(tmp_path / "mine.pth", as_they_are=True)
        assert not load_file(path)["features.0.weight"].any()
