import pytest
import torch
import torchvision
from safetensors.torch import save_file

from raycifar.config.settings import Model
from raycifar.networks.network import normalised
from raycifar.networks.vgg import calibrate_batch_norm
from raycifar.networks.weights import fetch_vgg16
from tests.support.networks import build_vgg16


@pytest.fixture(scope="module")
def torchvision_trunk(tmp_path_factory):
    """torchvision's VGG16, freshly initialised, and its convolutions in the cache's format."""
    torch.manual_seed(0)
    reference = torchvision.models.vgg.VGG(torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])).eval()
    path = tmp_path_factory.mktemp("weights") / "trunk.safetensors"
    save_file({f"features.{name}": value for name, value in reference.features.state_dict().items()}, path)
    return reference, path


def test_features_equal_torchvisions_for_the_same_weights(torchvision_trunk, train_images):
    reference, path = torchvision_trunk
    model = build_vgg16(Model(weights="imagenet"), 1, path).eval()
    images = train_images.images[:4]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = reference.features((images / 255 - mean) / std).flatten(1)
    taken = []
    model.head.register_forward_hook(lambda _, inputs, __: taken.append(inputs[0]))
    model(images)
    assert torch.allclose(taken[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_added_batch_norm_leaves_the_pretrained_networks_function_as_it_was(torchvision_trunk, train_images):
    _, path = torchvision_trunk
    plain = build_vgg16(Model(weights="imagenet"), 1, path).eval()
    model = build_vgg16(Model(weights="imagenet", batch_norm=True), 1, path)
    model.head.load_state_dict(plain.head.state_dict())  # which is random
    calibrate_batch_norm(model, train_images.images[:64])
    assert model.training
    with torch.inference_mode():
        others, calibrated = train_images.images[100:108], train_images.images[:64]
        for images, mode, tolerance in ((others, False, 1e-3), (calibrated, True, 1e-3)):
            logits, expected = model.train(mode)(images), plain(images)
            assert torch.allclose(logits, expected, rtol=tolerance, atol=tolerance * expected.std())


def test_upsampling_is_what_enlarged_images_give_averaged_over_places(train_images):
    plain, larger = (build_vgg16(Model(weights="random", upsample=side), 1).eval() for side in (1, 2))
    images = train_images.images[:2]
    with torch.inference_mode():
        pixels = (images / 255 - plain.mean) / plain.std
        enlarged = torch.nn.functional.interpolate(pixels, size=(64, 64), mode="bilinear")
        features = plain.features(enlarged)
        assert features.shape == (2, 512, 2, 2)
        assert torch.allclose(larger(images), plain.head(features.mean((2, 3))), rtol=1e-4, atol=1e-6)


def test_larger_images_are_fewer_at_once():
    assert [build_vgg16(Model(weights="random", upsample=side), 1).images_at_once for side in (1, 2, 7)] == [
        1000,
        250,
        20,
    ]


def test_it_has_the_known_number_of_parameters():
    plain, with_norm = (build_vgg16(Model(weights="random", batch_norm=norm), 1) for norm in (False, True))
    assert sum(p.numel() for p in plain.parameters()) == 14_714_688 + 512 * 10 + 10
    # Two numbers a channel in place of the convolution's bias, which batch norm would take out again.
    assert sum(p.numel() for p in with_norm.parameters()) == 14_714_688 + 4_224 + 512 * 10 + 10


def test_the_stock_head_can_be_had():
    model = build_vgg16(Model(weights="random", hidden=(4096, 4096), dropout=0.5), 1)
    shapes = [tuple(layer.weight.shape) for layer in model.head if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(4096, 512), (4096, 4096), (10, 4096)]
    assert [layer.p for layer in model.head if isinstance(layer, torch.nn.Dropout)] == [0.5, 0.5, 0.5]


def test_the_seed_alone_decides_the_initial_weights():
    one, again, other = (build_vgg16(Model(weights="random"), seed).head[1].weight for seed in (1, 1, 2))
    assert one.equal(again)
    assert not one.equal(other)


def test_building_leaves_the_global_random_numbers_alone():
    before = torch.get_rng_state()
    build_vgg16(Model(weights="random"), 1)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(("train", "trained"), [("all", 13), ("block2", 11), ("block5", 3), ("head", 0)])
def test_only_the_named_layers_train(train, trained):
    model = build_vgg16(Model(weights="random", train=train), 1)
    convolutions = [layer for layer in model.features if isinstance(layer, torch.nn.Conv2d)]
    trains = [layer.weight.requires_grad for layer in convolutions]
    assert trains == [False] * (13 - trained) + [True] * trained
    assert all(parameter.requires_grad for parameter in model.head.parameters())


def test_signal_keeps_its_scale_through_he_initialisation(train_images):
    model = build_vgg16(Model(weights="random"), 1).eval()
    features = model.features((train_images.images[:8] / 255 - 0.5) / 0.25)
    assert 0.01 < features.std() < 10


@pytest.mark.assets
def test_the_real_weights_see_something_in_real_images(train_images):
    """A nearest-class-mean guess from pretrained features is far above chance; from random features it is not."""
    model = build_vgg16(Model(weights="imagenet"), 1, fetch_vgg16()).eval()
    taken = []
    model.head.register_forward_hook(lambda _, inputs, __: taken.append(inputs[0]))
    with torch.inference_mode():
        model(train_images.images)
    features = torch.nn.functional.normalize(taken[0])
    half = torch.arange(len(features)) % 2 == 0
    means = torch.stack([features[half & (train_images.labels == c)].mean(0) for c in range(10)])
    guesses = (features[~half] @ means.T).argmax(1)
    assert (guesses == train_images.labels[~half]).float().mean() > 0.35


def test_a_network_from_scratch_sees_pixels_of_mean_0_and_deviation_1(train_images):
    model = build_vgg16(Model(weights="random"), 1)
    pixels = normalised(train_images.images, model.mean, model.std)
    assert pixels.mean((0, 2, 3)).abs().max() < 0.1
    assert (pixels.std((0, 2, 3)) - 1).abs().max() < 0.1


def test_convolutions_begin_with_he_et_als_deviation_by_fan_out():
    for layer in build_vgg16(Model(weights="random"), 1).features:
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.out_channels)) ** 0.5, rel=0.05)
